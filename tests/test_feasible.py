"""Sampling and breeding within bounds that hardly anything meets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ToySpace

from nas import Categorical, FunctionEvaluator, Integer, Known, parse_objectives, stream
from nas.errors import Infeasible
from nas.feasible import Within, baseline_values
from nas.proposal import Measurement
from nas.strategies.aging_evolution import AgingEvolution
from nas.strategies.local_search import LocalSearch
from nas.strategies.nsga2 import nsga2
from nas.strategies.random_search import RandomSearch
from nas.testing.drive import drive
from nas.variation import crossover, mutate, mutate_each, sample_alike

WIDE = ToySpace([Categorical(f"layer.{i}.op", tuple(range(9))) for i in range(12)])
SMALL = ToySpace([Integer(f"x{i}", 0, 4) for i in range(4)])


def within(space, text, **baseline):
    asked = Counter()

    def cost(architecture):
        asked["cost"] += 1
        return {"cost": float(sum(architecture.values())), "first": float(next(iter(architecture.values())))}

    known = Known(FunctionEvaluator(cost, ("cost", "first"), cheap=("cost", "first")), 0)
    return Within(space, parse_objectives(text), known, baseline or None), asked


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 96), st.integers(0, 2**32))
def test_whatever_is_drawn_or_bred_meets_the_bounds(bound, seed):
    space, _ = within(WIDE, f"max accuracy, limit cost <= {bound}")
    rng = stream(seed)
    a, b = space.sample(rng), sample_alike(space, rng)
    bred = [mutate(space, a, rng), mutate_each(space, b, {}, rng), crossover(space, a, b, rng)]
    assert all(sum(x.values()) <= bound for x in (a, b, *bred))


def test_a_share_of_one_in_a_hundred_million_is_reached_at_once():
    space, asked = within(WIDE, "max accuracy, limit cost <= 8")  # 125,970 of 9**12
    found = {space.sample(stream(seed)) for seed in range(20)}
    assert len(found) == 20
    assert asked["cost"] / 20 < 500


def test_several_bounds_hold_together():
    space, _ = within(WIDE, "max accuracy, limit cost <= 20, max first >= 7")
    for seed in range(10):
        architecture = space.sample(stream(seed))
        assert sum(architecture.values()) <= 20
        assert architecture["layer.0.op"] >= 7


def test_what_is_drawn_covers_all_that_is_feasible_about_evenly():
    # 35 of 625 meet the bound, few enough that most draws begin with a walk.
    space, _ = within(SMALL, "max accuracy, limit cost <= 3")
    rng = stream(0)
    drawn = Counter(space.redrawn(rng) for _ in range(3500))
    assert len(drawn) == 35 == sum(1 for _ in space.enumerate())
    apart = sum(abs(n / 3500 - 1 / 35) for n in drawn.values()) / 2
    by_luck = 0.04  # of 3,500 even draws
    assert apart < 3 * by_luck


def test_loose_bounds_leave_plain_draws_as_they_are():
    space, _ = within(SMALL, "max accuracy, limit cost <= 16")
    assert [space.sample(stream(i)) for i in range(20)] == [SMALL.sample(stream(i)) for i in range(20)]


def test_the_same_generator_gives_the_same_architectures():
    first, second = (within(WIDE, "max accuracy, limit cost <= 10")[0] for _ in range(2))
    assert [first.sample(stream(1, i)) for i in range(5)] == [second.sample(stream(1, i)) for i in range(5)]


def test_a_lone_feasible_architecture_is_found_and_breeds_itself():
    space, asked = within(SMALL, "max accuracy, limit cost <= 0")
    a = space.sample(stream(0))
    assert set(a.values()) == {0}
    assert mutate(space, a, stream(1)) == a  # no other one there is
    assert asked["cost"] < 1000


def test_bounds_that_nothing_meets_are_refused_with_the_distance():
    space, _ = within(SMALL, "max accuracy, limit cost <= -4")
    with pytest.raises(
        Infeasible, match=r"must meet cost <= -4, got none in 10 walks \(the nearest misses by 100"
    ):
        space.sample(stream(0))


def test_a_bound_relative_to_the_baseline_counts_where_that_is_known():
    text = "max accuracy, limit cost <= baseline * 0.5"
    assert not within(WIDE, text)[0].bounded
    space, _ = within(WIDE, text, cost=30.0)
    assert all(sum(space.sample(stream(i)).values()) <= 15 for i in range(5))


def test_only_cheap_metrics_of_the_baseline_are_asked_for():
    known = Known(
        FunctionEvaluator(lambda architecture: 2.0 + 0 * len(architecture), "cost", cheap=("cost",)), 0
    )
    base = SMALL.sample(stream(0))
    relative = parse_objectives("max accuracy, limit cost <= baseline * 0.5, limit loss <= baseline")
    assert baseline_values(base, relative, known) == {"cost": 2.0}
    assert baseline_values(None, relative, known) == {}
    assert baseline_values(base, parse_objectives("max accuracy, limit cost <= 1"), known) == {}


def test_what_cannot_be_counted_is_left_to_the_evaluation():
    def broken(architecture):
        raise RuntimeError("no such module")

    known = Known(FunctionEvaluator(broken, "cost", cheap=("cost",)), 0)
    space = Within(SMALL, parse_objectives("max accuracy, limit cost <= 1"), known)
    assert space.feasible(space.sample(stream(0)))


@pytest.mark.parametrize("make", [RandomSearch, AgingEvolution, nsga2, LocalSearch])
def test_strategies_propose_nothing_beyond_the_bounds(make):
    objectives = parse_objectives("max accuracy, min cost <= 12")
    space, _ = within(WIDE, "max accuracy, min cost <= 12")
    if make is AgingEvolution or make is LocalSearch:
        objectives = parse_objectives("max accuracy, limit cost <= 12")
    strategy = make(space, objectives)
    costs = []

    def measure(proposal):
        costs.append(sum(proposal.candidate.values()))
        return Measurement({"accuracy": float(proposal.candidate["layer.3.op"]), "cost": float(costs[-1])})

    drive(strategy, measure, 60)
    assert len(costs) >= 60
    assert max(costs) <= 12
