"""``nas compare ranks``: two runs, or a run and a table; and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.stats import kendalltau

OWN = """
import nas

class Line(nas.Space):
    decisions = (nas.Categorical("i", tuple(range(20))),)
    def build(self, architecture):
        raise NotImplementedError

def up(architecture):
    return {"accuracy": architecture["i"] / 20, "loss": 1 - architecture["i"] / 20, "same": 1.0}
up.metrics = ("accuracy", "loss", "same")

def nearly(architecture):
    i = architecture["i"]
    return i ^ 1
nearly.metrics = ("gain",)

def half(architecture):
    return {"accuracy": float("nan") if architecture["i"] % 2 else architecture["i"]}
half.metrics = ("accuracy",)
"""
CONFIG = """
space: {{factory: "./line.py:Line"}}
objectives: {objectives}
evaluators: [{{factory: "./line.py:{function}"}}]
strategy: {strategy}
budget: {{trials: {trials}}}
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with runs ``up``, ``down`` (by its loss), ``nearly``, ``half`` and ``few``."""
    from nas.config import load, resolved, search_of
    from nas.run import Run

    folder = tmp_path_factory.mktemp("ranks")
    (folder / "line.py").write_text(OWN, encoding="utf-8")
    for name, objectives, function, strategy, trials in (
        ("up", "max accuracy, max same", "up", "grid", 20),
        ("down", "min loss", "up", "random", 14),
        ("nearly", "max gain", "nearly", "grid", 20),
        ("half", "max accuracy", "half", "grid", 20),
        ("few", "max accuracy", "up", "grid", 4),
    ):
        given = {"objectives": objectives, "function": function, "strategy": strategy, "trials": trials}
        config = folder / f"{name}.yaml"
        config.write_text(CONFIG.format(**given), encoding="utf-8")
        loaded, base = load(config, [])
        run = Run(search_of(loaded, base), folder / name, config=resolved(loaded, base))
        run.search()
        run.close()
    return folder


@pytest.fixture
def lines(nas, searched, monkeypatch):
    """The command line in that folder."""
    monkeypatch.chdir(searched)
    return nas


def ranks(nas, *words):
    done = nas("compare", "ranks", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_two_runs_are_compared_on_what_both_measured(lines):
    found = ranks(lines, "up", "nearly")
    assert (found["metric"], found["against"]) == ("accuracy", "gain")
    i = np.arange(20)
    assert found["kendall"] == pytest.approx(kendalltau(i, i ^ 1).statistic, abs=1e-6)
    assert [(top["k"], top["overlap"]) for top in found["top"]] == [(5, 4), (10, 10), (2, 2)]
    found = ranks(lines, "up", "half")
    assert (found["count"], found["measured"], found["measured_by_other"]) == (10, 20, 10)


def test_what_is_minimised_is_better_where_it_is_smaller(lines):
    found = ranks(lines, "up", "down", "--metric", "accuracy", "--metric", "loss")
    assert found["kendall"] == pytest.approx(1)
    assert 5 <= found["count"] <= 14
    assert ranks(lines, "up", "down")["against"] == "loss"


def test_it_prints_a_table(lines):
    done = lines("compare", "ranks", "up", "nearly")
    text = [line.split() for line in done.out.splitlines()]
    assert done.out.startswith("accuracy of up and gain of nearly: 20 architectures\n")
    assert [" ".join(words[:-5]) for words in text[2:]] == ["Kendall", "Spearman"] + [
        f"of the best {k}" for k in (5, 10, 2)
    ]
    assert text[4][-1] == "0.250"


def test_a_run_is_compared_with_a_table(nas):
    nas.write(
        "table.yaml",
        "space: {name: table}\nobjectives: max test_accuracy\n"
        "evaluators: [{name: tabular, table: synthetic, noise: 0.01}]\n"
        "strategy: random\nbudget: {trials: 30}\n",
    )
    done = nas("search", "table.yaml", "--out", "noisy")
    assert done.code == 0, done.err
    found = ranks(nas, "noisy", "--table", "synthetic")
    assert found["against"] == "test_accuracy"
    assert 0 < found["kendall"] < 1
    assert found["count"] > 10
    done = nas(
        "compare", "ranks", "noisy", "--table", "synthetic", "--metric", "test_accuracy", "--metric", "x"
    )
    assert done.code == 2
    assert "unknown metric 'x'" in done.err
    done = nas("compare", "ranks", "noisy", "--table", "nasbench2O1")
    assert done.code == 2
    assert "table must be a file made by 'nas data import'" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ranks", "up"), "what is compared must be two runs, or a run and --table, got ['up']"),
        (("ranks", "up", "down", "--table", "synthetic"), "must be two runs, or a run and --table"),
        (("ranks", "up", "few"), "measured by both must be at least 5, got '4 of 20 and 4'; measure more"),
        (
            ("ranks", "up", "nearly", "--metric", "acuracy"),
            "unknown metric 'acuracy'; did you mean 'accuracy'",
        ),
        (("ranks", "up", "up", "--metric", "same"), "same of the run must differ between architectures"),
        (("ranks", "up", "up", *("--metric", "loss") * 3), "--metric must name at most two"),
        (("up", "--table", "synthetic"), "--table must go with 'ranks' and a run"),
    ],
)
def test_what_cannot_be_compared_is_refused(lines, words, message):
    done = lines("compare", *words)
    assert done.code == 2
    assert message in done.err


def test_a_run_of_that_name_is_a_run(lines, searched):
    shutil.copytree(searched / "few", searched / "ranks")
    done = lines("compare", "ranks", "half", "--json")
    shutil.rmtree(searched / "ranks")
    assert done.code == 0, done.err
    assert [row["run"] for row in json.loads(done.out)["runs"]] == ["ranks", "half"]
