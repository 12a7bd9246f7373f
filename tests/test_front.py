"""Fronts against brute force, and what is known of a member when it was measured more than once."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import failed, plain_space, trial

from nas import Fixed, Mixture, parse_objectives
from nas.errors import BadInput
from nas.front import Front, box, hypervolume, nondominated
from nas.proposal import Measurement, Proposal, Trial

SPACE = plain_space()
A, B, C, D = (SPACE.architecture({f"d{i}": v for i in range(6)}) for v in range(4))
BOTH = parse_objectives("max accuracy, min params")
POINTS = arrays(
    np.float64,
    st.tuples(st.integers(0, 25), st.integers(1, 4)),
    elements=st.integers(0, 5).map(float) | st.floats(-1e300, 1e300),
)


def keys(front):
    return [member.candidate for member in front]


@given(POINTS)
def test_nondominated_rows_are_those_that_brute_force_finds(points):
    def beaten(i):
        others = [(j, p) for j, p in enumerate(points) if j != i]
        dominated = any((p <= points[i]).all() and (p < points[i]).any() for _, p in others)
        return dominated or any((p == points[i]).all() and j < i for j, p in others)

    assert nondominated(points) == [i for i in range(len(points)) if not beaten(i)]


@given(POINTS)
def test_the_order_of_points_does_not_change_the_front(points):
    def found(rows):
        return {tuple(rows[i]) for i in nondominated(rows)}

    assert found(points) == found(points[::-1])


def test_hypervolume_of_known_sets():
    assert hypervolume(np.empty((0, 2))) == 0
    assert hypervolume(np.array([[0.25], [0.75]])) == 0.75
    assert hypervolume(np.array([[0.0, 0.0]])) == 1
    assert hypervolume(np.array([[0.0, 0.5], [0.5, 0.0]])) == pytest.approx(0.75)
    assert hypervolume(np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_hypervolume_equals_the_area_under_the_staircase(points):
    area, edge = 0.0, 1.0
    for x, y in sorted(points):
        area += (1 - x) * max(0.0, edge - y)
        edge = min(edge, y)
    assert hypervolume(np.array(points)) == pytest.approx(area, abs=1e-9)


def test_a_fronts_hypervolume_is_of_the_box_of_all_that_was_feasible():
    trials = [
        trial(0, A, accuracy=0.9, params=10.0),
        trial(1, B, accuracy=0.5, params=5.0),
        trial(2, C, accuracy=0.4, params=20.0),
    ]
    low, high = box(np.array([[-0.9, 10.0], [-0.5, 5.0], [-0.4, 20.0]]))
    np.testing.assert_allclose([low, high], [[-0.9, 5.0], [-0.35, 21.5]])
    first, second = ((np.array(p) - low) / (high - low) for p in ([-0.9, 10.0], [-0.5, 5.0]))
    expected = (1 - first[0]) * (1 - first[1]) + (1 - second[0]) * (first[1] - second[1])
    assert Front(trials, BOTH).hypervolume() == pytest.approx(expected)


def test_members_come_best_first_and_equal_ones_once():
    trials = [
        trial(0, A, accuracy=0.5, params=1.0),
        trial(1, B, accuracy=0.9, params=9.0),
        trial(2, C, accuracy=0.5, params=1.0),
        trial(3, D, accuracy=0.4, params=2.0),
    ]
    front = Front(trials, BOTH)
    assert keys(front) == [B, A]
    assert front.best().candidate == front.best("accuracy").candidate == B
    assert front.best("params").candidate == A
    assert front[0].trial == 1
    assert isinstance(front[:1], tuple)


def test_the_knee_is_nearest_to_the_ideal_point():
    values = [(1.0, 100.0), (0.9, 20.0), (0.5, 10.0)]
    trials = [
        trial(i, a, accuracy=x, params=y) for i, (a, (x, y)) in enumerate(zip((A, B, C), values, strict=True))
    ]
    assert Front(trials, BOTH).knee().candidate == B
    assert Front(trials[:1], BOTH).knee().candidate == A  # a span of zero divides nothing


def test_an_empty_front_says_so():
    for trials in ([], [failed(0, A)], [trial(0, A, accuracy=math.nan, params=1.0)]):
        front = Front(trials, BOTH)
        assert not front
        assert front.hypervolume() == 0
        assert front.to_json()["members"] == []
        with pytest.raises(BadInput, match="no feasible architecture"):
            front.best()
        with pytest.raises(BadInput, match="the front must have a member"):
            front.knee()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_enters_no_front(value):
    trials = [trial(0, A, accuracy=value, params=0.0), trial(1, B, accuracy=0.1, params=5.0)]
    assert keys(Front(trials, BOTH)) == [B]


def test_missing_metrics_low_fidelity_and_mixtures_enter_no_front():
    low = Trial(
        1, Proposal(B, ("accuracy", "params"), fidelity=0.5), Measurement({"accuracy": 1.0, "params": 0.0})
    )
    mixture = trial(2, Mixture({"d0": [1.0, 0, 0, 0, 0]}), accuracy=1.0, params=0.0)
    trials = [trial(0, A, accuracy=0.1, params=5.0), low, mixture, trial(3, C, accuracy=1.0)]
    assert keys(Front(trials, BOTH)) == [A]


def test_what_was_measured_in_parts_is_put_together():
    trials = [trial(0, A, accuracy=0.5), trial(1, A, params=3.0)]
    (member,) = Front(trials, BOTH)
    assert member.values == {"accuracy": 0.5, "params": 3.0}
    assert member.trial == 0


def test_bounds_decide_on_feasibility():
    trials = [trial(0, A, accuracy=0.9, params=10.0, ms=5.0), trial(1, B, accuracy=0.8, params=5.0, ms=1.0)]
    assert keys(Front(trials, parse_objectives("max accuracy, min params <= 5"))) == [B]
    assert keys(Front(trials, parse_objectives("max accuracy, limit ms <= 2"))) == [B]
    assert keys(Front(trials, parse_objectives("max accuracy >= 0.9"))) == [A]
    assert not Front(trials, parse_objectives("max accuracy >= 0.95"))
    assert not Front(trials, parse_objectives("max accuracy, limit energy <= 2"))


def test_bounds_relative_to_the_baseline():
    fixed = Fixed("somewhere:model")
    trials = [
        trial(0, fixed, role="baseline", accuracy=0.8, params=8.0),
        trial(1, A, accuracy=0.79, params=4.0),
        trial(2, B, accuracy=0.78, params=3.9),
        trial(3, C, accuracy=0.9, params=4.1),
    ]
    objectives = parse_objectives("max accuracy >= baseline - 0.01, min params <= baseline * 0.5")
    front = Front(trials, objectives)
    assert keys(front) == [A]
    assert front.baseline.candidate == fixed
    assert front.baseline.values == {"accuracy": 0.8, "params": 8.0}
    assert not Front(trials[1:], objectives)


def test_a_baseline_of_the_space_can_be_a_member():
    trials = [trial(0, A, role="baseline", accuracy=0.5, params=1.0), trial(1, B, accuracy=0.6, params=2.0)]
    assert keys(Front(trials, BOTH)) == [B, A]


def borrowed(number, candidate, role="search", **values):
    """A trial whose accuracy came from elsewhere."""
    return Trial(
        number,
        Proposal(candidate, tuple(values)),
        Measurement(values, reused="elsewhere", borrowed=frozenset(values)),
        role=role,
    )


def test_own_measurements_replace_borrowed_ones_and_stay():
    first, own, late = (
        borrowed(0, A, accuracy=0.5, params=1.0),
        trial(1, A, accuracy=0.6),
        borrowed(2, A, accuracy=0.7, params=2.0),
    )
    (member,) = Front([first], BOTH)
    assert member.borrowed == {"accuracy", "params"}
    for trials in ([first, own, late], [own, first, late], [first, late, own]):
        (member,) = Front(trials, BOTH)
        assert member.values["accuracy"] == 0.6
        assert member.borrowed == {"params"}
    assert Front([first, late], BOTH)[0].values == {"accuracy": 0.5, "params": 1.0}


def test_later_own_measurements_replace_earlier_ones_and_confirm():
    trials = [
        trial(0, A, accuracy=0.5, params=1.0),
        trial(1, A, role="confirm", metrics=("accuracy",), accuracy=0.4),
    ]
    (member,) = Front(trials, BOTH)
    assert member.values == {"accuracy": 0.4, "params": 1.0}
    assert member.confirmed == {"accuracy"}


def test_replicates_are_averaged_each_by_its_latest():
    def replicate(number, r, accuracy):
        one = trial(number, A, accuracy=accuracy, params=1.0)
        return replace(one, proposal=replace(one.proposal, replicate=r))

    trials = [replicate(0, 0, 0.1), replicate(1, 1, 0.6), replicate(2, 0, 0.5)]
    (member,) = Front(trials, BOTH)
    assert member.values["accuracy"] == pytest.approx(0.55)


def test_the_latest_own_weights_stay_with_a_member():
    def weighing(number, name):
        one = trial(number, A, accuracy=0.5, params=1.0)
        return replace(one, outcome=replace(one.outcome, weights=Path(name)))

    (member,) = Front([weighing(0, "a.pt"), weighing(1, "b.pt"), borrowed(2, A, accuracy=0.5)], BOTH)
    assert member.weights == Path("b.pt")


def test_json_holds_members_and_baseline():
    trials = [
        trial(0, Fixed("m:f"), role="baseline", accuracy=0.2, params=2.0),
        borrowed(1, A, accuracy=0.5, params=1.0),
    ]
    data = json.loads(json.dumps(Front(trials, BOTH).to_json()))
    assert data["baseline"]["architecture"] == {"fixed": "m:f"}
    (member,) = data["members"]
    assert SPACE.architecture(member["architecture"]) == A
    assert member["key"] == A.key
    assert member["borrowed"] == ["accuracy", "params"]
    assert [o["metric"] for o in data["objectives"]] == ["accuracy", "params"]


def test_what_is_asked_wrongly_is_refused():
    front = Front([trial(0, Fixed("m:f"), role="baseline", accuracy=0.2, params=2.0)], BOTH)
    with pytest.raises(BadInput, match="did you mean 'accuracy'"):
        front.best("acuracy")
    with pytest.raises(BadInput, match="be an architecture of the space"):
        _ = front.baseline.architecture
    with pytest.raises(BadInput, match="come from a run with a task"):
        front.export(Path("nowhere"))
