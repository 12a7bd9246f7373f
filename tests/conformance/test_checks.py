"""The checks find what they are there to find: one broken plugin for each."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from toys import conditional_space, plain_space

from nas import (
    Evaluator,
    Failure,
    FunctionEvaluator,
    Graph,
    Measurement,
    Mixture,
    Proposal,
    Space,
    Strategy,
)
from nas.errors import must
from nas.rng import stream
from nas.strategies.random_search import RandomSearch
from nas.testing import check_evaluator, check_space, check_strategy
from nas.testing.strategy_checks import check_beats_random_search


def _complaints(findings):
    return {name.removeprefix("check_"): message for name, message in findings if message is not None}


class Plain(Space):
    """A sound space, to be broken one method at a time."""

    def __init__(self):
        self.decisions = plain_space(3, 3).decisions

    def build(self, architecture):
        return nn.Linear(4, 2)


class PythonRandom(Plain):
    def build(self, architecture):
        random.random()
        return nn.Linear(4, 2)


class NumpyRandom(Plain):
    def build(self, architecture):
        np.random.random()  # noqa: NPY002 - what is to be found
        return nn.Linear(4, 2)


class OwnRandom(Plain):
    count = 0

    def build(self, architecture):
        module = nn.Linear(4, 2)
        OwnRandom.count += 1
        nn.init.constant_(module.weight, OwnRandom.count)
        return module


class NoModule(Plain):
    def build(self, architecture):
        return "module"


class Explodes(Plain):
    def build(self, architecture):
        module = nn.Linear(4, 2)
        nn.init.constant_(module.weight, torch.inf)
        return module


class Cyclic(Plain):
    def graph(self, architecture):
        return Graph([("a", (1,)), ("b", (0,))])


class HalfGraph(Plain):
    def graph(self, architecture):
        return Graph([("a", ())]) if architecture["d0"] else None


class Recipe(Plain):
    def recipe(self, architecture):
        return {"lr": [0.1]}


class Shared:
    """A sound supernet of plain spaces, to be broken one method at a time."""

    mixtures = False
    signature = "shared"

    def __init__(self, space):
        self.space, self.module = space, nn.Linear(4, 2)

    def forward(self, x, candidate):
        if isinstance(candidate, Mixture):
            raise must("candidate", "be an architecture", candidate)
        self.space.architecture(candidate)
        return self.module(x)

    def path(self, architecture):
        return self.module


class Sharing(Plain):
    def supernet(self):
        return Shared(self)


class Lying(Plain):
    def supernet(self):
        class Lies(Shared):
            def forward(self, x, candidate):
                return super().forward(x, candidate) + 1.0

        return Lies(self)


class Renamed(Plain):
    def supernet(self):
        class Renames(Shared):
            def path(self, architecture):
                return nn.Sequential(self.module)

        return Renames(self)


class RunsAnything(Plain):
    def supernet(self):
        class Runs(Shared):
            def forward(self, x, candidate):
                return self.module(x)

        return Runs(self)


@pytest.mark.parametrize(
    ("space", "check"),
    [
        (PythonRandom, "build_keeps_to_torchs_generator"),
        (NumpyRandom, "build_keeps_to_torchs_generator"),
        (OwnRandom, "same_seed_same_weights"),
        (NoModule, "build_runs_forward"),
        (Explodes, "build_runs_forward"),
        (Cyclic, "graph_is_valid"),
        (HalfGraph, "graph_is_valid"),
        (Recipe, "recipe_is_json"),
        (Lying, "supernet_path_is_its_module"),
        (Renamed, "supernet_path_fits_its_build"),
        (RunsAnything, "supernet_refuses_other_candidates"),
    ],
)
def test_broken_spaces_are_found(space, check):
    complaints = _complaints(check_space(space(), torch.ones(2, 4)))
    assert check in complaints
    assert set(complaints) <= {check, "same_seed_same_weights", "build_runs_forward"}


@pytest.mark.parametrize("space", [Plain, Sharing])
def test_a_sound_space_has_no_complaints(space):
    assert _complaints(check_space(space(), torch.ones(2, 4))) == {}


def test_broken_variation_and_counting_are_found(monkeypatch):
    space = conditional_space()
    monkeypatch.setattr("nas.testing.space_checks.mutate", lambda _space, a, _rng: a)
    monkeypatch.setattr("nas.testing.space_checks.crossover", lambda space, _a, _b, rng: space.sample(rng))
    monkeypatch.setattr("nas.testing.space_checks.neighbours", lambda space, _a, rng: [space.sample(rng)])
    space.__dict__["size"] = 7
    found = _complaints(check_space(space))
    assert set(found) == {
        "mutation_changes_one_decision",
        "crossover_takes_from_parents",
        "neighbours_belong",
        "size_is_the_count",
    }
    assert "got 7 for 2635" in found["size_is_the_count"]


class Table(Evaluator):
    """A sound evaluator of two metrics, to be broken one method at a time."""

    metrics = frozenset({"x", "ms"})
    measured = frozenset({"ms"})

    def one(self, proposal, seed):
        values = {"x": float(sum(proposal.candidate.values())), "ms": random.Random().random()}
        return Measurement({m: values[m] for m in proposal.metrics})

    def evaluate(self, proposals, *, seed):
        return [self.one(p, seed) for p in proposals]


class Undeclared(Table):
    functional = frozenset({"accuracy"})


class CheapClock(Table):
    cheap = frozenset({"ms"})


class NotEmpty(Table):
    def evaluate(self, proposals, *, seed):
        return super().evaluate(proposals, seed=seed) or [Failure("error", "nothing asked")]


class More(Table):
    def one(self, proposal, seed):
        return Measurement({"x": 1.0, "ms": 1.0, "secret": 2.0})


class Less(Table):
    def one(self, proposal, seed):
        return Measurement({})


class NotFinite(Table):
    def one(self, proposal, seed):
        return Measurement(dict.fromkeys(proposal.metrics, float("nan")))


class Carries(Table):
    count = 0

    def one(self, proposal, seed):
        self.count += 1
        return Measurement(dict.fromkeys(proposal.metrics, float(self.count)))


class Reorders(Table):
    def evaluate(self, proposals, *, seed):
        return super().evaluate(sorted(proposals, key=lambda p: p.candidate.key), seed=seed)


class Draws(Table):
    def one(self, proposal, seed):
        torch.rand(1)
        return super().one(proposal, seed)


@pytest.mark.parametrize(
    ("evaluator", "checks"),
    [
        (Table, set()),
        (Undeclared, {"declarations"}),
        (CheapClock, {"declarations"}),
        (NotEmpty, {"empty_in_empty_out"}),
        (More, {"only_asked_metrics"}),
        (Less, {"only_asked_metrics"}),
        (NotFinite, {"only_asked_metrics", "independent_of_batching", "independent_of_order"}),
        (Carries, {"independent_of_batching", "independent_of_order"}),
        (Reorders, {"independent_of_batching", "independent_of_order"}),
        (Draws, {"global_generators_untouched"}),
    ],
)
def test_broken_evaluators_are_found(evaluator, checks):
    rng, space = stream(0), plain_space()
    proposals = sorted(
        (Proposal(space.sample(rng), ("x", "ms")) for _ in range(4)), key=lambda p: p.candidate.key
    )
    assert set(_complaints(check_evaluator(evaluator(), proposals[::-1]))) == checks


def test_a_users_function_passes_every_check():
    rng, space = stream(0), plain_space()
    evaluator = FunctionEvaluator(lambda seed, fidelity: seed * fidelity, "x")
    proposals = [Proposal(space.sample(rng), ("x",)) for _ in range(3)]
    assert _complaints(check_evaluator(evaluator, proposals)) == {}


class Sound(Strategy):
    """Random search, to be broken one method at a time."""

    def __init__(self, space, objectives):
        self.space, self.inner, self.told = space, RandomSearch(space, objectives), []

    def ask(self, n, rng, pending=()):
        return self.inner.ask(n, rng, pending)

    def tell(self, trials, rng):
        self.told += trials


class Outside(Sound):
    def ask(self, n, rng, pending=()):
        foreign = plain_space(2, 2).sample(rng)
        return [Proposal(foreign, p.metrics) for p in super().ask(n, rng, pending)]


class Counts(Sound):
    asked = 0

    def ask(self, n, rng, pending=()):
        self.asked += 1
        return super().ask(n, stream(self.asked), pending)


class TooMany(Sound):
    def ask(self, n, rng, pending=()):
        return super().ask(n + 1, rng, pending)


class GlobalRandom(Sound):
    def ask(self, n, rng, pending=()):
        return super().ask(n, stream(random.getrandbits(32)), pending)


class Forgets(Sound):
    """Its proposals depend on how often it was told, which its snapshot leaves out."""

    def ask(self, n, rng, pending=()):
        return super().ask(n, stream(int(rng.random() * 1e9), len(self.told)), pending)

    def snapshot(self):
        return {}

    def restore(self, state):
        pass


class Fragile(Sound):
    def tell(self, trials, rng):
        super().tell(trials, rng)
        for trial in trials:
            for metric in trial.proposal.metrics:
                trial.outcome.values[metric]


class GivesUp(Sound):
    def ask(self, n, rng, pending=()):
        return [] if len(self.told) > 3 else super().ask(n, rng)


class OneAtATime(Sound):
    def ask(self, n, rng, pending=()):
        (only,) = super().ask(n, rng) if not pending else [None]
        return [only]


class OnlySearchTrials(Sound):
    def tell(self, trials, rng):
        super().tell(trials, rng)
        if any(trial.role != "search" for trial in trials):
            raise ValueError("what is this?")


class Narrow(Sound):
    def ask(self, n, rng, pending=()):
        first = [leaf.values[0] if leaf.size < 1e6 else leaf.low for leaf in self.space.leaves]
        names = [leaf.name for leaf in self.space.leaves]
        only = self.space.architecture(dict(zip(names, first, strict=True)))
        return [Proposal(only, p.metrics) for p in super().ask(n, rng, pending)]


@pytest.mark.parametrize(
    ("strategy", "check"),
    [
        (Outside, "proposals_lie_in_the_space"),
        (Counts, "asking_changes_nothing"),
        (TooMany, "never_more_than_asked"),
        (GlobalRandom, "same_seed_same_run"),
        (Forgets, "resume_equals_straight_run"),
        (Fragile, "survives_failures"),
        (GivesUp, "survives_failures"),
        (OneAtATime, "works_with_pending"),
        (OnlySearchTrials, "takes_the_baseline"),
        (Narrow, "exhausts_a_small_space"),
    ],
)
def test_broken_strategies_are_found(strategy, check):
    assert check in _complaints(check_strategy(strategy))


def test_random_search_does_not_beat_itself():
    with pytest.raises(AssertionError, match="must beat random's"):
        check_beats_random_search(RandomSearch)


def test_a_strategy_that_fits_no_toy_problem_is_not_called_sound():
    class NeedsGraph(Sound):
        needs = frozenset({"graph"})

    complaints = _complaints(check_strategy(NeedsGraph))
    assert "must fit one of the toy problems" in complaints["proposals_lie_in_the_space"]


def test_messages_say_what_must_hold():
    complaints = _complaints(check_space(PythonRandom(), torch.ones(2, 4)))
    assert "build must leave Python's global generator alone" in complaints["build_keeps_to_torchs_generator"]
