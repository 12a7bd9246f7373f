"""Strategies around strategies and around earlier runs, as a config asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

import nas
from nas import keys
from nas.errors import BadInput
from nas.history import OptunaHistory
from nas.parts import WARM_START, Parts, Search
from nas.run import search


class Letters(nas.Space):
    """Six letters; the best spell eeeeee."""

    def __init__(self, n=6):
        self.decisions = tuple(nas.Categorical(f"l{i}", tuple("abcde")) for i in range(n))

    def build(self, architecture):
        return nn.Identity()


def height(architecture):
    return float(sum("abcde".index(v) for v in architecture.values()))


def wrapped(inner, **settings):
    return Search(
        space="nasbench201",
        objectives="max accuracy, min params",
        strategy={"strategy": inner, **settings},
    )


def searched(out, **settings):
    return search(
        space=Letters(),
        evaluator=height,
        objectives="max score",
        strategy={"name": "evolution", "population": 8},
        out=out,
        **settings,
    )


def proposed(folder):
    history = OptunaHistory(
        folder / "journal.log", Letters(), nas.parse_objectives("max score"), writer="reader"
    )
    return [trial.proposal.candidate.key for trial in history.trials]


def test_a_wrapper_refuses_what_the_inner_strategy_repeats():
    parts = Parts(wrapped({"name": "grid"}, name="distinct", key="functional"))
    rng = nas.stream(0, "test")
    parts.strategy.tell((), rng)
    asked = parts.strategy.ask(20, rng)
    key = keys.create("functional", parts.space)
    found = {key(p.candidate) for p in asked}
    assert 1 < len(found) == len(asked)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"name": "nsga9"}, "strategy.strategy: unknown strategy 'nsga9'; did you mean 'nsga"),
        (
            {"name": "nsga2", "populaton": 3},
            "'populaton'; did you mean 'population'?",
        ),
    ],
)
def test_what_is_wrong_inside_a_wrapper_is_named_by_its_path(inner, message):
    with pytest.raises(BadInput) as error:
        Parts(wrapped(inner, name="halving"))
    assert message in str(error.value)


def test_a_warm_start_begins_where_the_earlier_run_was(tmp_path):
    searched(tmp_path / "first", trials=200)
    cold = searched(tmp_path / "cold", trials=8, seed=1)
    warm = searched(tmp_path / "warm", trials=8, seed=1, warm_start=tmp_path / "first")
    assert len(proposed(tmp_path / "warm")) == 8, "earlier trials are no trials of this run"
    assert warm.best().values["score"] >= 20 > cold.best().values["score"]


def test_a_resumed_warm_start_repeats_though_the_earlier_run_went_on(tmp_path):
    searched(tmp_path / "first", trials=40)
    searched(tmp_path / "straight", trials=30, warm_start=tmp_path / "first")
    searched(tmp_path / "cut", trials=10, warm_start=tmp_path / "first")
    searched(tmp_path / "first", trials=80)
    searched(tmp_path / "cut", trials=30, warm_start=tmp_path / "first")
    assert (tmp_path / "cut" / WARM_START).is_file()
    assert proposed(tmp_path / "cut") == proposed(tmp_path / "straight")


@pytest.mark.parametrize("named", ["folder", "database"])
def test_a_run_in_a_database_warms_like_one_in_a_folder_and_is_needed_once(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    searched(tmp_path / "first", trials=30)
    searched(tmp_path / "kept", trials=30, storage="sqlite:///runs.db")
    begun = {"folder": Path("kept"), "database": {"storage": "sqlite:///runs.db", "run": "kept"}}[named]
    (tmp_path / "kept" / "config.json").write_text(
        json.dumps({"folder": ".", "run": "kept", "config": {"storage": "sqlite:///runs.db"}})
    )
    searched(tmp_path / "straight", trials=20, warm_start=tmp_path / "first")
    searched(tmp_path / "cut", trials=10, warm_start=begun)
    Path("runs.db").unlink()
    searched(tmp_path / "cut", trials=20, warm_start=begun)
    assert proposed(tmp_path / "cut") == proposed(tmp_path / "straight")


@pytest.mark.parametrize(
    ("begun", "message"),
    [
        (
            {"storage": "sqlite:///runs.db", "run": "nope"},
            "warm_start: it must name a run in sqlite:///runs.db",
        ),
        (
            {"storage": "sqlite:///runs.db"},
            "warm_start: it must be the folder of a run, or have storage and run",
        ),
    ],
)
def test_a_database_that_cannot_warm_is_refused(tmp_path, monkeypatch, begun, message):
    monkeypatch.chdir(tmp_path)
    searched(tmp_path / "kept", trials=2, storage="sqlite:///runs.db")
    with pytest.raises(BadInput, match=message):
        searched(tmp_path / "run", trials=3, warm_start=begun)


@pytest.mark.parametrize("prepared", ["nothing", "another space"])
def test_a_run_that_cannot_warm_is_refused(tmp_path, prepared):
    if prepared == "another space":
        search(space=Letters(3), evaluator=height, objectives="max score", trials=3, out=tmp_path / "other")
    with pytest.raises(BadInput, match="warm_start: it must"):
        searched(tmp_path / "run", trials=3, warm_start=tmp_path / "other")
