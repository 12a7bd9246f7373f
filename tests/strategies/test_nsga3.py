"""NSGA-III: directions, niches, constraints."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Shifted, plain_space

from nas import Architecture, BadInput, parse_objectives
from nas.front import Front
from nas.rng import stream
from nas.strategies.nsga3 import Niching, _partitions, nsga3
from nas.strategies.ranking import Record
from nas.testing import drive

AXES = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])


def _records(costs, violations=None):
    violations = [0.0] * len(costs) if violations is None else violations
    return [
        Record(Architecture({"n": i}), tuple(map(float, c)), v)
        for i, (c, v) in enumerate(zip(costs, violations, strict=True))
    ]


def _names(records):
    return [record.architecture["n"] for record in records]


def test_a_niche_that_is_empty_is_filled_before_a_crowded_one():
    """Of five on one front, three near the first axis and one near each other: one of each is kept."""
    costs = [(0.0, 10.0), (0.1, 9.9), (0.2, 9.8), (5.0, 5.0), (10.0, 0.0)]
    for seed in range(20):
        kept = Niching(AXES)(_records(costs), 3, stream(seed))
        assert set(_names(kept)) == {0, 3, 4}


def test_earlier_fronts_are_kept_whole_and_count_in_their_niches():
    first = [(0.0, 8.0), (8.0, 0.0)]
    second = [(0.1, 9.0), (0.2, 8.9), (4.6, 4.6), (9.0, 0.1)]
    for seed in range(20):
        kept = _names(Niching(AXES)(_records([*second, *first]), 3, stream(seed)))
        assert set(kept) == {4, 5, 2}


def test_too_few_feasible_ones_are_joined_by_the_least_violating():
    records = _records([(0, 0), (9, 9), (0, 0), (8, 8)], [0.5, 0.0, 0.2, 0.0])
    assert set(_names(Niching(AXES)(records, 3, stream(0)))) == {1, 3, 2}
    assert _names(Niching(AXES)(_records([(1, 1)] * 3, [0.3, 0.1, 0.2]), 2, stream(0))) == [1, 2]


def test_the_number_of_directions_follows_the_population():
    assert [_partitions(2, 50), _partitions(3, 91), _partitions(3, 90), _partitions(5, 3)] == [49, 12, 11, 1]


def test_the_whole_front_of_a_known_problem_is_found():
    space, two = plain_space(6, 3), parse_objectives("min near, min cost")
    for seed in range(3):
        problem = Shifted(space, seed)
        trials = drive(nsga3(space, two, population=20), problem.evaluate, 400, seed=seed, batch=10)
        assert {tuple(point) for point in Front(trials, two).points.tolist()} == problem.front()


@pytest.mark.parametrize(("setting", "value", "least"), [("population", 1, 2), ("partitions", 0, 1)])
def test_wrong_settings_are_refused_in_words(setting, value, least):
    with pytest.raises(BadInput, match=f"^{setting} must be at least {least}, got {value}"):
        nsga3(plain_space(), parse_objectives("min a, min b"), **{setting: value})
