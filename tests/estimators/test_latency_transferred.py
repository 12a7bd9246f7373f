"""Latency on a new device from a file of measurements and a table's devices."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nas import Proposal, parse_objectives, stream
from nas.errors import BadInput, UnknownMetric
from nas.estimators.latency_transferred import LatencyTransferred
from nas.proposal import Failure
from nas.registry import create
from nas.table import Table

TABLE = Table.open("synthetic")
SPACE = create("space", {"name": "table", "table": "synthetic"})
TOLD = np.flatnonzero(np.isfinite(TABLE.values("tpu_latency_ms")))
TRUTH = 3.0 * TABLE.values("gpu_latency_ms") ** 1.3
"""A device that is like the table's GPU, but not quite."""
ROWS = TOLD[stream(0).permutation(len(TOLD))[:8]].tolist()


def made(measured=None, **settings):
    measured = [{"row": r, "latency_ms": TRUTH[r]} for r in ROWS] if measured is None else measured
    return LatencyTransferred(SPACE, "synthetic", measured, **settings)


def asked(evaluator, row, metrics=("latency_ms", "latency_ms_low", "latency_ms_high")):
    (outcome,) = evaluator.evaluate([Proposal(SPACE.architecture(TABLE.choices(int(row))), metrics)], seed=0)
    return outcome


def test_eight_networks_tell_all_others():
    evaluator = made()
    rest = [r for r in TOLD if r not in ROWS]
    found = [asked(evaluator, r).values for r in rest]
    off = [abs(v["latency_ms"] / TRUTH[r] - 1) for r, v in zip(rest, found, strict=True)]
    assert np.mean(off) < 0.06
    inside = [
        v["latency_ms_low"] <= TRUTH[r] <= v["latency_ms_high"] for r, v in zip(rest, found, strict=True)
    ]
    assert np.mean(inside) > 0.8


def test_files_say_the_same_as_lists(tmp_path):
    want = asked(made(), TOLD[0]).values
    pairs = [{"architecture": TABLE.choices(r), "latency_ms": TRUTH[r]} for r in ROWS]
    (tmp_path / "nets.json").write_text(json.dumps(pairs))
    names = [c.name for c in TABLE.columns]
    lines = [",".join([*names, "latency_ms"])]
    lines += [
        ",".join([*(str(p["architecture"][n]) for n in names), repr(float(p["latency_ms"]))]) for p in pairs
    ]
    (tmp_path / "nets.csv").write_text("\n".join(lines))
    for name in ("nets.json", "nets.csv"):
        assert asked(made(tmp_path / name), TOLD[0]).values == want


def test_networks_that_a_source_never_ran_fail():
    row = int(np.flatnonzero(np.isnan(TABLE.values("tpu_latency_ms")))[0])
    outcome = asked(made(), row)
    assert isinstance(outcome, Failure)
    assert "source devices" in outcome.reason
    with pytest.raises(BadInput, match="every source has a latency of"):
        made([{"row": row, "latency_ms": 1.0}, {"row": ROWS[0], "latency_ms": 1.0}])


@pytest.mark.parametrize(
    ("measured", "settings", "text"),
    [
        ([{"row": 1, "latency_ms": 1.0}], {}, "at least two networks"),
        ([{"row": 10_000, "latency_ms": 1.0}], {}, "measured network 0 must be in the table"),
        ([{"row": 3}], {}, "measured network 0 must be in the table"),
        ([{"latency_ms": 1.0}], {}, "measured network 0 must be in the table"),
        ([{"row": 0, "latency_ms": 1.0}] * 2, {}, "name each network once"),
        ("nowhere.csv", {}, "be a csv or json file"),
        (None, {"level": 0.0}, "level must lie between 0 and 1"),
        (None, {"sources": ["gpu_latency_ms"]}, "families must be at least two"),
        (None, {"sources": ["gpu_latency_m"]}, "gpu_latency_ms"),
        (None, {"families": {"gpu_latency_ms": "x", "tpu_latency_ms": "x"}}, "families must be at least two"),
    ],
)
def test_what_cannot_be_used_is_refused(measured, settings, text):
    with pytest.raises(BadInput, match=text):
        made(measured, **settings)


def test_only_its_own_metrics_are_answered():
    with pytest.raises(UnknownMetric):
        asked(made(), TOLD[0], ("latency",))


def test_a_bound_is_on_the_far_end_of_the_interval():
    from nas.parts import Parts, Search

    spec = {
        "name": "latency_transferred",
        "table": "synthetic",
        "measured": [{"row": r, "latency_ms": float(TRUTH[r])} for r in ROWS],
    }
    search = Search(
        {"name": "table", "table": "synthetic"},
        "max test_accuracy, min latency_ms <= 8",
        evaluators=[{"name": "tabular", "table": "synthetic"}, spec],
        task="digits",
    )
    parts = Parts(search)
    assert [str(o) for o in parts.objectives] == [
        "max test_accuracy",
        "min latency_ms",
        "limit latency_ms_high <= 8",
    ]
    assert parts.evaluator.predicted == {"latency_ms", "latency_ms_low", "latency_ms_high"}
    drawn = [parts.strategy.ask(1, stream(i))[0].candidate for i in range(10)]
    highs = parts.offers["known"].values(drawn, ["latency_ms_high"])
    assert max(row["latency_ms_high"] for row in highs) <= 8
    search.objectives = [
        *parse_objectives("max test_accuracy"),
        {"metric": "latency_ms", "goal": "min", "bound": 8, "bound_on": "median"},
    ]
    assert [str(o) for o in Parts(search).objectives] == ["max test_accuracy", "min latency_ms <= 8"]
