"""``nas compare metrics CONFIG``: rank correlations, their intervals, and what they are shown beside."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kendalltau
from toys import ToySpace

from nas import BadInput, Categorical, FunctionEvaluator
from nas.errors import UnknownMetric
from nas.parts import Search
from nas.report.ranks import rank_study
from nas.report.statistics import kendall
from nas.rng import stream

LINE = ToySpace([Categorical("i", tuple(range(60)))])

CONFIG = """
seed: 0
space: {name: mlp, layers: 2, widths: [4, 8, 16]}
task: {name: digits, limit: 100}
objectives: max accuracy
evaluators:
  - {name: training_free, metrics: [synflow, snip, params, macs]}
  - {name: training, epochs: 1}
budget: {trials: 5}
"""


def answers(architecture):
    i = architecture["i"]
    noise = float(stream(i, "noise").random())
    return {
        "loss": -float(i),
        "good": i + 10 * noise,
        "bad": -float(i),
        "noise": noise,
        "params": i + 60 * noise,
        "patchy": float(i) if i % 2 else float("nan"),
        "constant": 1.0,
    }


def study(pool=60, metrics=(), objectives="min loss", **changes):
    names = tuple(answers({"i": 0}))
    evaluator = FunctionEvaluator(answers, names, functional=("loss",), **changes)
    return rank_study(Search(space=LINE, objectives=objectives, evaluators=[evaluator]), pool, metrics)


def test_correlations_are_with_the_goal_and_have_intervals():
    rows = {row.metric: row for row in study().rows}
    assert rows["bad"].spearman == pytest.approx(-1)
    assert rows["good"].spearman > 0.95 > rows["params"].spearman
    for name in ("good", "noise", "params"):
        assert rows[name].spearman_95[0] < rows[name].spearman < rows[name].spearman_95[1]
        assert rows[name].kendall_95[0] < rows[name].kendall < rows[name].kendall_95[1]
    assert (rows["patchy"].count, rows["patchy"].spearman) == (30, pytest.approx(1))
    assert np.isnan(rows["constant"].kendall)
    assert "loss" not in rows


def test_sizes_come_first_whatever_is_asked_for():
    found = study(metrics=["good"])
    assert [row.metric for row in found.rows] == ["params", "good"]
    assert found.better_than_size() == ["good"]


def test_cheap_metrics_are_looked_up_and_give_the_same():
    assert repr(study(cheap=("good", "params"))) == repr(study())


@pytest.mark.parametrize("pool", [9, 3001])
def test_a_pool_out_of_range_is_refused(pool):
    with pytest.raises(BadInput, match="pool must lie in"):
        study(pool)


def test_an_unknown_metric_is_refused():
    with pytest.raises(UnknownMetric, match="godo"):
        study(metrics=["godo"])


def test_kendall_of_resamples_is_scipys():
    rng = stream(0)
    a, b = rng.integers(6, size=40).astype(float), rng.integers(9, size=40).astype(float)
    drawn = rng.integers(40, size=(20, 40))
    counts = np.stack([np.bincount(rows, minlength=40) for rows in drawn])
    expected = [kendalltau(a[rows], b[rows]).statistic for rows in drawn]
    np.testing.assert_allclose(kendall(a, b, counts), expected, rtol=1e-5)


def test_the_command_prints_a_table_and_json(nas, tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    done = nas("compare", "metrics", "c.yaml", "--pool", "10")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "rank correlation with max accuracy: 10 of 10 architectures measured"
    assert [line.split()[0] for line in lines[1:4]] in (
        ["metric", "params", "macs"],
        ["metric", "macs", "params"],
    )
    done = nas(
        "compare", "metrics", "c.yaml", "--pool", "10", "--metric", "snip", "--set", "seed=1", "--json"
    )
    found = json.loads(done.out)
    assert {row["metric"] for row in found["metrics"]} == {"snip", "params", "macs"}
    assert found["pool"] == 10
