"""Evaluators: a user's function as one, several as one, seeded modules, and what is known for free."""

from __future__ import annotations

import math

import pytest
import torch
from toys import plain_space

from nas import BadInput, Combined, Evaluator, Failure, FunctionEvaluator, Known, Measurement, Proposal
from nas.errors import UnknownMetric
from nas.evaluator import Recall, seeded_module
from nas.rng import derive, stream

SPACE = plain_space(3, 4)
RNG = stream(0)
A, B, C = (SPACE.sample(RNG) for _ in range(3))


def _ask(*metrics, of=A, **settings):
    return Proposal(of, metrics, **settings)


def _values(evaluator, *proposals, seed=0):
    return [outcome.values for outcome in evaluator.evaluate(proposals, seed=seed)]


def test_a_function_of_one_argument_receives_the_architecture():
    evaluator = FunctionEvaluator(lambda choice: choice["d0"] + 0.5, "score")
    assert evaluator.metrics == {"score"}
    assert _values(evaluator, _ask("score"), _ask("score", of=B)) == [
        {"score": A["d0"] + 0.5},
        {"score": B["d0"] + 0.5},
    ]


def test_a_function_receives_what_it_names():
    seen = {}

    def function(architecture, seed, fidelity, replicate, proposal, optional=3):
        seen.update(architecture=architecture, fidelity=fidelity, replicate=replicate, proposal=proposal)
        return {"x": seed, "y": optional}

    evaluator = FunctionEvaluator(function, ["x", "y"])
    asked = _ask("y", fidelity=0.5, replicate=2)
    assert _values(evaluator, asked) == [{"y": 3.0}]
    assert seen == {"architecture": A, "fidelity": 0.5, "replicate": 2, "proposal": asked}


def test_a_functions_seed_depends_on_run_candidate_and_replicate_only():
    evaluator = FunctionEvaluator(lambda seed: seed, "seed")
    (first,), (again,) = _values(evaluator, _ask("seed")), _values(evaluator, _ask("seed", fidelity=0.5))
    assert first == again
    variants = [(A, 0, 0), (B, 0, 0), (A, 1, 0), (A, 0, 1)]
    seeds = [_values(evaluator, _ask("seed", of=a, replicate=r), seed=s)[0]["seed"] for a, r, s in variants]
    assert len(set(seeds)) == 4
    assert all(0 <= s < 2**31 for s in seeds)


def test_a_function_that_takes_a_model_gets_seeded_weights():
    evaluator = FunctionEvaluator(lambda model: float(model.weight.detach().sum()), "w", space=SPACE)
    before = torch.get_rng_state()
    first, second = (_values(evaluator, _ask("w"), _ask("w", of=B)) for _ in range(2))
    assert first == second
    assert first[0] != first[1]
    assert torch.equal(before, torch.get_rng_state())


def test_seeded_weights_are_those_of_the_seed_and_leave_devices_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    proposal = _ask("w")
    module = seeded_module(SPACE, proposal, 3)
    assert seeded == []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(3, "weights", proposal.candidate.key, 0))
        assert torch.equal(module.weight, SPACE.module(proposal.candidate).weight)
    assert len(seeded) == 1  # so that the first half can fail


def _of_one(choice):
    return 1.0


def _of_model(model):
    return 1.0


def _of_two(a, b):
    return 1.0


def _of_seed_and_two(seed, other, more):
    return 1.0


def _mapping(choice):
    return {"z": 1}


