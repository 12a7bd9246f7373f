"""Bounds on cheap metrics that nothing meets are found before a search."""

from __future__ import annotations

import pytest
from toys import ToySpace

from nas import FunctionEvaluator, Integer, Known, parse_objectives, stream
from nas.attainable import SAMPLES, check_attainable
from nas.errors import Infeasible

SPACE = ToySpace([Integer(f"x{i}", 1, 100) for i in range(6)])
asked: list[int] = []


def known(function=lambda a: {"cost": float(sum(a.values())), "size": float(a["x0"])}):
    def counted(architecture):
        asked.append(1)
        return function(architecture)

    asked.clear()
    return Known(FunctionEvaluator(counted, ("cost", "size"), cheap=("cost", "size")), 0)


def check(text, **settings):
    check_attainable(SPACE, parse_objectives(text), known(**settings), stream(0, "test"))
    return len(asked)


def test_a_bound_below_everything_is_refused_with_the_nearest():
    with pytest.raises(
        Infeasible,
        match=r"objectives: cost must be <= 5, got 6 at the nearest of \S+ architectures, the least that was",
    ):
        check("min loss, limit cost <= 5")  # six ones are the least there is


def test_a_bound_that_random_sampling_would_miss_is_accepted():
    # 256 random sums of six rarely come below 90.
    assert SAMPLES < check("min loss, limit cost <= 60") < 2 * SAMPLES
    assert SAMPLES < check("min loss, limit cost <= 8") < 20 * SAMPLES


def test_an_easy_bound_costs_next_to_nothing():
    assert check("min loss, limit cost <= 500") < 5


def test_several_bounds_must_hold_together():
    assert check("min loss, limit cost <= 90") < 2 * SAMPLES
    assert check("min loss, max size >= 95") < SAMPLES
    with pytest.raises(Infeasible, match=r"(size must be >= 95|cost must be <= 90), got"):
        check("min loss, limit cost <= 90, max size >= 95")


def test_dear_metrics_and_relative_bounds_are_left_alone():
    assert check("min loss <= -1, max cost") == 0
    assert check("min loss, limit cost <= baseline * 0.001") == 0


def test_what_cannot_be_counted_is_left_to_the_evaluations():
    def broken(architecture):
        raise RuntimeError("no such module")

    assert check("min loss, limit cost <= 5", function=broken) == SAMPLES
