"""Halving and Hyperband: rungs, promotions, what is learnt, and resuming."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Shifted, ToySpace, plain_space

from nas import BadInput, Budget, Categorical, Evaluator, Scripted, Strategy, Study, parse_objectives
from nas.front import Front
from nas.proposal import Failure, Measurement, Proposal, Trial
from nas.rng import stream
from nas.strategies.aging_evolution import AgingEvolution
from nas.strategies.grid import Grid
from nas.strategies.halving import Halving
from nas.strategies.hyperband import hyperband
from nas.strategies.random_search import RandomSearch
from nas.strategies.ranking import Record
from nas.strategies.rungs import best, fidelities
from nas.testing import drive
from nas.testing.drive import proceed

ONE, TWO = parse_objectives("min loss"), parse_objectives("min loss, min cost")
LINE = ToySpace([Categorical("i", tuple(range(1000)))])


def at(i):
    return LINE.architecture({"i": i})


def line(proposal):
    """The loss is the position, whatever the fidelity."""
    return Measurement({"loss": float(proposal.candidate["i"])})


def told(strategy, rows):
    """Tell a fresh strategy trials (position, fidelity, continues, loss); None fails."""
    strategy.tell((), stream(0))
    for number, (i, fidelity, continues, loss) in enumerate(rows):
        p = Proposal(at(i), ("loss",), fidelity, continues=continues)
        outcome = Failure("error", "planned") if loss is None else Measurement({"loss": loss})
        strategy.tell([Trial(number, p, outcome, batch=number)], stream(number))
    return strategy


def climbing(proposals):
    return [
        (p.candidate["i"], round(p.fidelity, 6), p.continues) for p in proposals if p.continues is not None
    ]


LOW = 1 / 9
SIX = [(i, LOW, None, float(loss)) for i, loss in enumerate([5, 3, 4, 1, 2, 6])]


def test_rungs_are_powers_of_eta_up_to_one():
    assert fidelities(3, 1 / 27) == (3.0**-3, 3.0**-2, 3.0**-1, 1.0)
    assert fidelities(2, 0.2) == (0.25, 0.5, 1.0)
    assert fidelities(4, 1.0) == (1.0,)
    for k in range(1, 30):
        assert fidelities(3, 3.0**-k)[0] == 3.0**-k


def test_the_best_third_of_a_rung_climbs_and_continues_its_trial():
    strategy = told(Halving(LINE, ONE, min_fidelity=LOW), SIX)
    asked = strategy.ask(5, stream(1))
    assert climbing(asked) == [(3, 0.333333, 3), (4, 0.333333, 4)]
    assert [p.fidelity for p in asked[2:]] == [LOW] * 3


def test_fewer_than_eta_trials_promote_nobody():
    assert climbing(told(Halving(LINE, ONE, min_fidelity=LOW), SIX[:2]).ask(4, stream(1))) == []
    assert climbing(told(Halving(LINE, ONE, min_fidelity=LOW), SIX[:3]).ask(4, stream(1))) == [
        (1, 0.333333, 1)
    ]


def test_pending_and_told_promotions_are_not_repeated():
    strategy = told(Halving(LINE, ONE, min_fidelity=LOW), SIX)
    first = strategy.ask(1, stream(1))
    assert climbing(strategy.ask(2, stream(1), first)) == [(4, 0.333333, 4)]
    again = told(Halving(LINE, ONE, min_fidelity=LOW), [*SIX, (3, 1 / 3, 3, 1.0), (4, 1 / 3, 4, None)])
    assert climbing(again.ask(3, stream(1))) == []


def test_higher_rungs_are_served_first():
    upper = [(i, 1 / 3, i, float(i)) for i in (3, 4, 1)]
    more = [(10, LOW, None, 0.0), (11, LOW, None, 0.5), (12, LOW, None, 9.0)]
    strategy = told(Halving(LINE, ONE, min_fidelity=LOW), [*SIX, *upper, *more])
    assert climbing(strategy.ask(3, stream(1))) == [(1, 1.0, 8), (10, 0.333333, 9), (11, 0.333333, 10)]


def test_failures_count_in_their_rung_and_never_climb():
    rows = [(i, LOW, None, None) for i in range(5)] + [(7, LOW, None, 9.0)]
    assert climbing(told(Halving(LINE, ONE, min_fidelity=LOW), rows).ask(4, stream(1))) == [(7, 0.333333, 5)]
    assert climbing(told(Halving(LINE, ONE, min_fidelity=LOW), rows[:5]).ask(4, stream(1))) == []


def test_a_repeated_architecture_counts_once():
    rows = [(0, LOW, None, 1.0)] * 3 + [(1, LOW, None, 2.0)]
    assert climbing(told(Halving(LINE, ONE, min_fidelity=LOW), rows).ask(4, stream(1))) == []


def test_replicates_are_kept_apart_and_carried_on():
    strategy = Halving(LINE, ONE, min_fidelity=1 / 3)
    strategy.tell((), stream(0))
    for n in range(3):
        p = Proposal(at(5), ("loss",), 1 / 3, replicate=n)
        strategy.tell([Trial(n, p, Measurement({"loss": 3.0 - n}))], stream(n))
    (up, *_) = strategy.ask(2, stream(1))
    assert (up.replicate, up.continues, up.fidelity) == (2, 2, 1.0)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.0, 1.0])), max_size=25),
    st.integers(0, 25),
)
def test_the_best_are_dominated_by_nobody_left_behind(rows, n):
    records = [Record(at(i), (float(a), float(b)), v) for i, (a, b, v) in enumerate(rows)]
    chosen = best(records, n)
    assert len(chosen) == len(set(chosen)) == min(n, len(records))
    left = [r for i, r in enumerate(records) if i not in chosen]
    assert not any(r.dominates(records[i]) for i in chosen for r in left)


def test_of_a_front_that_does_not_fit_the_least_crowded_climb():
    points = [(0.0, 10.0), (4.9, 5.1), (5.0, 5.0), (5.1, 4.9), (10.0, 0.0)]
    records = [Record(at(i), p, 0.0) for i, p in enumerate(points)]
    assert sorted(best(records, 2)) == [0, 4]
    assert 2 not in best(records, 4)


def test_bounds_come_before_objectives():
    bounded = parse_objectives("min loss, limit cost <= 1")
    strategy = Halving(LINE, bounded, min_fidelity=1 / 3)
    strategy.tell((), stream(0))
    for n, (loss, cost) in enumerate([(0.0, 5.0), (9.0, 1.0), (8.0, 2.0)]):
        p = Proposal(at(n), ("loss", "cost"), 1 / 3)
        strategy.tell([Trial(n, p, Measurement({"loss": loss, "cost": cost}))], stream(n))
    assert strategy.ask(1, stream(1))[0].continues == 1


class Listener(Strategy):
    """Proposes positions in order, and keeps what it hears."""

    def __init__(self, **changes):
        self.heard, self.pending, self.changes = [], [], changes

    def ask(self, n, rng, pending=()):
        self.pending = list(pending)
        k = len(self.heard) + len(pending)
        return [Proposal(at(k + i), ("loss",), **self.changes) for i in range(n)]

    def tell(self, trials, rng):
        self.heard += trials


def test_the_wrapped_strategy_hears_each_of_its_full_trainings_once():
    listener = Listener()
    trials = drive(Halving(LINE, ONE, listener, min_fidelity=LOW), line, 60, batch=5)
    began = [t for t in trials if t.proposal.continues is None]
    assert [t.proposal for t in listener.heard] == [Proposal(t.proposal.candidate, ("loss",)) for t in began]
    assert [t.values for t in listener.heard] == [t.values for t in began]
    assert {t.proposal.fidelity for t in trials if t.proposal.continues is not None} == {1 / 3, 1.0}


def test_the_wrapped_strategy_sees_its_own_pending_only():
    listener = Listener()
    strategy = told(Halving(LINE, ONE, listener, min_fidelity=LOW), SIX)
    flying = strategy.ask(3, stream(1))
    strategy.ask(2, stream(2), flying)
    assert listener.pending == [Proposal(flying[2].candidate, ("loss",))]


def test_other_proposals_pass_through():
    def script(rng):
        heard = yield [Proposal(at(i), ("proxy",)) for i in range(4)]
        assert [t.proposal.metrics for t in heard] == [("proxy",)] * 4
        yield [Proposal(at(i), ("loss",)) for i in range(9)]

    def evaluate(p):
        return Measurement({m: float(p.candidate["i"]) for m in p.metrics})

    trials = drive(Halving(LINE, ONE, Scripted(script), min_fidelity=1 / 3), evaluate, 100, batch=4)
    assert [t.proposal.fidelity for t in trials[:4]] == [1.0] * 4
    assert [t.proposal.fidelity for t in trials if t.proposal.metrics == ("loss",)].count(1 / 3) == 9
    assert len(trials) == 4 + 9 + 3


def test_a_finished_strategy_still_sends_its_best_to_the_top():
    space = ToySpace([Categorical("i", tuple(range(20)))])
    trials = drive(Halving(space, ONE, Grid(space, ONE), min_fidelity=1 / 27), line, 1000)
    by_rung = {f: [t for t in trials if t.proposal.fidelity == f] for f in fidelities(3, 1 / 27)}
    assert [len(group) for group in by_rung.values()] == [20, 7, 3, 1]
    assert Front(trials, ONE).best().values == {"loss": 0.0}


@pytest.mark.parametrize("make", [Halving, hyperband])
def test_every_proposal_goes_on_from_the_trial_it_names(make):
    trials = drive(make(LINE, TWO), lambda p: Measurement({"loss": 1.0, "cost": 2.0 - p.candidate["i"]}), 300)
    rungs = fidelities(3, 1 / 27)
    for t in trials:
        if t.proposal.continues is not None:
            below = trials[t.proposal.continues].proposal
            assert below.candidate == t.proposal.candidate
            assert rungs.index(below.fidelity) == rungs.index(t.proposal.fidelity) - 1
    seen = [(t.proposal.candidate, t.proposal.continues) for t in trials if t.proposal.continues is not None]
    assert len(seen) == len(set(seen)) > 20


def test_hyperbands_brackets_begin_on_every_rung_and_share_the_budget():
    trials = drive(hyperband(LINE, ONE), line, 600)
    bracket, spent = {}, dict.fromkeys(fidelities(3, 1 / 27), 0.0)
    for t in trials:
        p = t.proposal
        bracket[t.number] = p.fidelity if p.continues is None else bracket[p.continues]
        spent[bracket[t.number]] += p.fidelity - (trials[p.continues].proposal.fidelity if p.continues else 0)
    assert max(spent.values()) - min(spent.values()) < 3.0
    assert min(spent.values()) > 10.0


def test_one_rung_is_the_wrapped_strategy_itself():
    plain = drive(AgingEvolution(LINE, ONE, population=5), line, 40)
    wrapped = drive(Halving(LINE, ONE, AgingEvolution(LINE, ONE, population=5), min_fidelity=1.0), line, 40)
    assert [t.proposal for t in wrapped] == [t.proposal for t in plain]


class Remembering(Strategy):
    """Random search that keeps a snapshot, as strategies do whose telling is dear."""

    def __init__(self, space, objectives):
        self._random = RandomSearch(space, objectives)
        self.told = 0

    def ask(self, n, rng, pending=()):
        return self._random.ask(n, stream(int(rng.integers(2**31)), self.told), pending)

    def tell(self, trials, rng):
        self.told += len(trials)

    def snapshot(self):
        return {"told": self.told}

    def restore(self, state):
        self.told = state["told"]


def test_a_snapshot_holds_rungs_brackets_and_the_baseline():
    objectives = parse_objectives("min near, min cost <= baseline * 1.5")
    space = plain_space()
    problem = Shifted(space, 1)

    def fresh():
        return Halving(space, objectives, Remembering(space, objectives), brackets=3)

    p = Proposal(problem.other, ("near", "cost"))
    told = [Trial(0, p, problem.evaluate(p), role="baseline")]

    def evaluate(q):
        return Failure("error", "planned") if q.candidate["d0"] == 0 else problem.evaluate(q)

    straight = drive(fresh(), evaluate, 200, told=told)
    before = fresh()
    half = drive(before, evaluate, 100, told=told)
    after = fresh()
    after.tell((), stream(0, "tell", -1))
    after.restore(before.snapshot())
    resumed = proceed(after, evaluate, 200, half)
    assert [t.proposal for t in resumed] == [t.proposal for t in straight]


class Curves(Evaluator):
    """Losses that fall towards the position with training; seconds are what was trained."""

    metrics = multi_fidelity = frozenset({"loss"})

    def __init__(self):
        self.trained = {}

    def evaluate(self, proposals, *, seed):
        return [self._one(p) for p in proposals]

    def _one(self, p):
        begun = 0.0 if p.continues is None else self.trained[p.candidate]
        assert p.continues is None or 0.0 < begun < p.fidelity
        self.trained[p.candidate] = p.fidelity
        noise = float(stream(p.candidate["i"]).normal())
        loss = p.candidate["i"] + 30 * noise * (1 - p.fidelity) + 500 * math.exp(-5 * p.fidelity)
        return Measurement({"loss": loss}, p.fidelity - begun)


def test_a_study_finds_more_for_the_same_cost():
    def quality(strategy, seed):
        study = Study(LINE, ONE, Curves(), strategy, seed=seed)
        study.run(Budget(seconds=20.0))
        return study.front().best().values["loss"]

    seeds = range(8)
    halved = np.median([quality(Halving(LINE, ONE), seed) for seed in seeds])
    full = np.median([quality(RandomSearch(LINE, ONE), seed) for seed in seeds])
    assert halved < full / 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"eta": 1.5}, "eta must be at least 2, got 1.5"),
        ({"eta": math.nan}, "eta must be at least 2"),
        ({"min_fidelity": 0.0}, r"min_fidelity must lie in \(0, 1\], got 0"),
        ({"brackets": 5}, r"brackets must lie in \[1, 4\]"),
        ({"strategy": "evolution"}, "strategy must be a nas.Strategy, got 'evolution'"),
    ],
)
def test_bad_settings_are_refused(wrong, words):
    with pytest.raises(BadInput, match=words):
        Halving(LINE, ONE, **wrong)
    if "brackets" not in wrong:
        with pytest.raises(BadInput, match=words):
            hyperband(LINE, ONE, **wrong)


def test_only_full_trainings_of_single_candidates_can_be_halved():
    grouped = Listener()
    grouped.group = 4
    with pytest.raises(BadInput, match="strategy must propose one by one, got 'groups of 4'"):
        Halving(LINE, ONE, grouped)
    with pytest.raises(BadInput, match="must propose full trainings"):
        Halving(LINE, ONE, Listener(fidelity=0.5)).ask(1, stream(0))


def test_what_the_wrapped_strategy_needs_is_needed():
    wrapped = AgingEvolution(LINE, ONE)
    assert Halving(LINE, ONE, wrapped).one_objective
    assert not Halving(LINE, TWO).one_objective