def _run(function, metrics):
    return lambda: _values(FunctionEvaluator(function, metrics), _ask("x"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FunctionEvaluator(_of_one, ()), "metrics must name what the function returns"),
        (lambda: FunctionEvaluator(_of_model, "x"), "space must be given to a function that takes 'model'"),
        (lambda: FunctionEvaluator(_of_two, "x"), "the function must take parameters among .* got 'a'"),
        (lambda: FunctionEvaluator(_of_seed_and_two, "x"), "the function must take .* got 'other'"),
        (_run(_of_one, ["x", "y"]), r"the function must return a mapping with \['x', 'y'\], got 1.0"),
        (_run(_mapping, ["x"]), "the function's result must hold 'x', got"),
        (lambda: Combined([]), "evaluators must hold at least one"),
    ],
)
def test_wrong_functions_are_refused_in_words(make, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        make()


class Logged(Evaluator):
    """Answers a constant for each metric, fails on one candidate, and keeps what it was asked."""

    def __init__(self, metrics, value, broken=None, pure=True):
        self.metrics = self.functional = frozenset(metrics)
        self.cheap = frozenset()
        self.value, self.broken, self.asked = value, broken, []
        type(self).pure = pure

    def evaluate(self, proposals, *, seed):
        self.asked += [(p.candidate, p.metrics) for p in proposals]
        return [
            Failure("error", "broken", 1.0)
            if p.candidate == self.broken
            else Measurement(dict.fromkeys(p.metrics, self.value), 1.0, notes={str(self.value): True})
            for p in proposals
        ]


def test_combined_asks_the_first_owner_and_joins_in_order():
    first, second = Logged(["x", "y"], 1.0), Logged(["y", "z"], 2.0)
    both = Combined([first, second])
    assert both.metrics == both.functional == {"x", "y", "z"}
    outcomes = both.evaluate([_ask("z", "x"), _ask("y", of=B), _ask("z", of=C)], seed=0)
    assert [o.values for o in outcomes] == [{"x": 1.0, "z": 2.0}, {"y": 1.0}, {"z": 2.0}]
    assert outcomes[0].seconds == 2.0
    assert outcomes[0].notes == {"1.0": True, "2.0": True}
    assert first.asked == [(A, ("x",)), (B, ("y",))]
    assert second.asked == [(A, ("z",)), (C, ("z",))]
    assert both.owner("y") is first


def test_combined_does_not_go_on_with_what_failed():
    first, second = Logged(["x"], 1.0, broken=A), Logged(["z"], 2.0)
    outcomes = Combined([first, second]).evaluate([_ask("x", "z"), _ask("x", "z", of=B)], seed=0)
    assert isinstance(outcomes[0], Failure)
    assert outcomes[1].values == {"x": 1.0, "z": 2.0}
    assert second.asked == [(B, ("z",))]
    late = Combined([Logged(["x"], 1.0), Logged(["z"], 2.0, broken=A)]).evaluate([_ask("x", "z")], seed=0)
    assert isinstance(late[0], Failure)
    assert late[0].seconds == 2.0


def test_combined_refuses_unknown_metrics_and_training_in_company():
    with pytest.raises(UnknownMetric, match=r"unknown metric 'accurcy'; did you mean 'accuracy'\?"):
        Combined([Logged(["accuracy"], 1.0)]).owner("accurcy")

    class Trains(Logged):
        pure = False

    with pytest.raises(BadInput, match="evaluators must be pure to be combined"):
        Combined([Logged(["x"], 1.0), Trains(["y"], 1.0, pure=False)])


def test_seeded_modules_depend_on_run_candidate_and_replicate():
    weights = [
        seeded_module(SPACE, _ask("x", of=a, replicate=r, fidelity=f), s).weight.tolist()
        for a, r, f, s in [(A, 0, 1.0, 0), (A, 0, 0.5, 0), (B, 0, 1.0, 0), (A, 1, 1.0, 0), (A, 0, 1.0, 1)]
    ]
    assert weights[0] == weights[1]
    assert all(weights[0] != other for other in weights[2:])


def test_known_metrics_are_answered_freely_and_unmeasurable_ones_with_nan():
    def function(architecture):
        if architecture == B:
            raise ArithmeticError("broken candidate")
        return {"cheap": 1.0, "dear": 2.0}

    known = Known(FunctionEvaluator(function, ["cheap", "dear"], cheap=["cheap"]), seed=0)
    assert known.metrics == {"cheap"}
    first, second = known.values([A, B], ["cheap"])
    assert first == {"cheap": 1.0}
    assert math.isnan(second["cheap"])
    with pytest.raises(UnknownMetric, match="unknown metric 'dear'"):
        known.values([A], ["dear"])


def test_recall_completes_what_was_evaluated():
    nothing = Recall(_ask("x"))
    assert nothing.complete(Measurement({"x": 1.0})) == Measurement({"x": 1.0})
    everything = Recall(None, {"x": 1.0}, key="k")
    assert everything.complete(None) == Measurement({"x": 1.0}, reused="k", borrowed=frozenset("x"))
    some = Recall(_ask("y"), {"x": 1.0}, key="k")
    whole = Measurement({"x": 1.0, "y": 2.0}, 3.0, reused="k", borrowed=frozenset("x"))
    assert some.complete(Measurement({"y": 2.0}, 3.0)) == whole
    assert some.complete(Failure("error", "broken")) == Failure("error", "broken")
