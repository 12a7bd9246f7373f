"""Objectives: how they are read, signs, bounds and violations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import BadInput, Bound, Objective, parse_objectives
from nas.objective import cautious, goals, minimised, violations

ROWS = [{"acc": 0.9, "ms": 2.0, "params": 50.0}, {"acc": 0.8, "ms": 1.0}, {"acc": float("nan"), "ms": 3.0}]


@pytest.mark.parametrize(
    "given_form",
    [
        "max acc, min ms < 2, params <= 1e6",
        "max acc, min ms<=2.0 , limit params <= 1e6",
        ["max acc", "min ms <= 2", {"metric": "params", "goal": "limit", "bound": 1e6}],
        [{"metric": "acc", "goal": "max"}, Objective("ms", "min", "<= 2"), "params <= 1000000"],
        (Objective("acc", "max"), Objective("ms", "min", 2), Objective("params", "limit", 1_000_000)),
    ],
)
def test_every_form_means_the_same(given_form):
    acc, ms, params = parse_objectives(given_form)
    assert acc == Objective("acc", "max")
    assert ms == Objective("ms", "min", Bound("<=", 2.0))
    assert params == Objective("params", "limit", Bound("<=", 1e6))


def test_one_objective_may_stand_alone():
    assert parse_objectives("min loss") == parse_objectives(Objective("loss", "min"))
    assert parse_objectives({"metric": "loss", "goal": "min"}) == parse_objectives(["min loss"])


@pytest.mark.parametrize(
    ("text", "goal", "bound"),
    [
        (0.9, "max", Bound(">=", 0.9)),
        ("0.9", "max", Bound(">=", 0.9)),
        ("baseline", "max", Bound(">=", 0.0, 1.0)),
        ("baseline - 0.01", "max", Bound(">=", -0.01, 1.0)),
        ("<= baseline * 0.5", "min", Bound("<=", 0.0, 0.5)),
        ("0.5 * baseline + 2", "limit", Bound("<=", 2.0, 0.5)),
        ("2*baseline*0.5", "limit", Bound("<=", 0.0, 1.0)),
        (">= -1e-3", "min", Bound(">=", -0.001)),
        ("< .5", "min", Bound("<=", 0.5)),
    ],
)
def test_bounds_are_read(text, goal, bound):
    assert Objective("m", goal, text).bound == bound


@given(
    st.sampled_from(["<=", ">="]),
    st.floats(-1e6, 1e6).map(lambda v: float(f"{v:g}")),
    st.sampled_from([0.0, 1.0, 0.5, 2.0]),
    st.sampled_from(["min", "max", "limit"]),
)
def test_objectives_come_back_from_what_is_stored(sense, offset, factor, goal):
    objective = Objective("m", goal, Bound(sense, offset, factor))
    data = objective.to_json()
    assert Objective(data["metric"], data["goal"], data["bound"]) == objective


@pytest.mark.parametrize(
    ("given_form", "message"),
    [
        ("maximise acc", "objective must read like 'max accuracy'"),
        ("acc", "acc.bound must be given for goal limit"),
        ("min ms < fast", "ms.bound must be a number or a text like"),
        ("params <= 3", "objectives must hold at least one goal min or max"),
        ("", "objectives must hold at least one goal"),
        ("max acc, min acc", "objectives must name each metric once, got 'acc'"),
        (3, "objectives must be a text or a list, got 3"),
        ([{"goal": "min"}], "0: objective must name its metric"),
        ([{"metric": "a", "goal": "min", "bond": 1}], "0: objective must have the keys .* got 'bond'"),
        ([{"metric": "a", "goal": "best"}], "0: a.goal must be min, max or limit, got 'best'"),
        (["max acc", 7], "1: objective must be a text or a mapping, got 7"),
        ([{"metric": "a", "goal": "min", "bound": float("nan")}], "0: a.bound must be finite"),
        ([{"metric": "a", "goal": "min", "bound": True}], "0: a.bound must be a number"),
    ],
)
def test_wrong_objectives_are_refused_in_words(given_form, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        parse_objectives(given_form)


def test_signs_flip_for_max_and_limits_are_no_dimension():
    objectives = parse_objectives("max acc, min ms, limit params <= 60")
    assert [o.metric for o in goals(objectives)] == ["acc", "ms"]
    np.testing.assert_array_equal(minimised(ROWS, objectives), [[-0.9, 2.0], [-0.8, 1.0], [np.inf, 3.0]])
    assert minimised([], objectives).shape == (0, 2)


def test_values_that_are_not_finite_are_the_worst_of_all():
    for objective in parse_objectives("max a, min b"):
        for value in (float("nan"), float("inf"), float("-inf")):
            assert objective.minimised(value) == float("inf")
            assert objective.better(1e300, value)
            assert not objective.better(value, 1e300)
    up, down = parse_objectives("max a, min b")
    assert up.better(2, 1)
    assert down.better(1, 2)
    assert not up.better(1, 1)


def test_violations_are_relative_to_the_bound_and_add_up():
    objectives = parse_objectives("max acc >= 0.85, min ms <= 2, params <= 100")
    found = violations(
        [{"acc": 0.85, "ms": 2.0, "params": 100}, {"acc": 0.68, "ms": 3.0, "params": 1}], objectives
    )
    np.testing.assert_allclose(found, [0.0, 0.2 + 0.5])
    assert violations(ROWS, objectives)[1] == np.inf
    assert (violations(ROWS, parse_objectives("max acc")) == 0).all()


def test_relative_bounds_refer_to_the_baseline():
    objectives = parse_objectives("max acc >= baseline - 0.05, min ms <= baseline * 0.5")
    found = violations(
        [{"acc": 0.85, "ms": 1.0}, {"acc": 0.8, "ms": 1.5}], objectives, {"acc": 0.9, "ms": 2.0}
    )
    np.testing.assert_allclose(found, [0.0, 0.05 / 0.85 + 0.5], atol=1e-12)
    with pytest.raises(BadInput, match="bound must have a baseline to be relative to"):
        violations(ROWS[:1], objectives)


def test_a_bound_measures_in_the_metrics_unit():
    assert Bound("<=", 2.0).violation(2.5, None) == 0.5
    assert Bound(">=", 2.0).violation(2.5, None) == 0.0
    assert Bound(">=", 2.0).violation(float("nan"), None) == float("inf")
    assert str(Bound("<=", -0.01, 1.0)) == "<= baseline - 0.01"


def test_an_absolute_bound_goes_to_the_far_end_of_an_interval():
    ends = {"latency_ms", "latency_ms_low", "latency_ms_high", "score", "score_low"}
    given = parse_objectives("max accuracy, min latency_ms <= 5, max score >= 2")
    assert [str(o) for o in cautious(given, ends)] == [
        "max accuracy",
        "min latency_ms",
        "limit latency_ms_high <= 5",
        "max score",
        "limit score_low >= 2",
    ]
    assert [str(o) for o in cautious(parse_objectives("max accuracy, latency_ms <= 5"), ends)] == [
        "max accuracy",
        "limit latency_ms_high <= 5",
    ]


def test_some_bounds_stay_on_the_metric_itself():
    ends = {"latency_ms", "latency_ms_high"}
    median = {"metric": "latency_ms", "goal": "min", "bound": 5, "bound_on": "median"}
    relative, own = "min latency_ms <= baseline * 0.5", "min latency_ms <= 5, latency_ms_high <= 9"
    for kept in (parse_objectives(o) for o in ([median], relative, "min latency_ms", own)):
        assert cautious(kept, ends) == kept
    plain = parse_objectives("min latency_ms <= 5")
    assert cautious(plain, {"latency_ms"}) == plain
    assert parse_objectives([median])[0].to_json()["bound_on"] == "median"
    assert parse_objectives([parse_objectives([median])[0].to_json()]) == parse_objectives([median])
    with pytest.raises(BadInput, match=r"latency_ms.bound_on must be interval or median, got 'mean'"):
        parse_objectives([{**median, "bound_on": "mean"}])
