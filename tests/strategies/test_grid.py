"""Grid search: each point once and in order, however large the grid."""

from __future__ import annotations

import time

import pytest
from toys import Shifted, ToySpace, conditional_space, failed, mixed_space, plain_space, small_space, trial

from nas import BadInput, Categorical, Integer, Proposal, Real, When, parse_objectives
from nas.rng import stream
from nas.strategies.grid import Grid
from nas.testing import drive

GOAL = parse_objectives("min loss")


def _asked(grid, n, pending=()):
    return [p.candidate for p in grid.ask(n, stream(0), pending)]


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize(
    "space",
    [
        small_space(),
        conditional_space(),
        ToySpace(plain_space(3, 4).decisions, lambda a: sum(a.values()) % 2),
    ],
    ids=["small", "conditional", "restricted"],
)
def test_a_finite_grid_is_the_enumeration(space, batch):
    trials = drive(Grid(space, GOAL, points=100), Shifted(space, 0).evaluate, 10**6, batch=batch)
    assert [t.proposal.candidate for t in trials] == list(space.enumerate())


def test_numbers_are_spread_on_their_scale_with_both_ends():
    space = ToySpace([Real("r", 1e-4, 1.0, log=True), Integer("i", 1, 1000), Integer("j", 0, 2)])
    grid = [a.to_json() for a in _asked(Grid(space, GOAL, points=3), 100)]
    assert len(grid) == 27
    assert sorted({a["r"] for a in grid}) == pytest.approx([1e-4, 1e-2, 1.0])
    assert sorted({a["i"] for a in grid}) == [1, 500, 1000]
    assert sorted({a["j"] for a in grid}) == [0, 1, 2]


def test_rounded_points_do_not_repeat():
    space = ToySpace([Integer("i", 1, 8, log=True)])
    found = [a["i"] for a in _asked(Grid(space, GOAL, points=7), 100)]
    assert found == sorted(set(found))


def test_conditions_on_values_beside_the_grid_are_simply_never_met():
    space = ToySpace([Integer("i", 0, 100), Categorical("c", ("x", "y"), when=When("i", (0, 1)))])
    assert [a.to_json() for a in _asked(Grid(space, GOAL, points=2), 9)] == [
        {"i": 0, "c": "x"},
        {"i": 0, "c": "y"},
        {"i": 100},
    ]


def test_what_is_pending_is_passed_over_and_what_was_lost_is_asked_again():
    space = plain_space(2, 3)
    every, grid = list(space.enumerate()), Grid(space, GOAL)
    pending = [Proposal(every[1], ("loss",))]
    assert _asked(grid, 2, pending) == [every[0], every[2]]
    grid.tell([trial(0, every[0], loss=1.0), trial(2, every[2], loss=1.0)], stream(0))
    assert _asked(grid, 3, pending) == every[3:6]
    assert _asked(grid, 3) == [every[1], *every[3:5]]
    grid.tell([failed(1, every[1])], stream(0))
    assert _asked(grid, 1) == [every[3]]


def test_an_enormous_grid_starts_and_resumes_at_once():
    space = plain_space(60, 5)
    start = time.perf_counter()
    trials = drive(Grid(space, GOAL), lambda p: Shifted(space, 0).evaluate(p), 200, batch=20)
    again = drive(Grid(space, GOAL), Shifted(space, 0).evaluate, 220, batch=20, told=trials)
    assert time.perf_counter() - start < 5.0
    assert len({t.proposal.candidate for t in again}) == 220


def test_real_decisions_are_covered_on_a_mixed_space():
    trials = drive(Grid(mixed_space(), GOAL, points=4), Shifted(mixed_space(), 0).evaluate, 10**6)
    assert len(trials) == len({t.proposal.candidate for t in trials}) == 4 * 4 * (4 + 1)


def test_one_point_is_not_a_grid():
    with pytest.raises(BadInput, match="points must be at least 2, got 1"):
        Grid(small_space(), GOAL, points=1)
