"""Warm start: what an earlier run taught is there at the first ask."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toys import Shifted, ToySpace, failed, plain_space, trial

from nas import Architecture, Fixed, Mixture, parse_objectives
from nas.proposal import Proposal
from nas.registry import create
from nas.rng import stream
from nas.strategies.aging_evolution import AgingEvolution
from nas.strategies.random_search import RandomSearch
from nas.strategies.warm_start import WarmStart
from nas.strategy import Strategy
from nas.testing import check_strategy, drive

ONE = parse_objectives("min loss")
SPACE = plain_space(4, 5)


class Told(Strategy):
    """Remembers what it is told."""

    def __init__(self):
        self.batches = []

    def ask(self, n, rng, pending=()):
        return []

    def tell(self, trials, rng):
        self.batches.append(list(trials))


def _architecture(*values):
    return SPACE.architecture({f"d{i}": v for i, v in enumerate(values)})


def _told(trials, space=SPACE, objectives=ONE):
    inner = Told()
    warm = WarmStart(inner, trials, space, objectives)
    warm.tell((), stream(0))
    return warm, inner.batches


def test_the_population_is_there_at_the_first_ask():
    earlier = drive(RandomSearch(SPACE, ONE), Shifted(SPACE, 0).evaluate, 60)
    best = min(earlier, key=lambda t: t.values["loss"]).proposal.candidate
    warm = WarmStart(AgingEvolution(SPACE, ONE, population=60, tournament=600), earlier, SPACE, ONE)
    warm.tell((), stream(0))
    assert all(sum(best[n] != p.candidate[n] for n in best) == 1 for p in warm.ask(20, stream(1)))


def test_batches_and_order_stay_and_numbers_lie_below_zero():
    x = _architecture(0, 0, 0, 0)
    first = replace(trial(0, x, role="baseline", loss=1.0), batch=0)
    pair = [replace(failed(1 + i, x), batch=1, position=i, size=2) for i in range(2)]
    _, batches = _told([first, *pair])
    assert batches[0] == []
    assert [[(t.number, t.batch, t.position, t.size, t.role) for t in b] for b in batches[1:]] == [
        [(-3, -3, 0, 1, "search")],
        [(-2, -2, 0, 2, "search"), (-1, -2, 1, 2, "search")],
    ]
    assert [t.failed for t in batches[2]] == [True, True]


def test_relative_bounds_refer_to_the_baseline_of_this_run():
    earlier = [trial(0, _architecture(1, 1, 1, 1), role="baseline", loss=9.0)]
    warm, batches = _told(earlier, objectives=parse_objectives("min loss <= baseline"))
    assert batches == [[]]
    own = trial(0, _architecture(0, 0, 0, 0), role="baseline", loss=1.0)
    warm.tell([own], stream(1))
    assert [(t.role, t.number) for b in batches for t in b] == [("baseline", 0), ("search", -1)]


def test_earlier_trials_are_told_once():
    warm, batches = _told([trial(0, _architecture(0, 0, 0, 0), loss=1.0)])
    warm.tell([trial(0, _architecture(1, 1, 1, 1), loss=2.0)], stream(1))
    assert [len(b) for b in batches] == [0, 1, 1]


def test_what_does_not_fit_is_left_out_and_counted_by_reason():
    space = ToySpace(SPACE.decisions, lambda a: a["d0"] != 4)
    x = _architecture(0, 0, 0, 0)
    foreign = Architecture({"d0": 0})
    trials = [
        trial(0, x, loss=1.0, other=2.0),
        trial(1, foreign, loss=1.0),
        trial(2, _architecture(4, 0, 0, 0), loss=1.0),
        trial(3, x, other=1.0),
        replace(trial(4, x, loss=1.0), proposal=Proposal(x, ("loss",), fidelity=0.5)),
        trial(5, Mixture({"d0": [1.0, 0.0]}), loss=1.0),
        trial(6, x, role="confirm", loss=1.0),
        trial(7, Fixed("collections:OrderedDict"), role="baseline", loss=3.0),
        trial(9, x, role="baseline", loss=3.0),
        trial(8, foreign, loss=1.0),
    ]
    warm, batches = _told(trials, space)
    assert [t.proposal for (t,) in batches[1:]] == [Proposal(x, ("loss",))] * 2
    assert warm.fitting == 2
    assert warm.unfit == {
        "lies outside the space": 2,
        "is not feasible": 1,
        "does not measure loss": 1,
        "is of partial fidelity": 1,
        "is no architecture": 2,
        "confirms a measurement": 1,
    }


@pytest.mark.parametrize("name", ["aging_evolution", "nsga3", "local_search"])
def test_a_warm_strategy_passes_every_check(name):
    def make(space, objectives):
        earlier = drive(RandomSearch(space, objectives), Shifted(space, 7).evaluate, 20, seed=9)
        spec = {"space": space, "objectives": objectives}
        return WarmStart(create("strategy", name, spec), earlier, space, objectives)

    assert [finding for finding in check_strategy(make) if finding[1] is not None] == []


def test_a_warm_start_from_a_good_run_is_ahead():
    problem = Shifted(SPACE, 4)
    earlier = drive(AgingEvolution(SPACE, ONE, population=20), problem.evaluate, 100, seed=1)
    cold = drive(AgingEvolution(SPACE, ONE, population=20), problem.evaluate, 20, seed=2)
    warm = WarmStart(AgingEvolution(SPACE, ONE, population=20), earlier, SPACE, ONE)
    ahead = drive(warm, problem.evaluate, 20, seed=2)
    assert sum(t.values["loss"] for t in ahead) < 0.9 * sum(t.values["loss"] for t in cold)
