"""The strategy contract's own pieces: scripts with phases, and the wrapper against repeats."""

from __future__ import annotations

import pytest
from toys import ToySpace, plain_space, small_space, trial

from nas import BadInput, Categorical, Distinct, Integer, Proposal, Scripted, Strategy, parse_objectives
from nas.rng import stream
from nas.strategies.grid import Grid
from nas.strategies.random_search import RandomSearch
from nas.strategy import check_pair
from nas.testing import drive
from nas.testing.problems import Shifted

SPACE = plain_space(1, 5)
A = [SPACE.architecture({"d0": i}) for i in range(5)]


def _proposals(*positions, **settings):
    return [Proposal(A[i], ("loss",), **settings) for i in positions]


def _told(proposals):
    return [trial(0, p.candidate, loss=float(p.candidate["d0"])) for p in proposals]


def _script(log):
    def script(rng):
        log.append(("first", rng.random()))
        trials = yield _proposals(0, 1, 2)
        log.append(("second", rng.random(), [t.proposal.candidate["d0"] for t in trials]))
        yield _proposals(3, 3)

    return script


def test_a_script_waits_for_its_phase_and_receives_trials_in_its_order():
    log = []
    strategy = Scripted(_script(log))
    strategy.tell((), stream(0, "tell", -1))
    assert strategy.ask(2, stream(9)) == _proposals(0, 1)
    assert strategy.ask(9, stream(9), pending=_proposals(1)) == _proposals(0, 2)
    strategy.tell(_told(_proposals(2)), stream(0, "tell", 0))
    assert strategy.ask(9, stream(9), pending=_proposals(0, 1)) == []
    strategy.tell(_told(_proposals(1)), stream(0, "tell", 1))
    strategy.tell(_told(_proposals(0)), stream(0, "tell", 2))
    assert log[1][2] == [0, 1, 2]
    assert strategy.ask(9, stream(9)) == _proposals(3, 3)
    assert strategy.ask(9, stream(9), pending=_proposals(3)) == _proposals(3)
    strategy.tell(_told(_proposals(3, 3)), stream(0, "tell", 3))
    assert strategy.ask(9, stream(9)) == []


def test_a_script_passes_over_trials_that_it_does_not_wait_for():
    log = []
    strategy = Scripted(_script(log))
    strategy.tell((), stream(0, "tell", -1))
    strategy.tell(_told(_proposals(4)), stream(0, "tell", 0))
    strategy.tell(_told(_proposals(2, 2, 0)), stream(0, "tell", 1))
    assert len(log) == 1
    strategy.tell(_told(_proposals(1)), stream(0, "tell", 2))
    assert log[1][2] == [0, 1, 2]


def test_a_script_draws_from_the_generator_of_the_present_tell():
    log = []
    strategy = Scripted(_script(log))
    strategy.tell((), stream(0, "tell", -1))
    strategy.tell(_told(_proposals(0, 1, 2)), stream(0, "tell", 0))
    assert log[0][1] == stream(0, "tell", -1).random()
    assert log[1][1] == stream(0, "tell", 0).random()


def test_a_script_that_was_not_told_to_begin_says_so():
    with pytest.raises(BadInput, match=r"must be told \(\) before it is asked"):
        Scripted(_script([])).ask(1, stream(0))


def test_an_empty_script_ends_at_once():
    def nothing(rng):
        return
        yield

    strategy = Scripted(nothing)
    strategy.tell((), stream(0))
    assert strategy.ask(4, stream(0)) == []


def test_distinct_refuses_repeats_and_ends_when_there_are_only_repeats():
    space = small_space()
    objectives = parse_objectives("min loss")
    trials = drive(Distinct(RandomSearch(space, objectives)), Shifted(space, 0).evaluate, 100, batch=3)
    assert len(trials) == len({t.proposal.candidate for t in trials}) == 4


def test_distinct_counts_pending_ones_as_seen_and_tells_replicates_apart():
    class Stubborn(Strategy):
        def ask(self, n, rng, pending=()):
            return (_proposals(0) + _proposals(0, replicate=1) + _proposals(0, fidelity=0.5))[:n]

        def tell(self, trials, rng):
            self.told = len(trials)

    strategy = Distinct(Stubborn(), attempts=3)
    assert len(strategy.ask(3, stream(0))) == 3
    assert strategy.ask(3, stream(0), pending=_proposals(0)) == [
        *_proposals(0, replicate=1),
        *_proposals(0, fidelity=0.5),
    ]
    strategy.tell(_told(_proposals(0)), stream(0))
    assert _proposals(0)[0] not in strategy.ask(3, stream(0))
    with pytest.raises(BadInput, match="attempts must be at least 1, got 0"):
        Distinct(Stubborn(), attempts=0)


def test_distinct_keeps_what_it_saw_in_a_snapshot():
    class Counting(Strategy):
        count = 0

        def ask(self, n, rng, pending=()):
            return _proposals(0, 1)[:n]

        def tell(self, trials, rng):
            self.count += len(trials)

        def snapshot(self):
            return {"count": self.count}

        def restore(self, state):
            self.count = state["count"]

    first, second = Distinct(Counting()), Distinct(inner := Counting())
    first.tell(_told(_proposals(0)), stream(0))
    second.restore(first.snapshot())
    assert inner.count == 1
    assert second.ask(2, stream(0)) == _proposals(1)
    assert Distinct(RandomSearch(SPACE, parse_objectives("min loss"))).snapshot() is None


def test_a_strategy_without_snapshots_refuses_to_restore_one():
    with pytest.raises(BadInput, match=r"RandomSearch\.snapshot must be None without restore"):
        RandomSearch(SPACE, parse_objectives("min loss")).restore({"x": 1})


def test_pairs_that_cannot_work_are_refused_with_the_reason():
    class NeedsGraph(Grid.__base__):
        needs = frozenset({"graph", "finite"})
        one_objective = True
        ask = tell = None

    one, two = parse_objectives("min loss, cost <= 1"), parse_objectives("min loss, max cost")
    space = ToySpace([Integer("a", 0, 1), Categorical("b", ("x",))])
    probe = space.sample(stream(0))
    assert "needs a space with graph; ToySpace" in check_pair(NeedsGraph, "it", space, probe, one)
    NeedsGraph.needs = frozenset({"finite"})
    assert check_pair(NeedsGraph, "it", space, probe, one) is None
    assert "takes one objective" in check_pair(NeedsGraph, "it", space, probe, two)
