"""Stopping by rule: what counts as gained, when a search ends by it, and that a kill does not change that."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_study import LOSS, SPACE, Scored, study
from toys import ToySpace, failed, trial

from nas import BadInput, Budget, Fixed, Integer, parse_objectives
from nas.front import hypervolume
from nas.history import MemoryHistory
from nas.parts import Parts, Search
from nas.proposal import Measurement, Proposal
from nas.stopping import BEYOND, Gains, Stop
from nas.strategies.evolution import evolution
from nas.strategies.random_search import RandomSearch

LINE = ToySpace([Integer("i", 0, 100_000)])
TWO = parse_objectives("min a, max b")


def at(i):
    return LINE.architecture({"i": i})


def rows(values, objectives=TWO):
    """Trials of these values, one a trial; None fails."""
    names = [o.metric for o in objectives]
    return [
        failed(i, at(i), names) if row is None else trial(i, at(i), **dict(zip(names, row, strict=True)))
        for i, row in enumerate(values)
    ]


def told(trials, objectives=TWO, over=10):
    gains = Gains(objectives, over)
    gains.tell(trials)
    return gains


# --- what was gained ------------------------------------------------------------------------------------

POINTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=12, max_size=60)


@settings(max_examples=60, deadline=None)
@given(POINTS, st.integers(2, 10))
def test_the_gain_is_that_of_the_hypervolume_of_all_that_was_told(values, over):
    points = np.array([(a, -b) for a, b in values], dtype=float)
    first = points[:over]
    low, high = first.min(axis=0), first.max(axis=0)
    span = np.where(high > low, high - low, np.where(high != 0, abs(high), 1.0))
    reference = high + BEYOND * span

    def volume(n):
        inside = points[:n][(points[:n] < reference).all(axis=1)]
        return hypervolume((inside - low) / (reference - low)) * float(np.prod(reference - low))

    before, now = volume(len(points) - over), volume(len(points))
    assert told(rows(values), over=over).relative == pytest.approx((now - before) / before, abs=1e-9)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_units_do_not_matter(x, y):
    values = [(20 - i, (i * 7) % 10) for i in range(20)]
    scaled = [(a * x, b * y) for a, b in values]
    assert told(rows(scaled), over=5).relative == pytest.approx(told(rows(values), over=5).relative)


def test_one_objective_gains_what_its_best_value_gained():
    losses = [5.0, 4.0, 4.5, 3.0, 3.5]
    gains = told(rows([(v,) for v in losses], LOSS), LOSS, over=2)
    assert gains.relative == pytest.approx((4.0 - 3.0) / 4.0)
    most = parse_objectives("max loss")
    assert told(rows([(v,) for v in (0.5, 0.8, 0.9)], most), most, over=1).relative == pytest.approx(0.125)
    assert told(rows([(v,) for v in (0.8, 0.8, 0.7)], most), most, over=1).relative == 0.0
    assert told(rows([(v,) for v in (0.0, -1.0)], LOSS), LOSS, over=1).relative == math.inf


def test_nothing_is_said_before_a_window_is_full_counted_from_the_first_that_is_feasible():
    values = [None, None, *[(1.0, float(i)) for i in range(6)]]
    for n in range(1, 8):
        assert told(rows(values[:n]), over=5).relative is None
    assert told(rows(values), over=5).relative > 0


def test_bounds_are_kept():
    bounded = parse_objectives("min a <= 5, max b, limit c <= 1")
    feasible = [(1.0, 1.0, 1.0)] * 4
    for beyond in [(6.0, 9.0, 1.0), (1.0, 9.0, 2.0), (1.0, math.inf, 1.0), (1.0, 9.0, math.nan)]:
        assert told(rows([*feasible, beyond], bounded), bounded, over=2).relative == 0.0
    assert told(rows([*feasible, (1.0, 9.0, 1.0)], bounded), bounded, over=2).relative > 0


def test_relative_bounds_refer_to_the_baseline():
    bounded = parse_objectives("min a <= baseline, max b")
    reference = trial(0, Fixed("reference"), role="baseline", a=3.0, b=0.0)
    later = [replace(t, number=t.number + 1) for t in rows([(3.0, 1.0), (3.0, 1.0), (2.0, 1.0)], bounded)]
    assert told([reference, *later], bounded, over=1).relative > 0
    lower = trial(0, Fixed("reference"), role="baseline", a=2.5, b=0.0)
    assert told([lower, *later], bounded, over=1).relative is None, "only the last is feasible"
    assert told(later, bounded, over=1).relative is None, "without a baseline nothing is"


def test_low_fidelities_add_nothing_and_metrics_of_one_architecture_are_joined():
    trials = rows([(3.0, 1.0)] * 3)
    low = replace(trials[0], number=3, proposal=Proposal(at(7), ("a", "b"), fidelity=0.5))
    low = replace(low, outcome=Measurement({"a": 0.0, "b": 9.0}))
    assert told([*trials, low], over=2).relative == 0.0
    half = [trial(3, at(8), metrics=("a",), a=0.0), trial(4, at(8), metrics=("b",), b=9.0)]
    assert told([*trials, half[0]], over=2).relative == 0.0
    assert told([*trials, *half], over=2).relative > 0


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"hypervolume_gain": 0}, r"stop: hypervolume_gain must be a positive number, got 0"),
        ({"hypervolume_gain": math.nan}, "hypervolume_gain must be a positive number, got nan"),
        ({"hypervolume_gain": 0.1, "over": 0}, r"stop: over must be a whole number of at least 1, got 0"),
        ({"hypervolume_gain": 0.1, "ever": 3}, r"stop: unknown setting of stop 'ever'; did you mean 'over'"),
        ({"over": 3}, "stop: it must set a hypervolume_gain"),
        (3, "stop: it must set a hypervolume_gain"),
    ],
)
def test_settings_out_of_range_are_refused(given_, message):
    with pytest.raises(BadInput, match=message):
        Parts(Search(SPACE, LOSS, evaluators=[Scored()], strategy="random", stop=given_))


# --- when a search ends by it -----------------------------------------------------------------------------

PAIR = parse_objectives("min loss, min cost")


def near(proposal):
    choices = [float(i) for i in proposal.candidate.values()]
    return {"loss": sum((c - 1.0) ** 2 for c in choices), "cost": sum(c**2 for c in choices)}


RULE = Stop(0.02, 24)


def stopping(batch=None, history=None, objectives=PAIR, stop=RULE):
    strategy = evolution(SPACE, objectives, population=8)
    scored = Scored(near, tuple(o.metric for o in objectives))
    return study(strategy, scored, objectives, batch=batch, history=history, stop=stop)


@pytest.mark.parametrize("objectives", [PAIR, LOSS])
@pytest.mark.parametrize("batch", [None, 8])
def test_a_search_ends_when_the_front_hardly_grows_and_not_before(batch, objectives):
    one = stopping(batch, objectives=objectives)
    one.run(Budget(trials=2000))
    n = len(one.history.trials)
    assert 24 < n < 2000
    assert one.ended.startswith("stopped by rule: gained ")
    assert one.ended.endswith("over the last 24 trials, less than 0.02")
    step = batch or 1
    assert n % step == 0
    for told_ in range(step, n, step):
        gain = told(one.history.trials[:told_], objectives, over=24).relative
        assert gain is None or gain >= 0.02
    assert told(one.history.trials, objectives, over=24).relative < 0.02


@pytest.mark.parametrize("batch", [None, 8])
def test_a_search_that_was_cut_ends_at_the_same_trial(batch):
    straight = stopping(batch)
    straight.run(Budget(trials=2000))
    trials = straight.history.trials
    for cut in (5, len(trials) // 2, len(trials) - 1, len(trials)):
        history = MemoryHistory()
        history.append(trials[:cut])
        again = stopping(batch, history)
        again.run(Budget(trials=2000))
        assert [t.proposal for t in again.history.trials] == [t.proposal for t in trials]
        assert again.ended == straight.ended


def test_a_rule_may_be_changed_or_left_out_later():
    one = stopping()
    one.run(Budget(trials=2000))
    n = len(one.history.trials)
    longer = stopping(history=one.history, stop=Stop(0.02, 2 * n))
    longer.run(Budget(trials=n + 10))
    assert len(one.history.trials) == n + 10
    free = stopping(history=one.history, stop=None)
    free.run(Budget(trials=n + 20))
    assert len(one.history.trials) == n + 20
    assert free.ended == "budget reached: trials"


def test_a_rule_says_nothing_of_what_is_not_told():
    one = study(RandomSearch(SPACE, LOSS), Scored(), batch=8, stop=Stop(1e9, 4))
    one.run(Budget(trials=6))
    assert one.ended == "budget reached: trials"
    one.run(Budget(trials=100))
    assert len(one.history.trials) == 8, "the first batch is told, and a gain below the rule ends the search"
