"""The configs that come with the toolkit say what they are, and run."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path

import pytest

from nas import registry
from nas.config import load, search_of
from nas.parts import Parts
from nas.rng import stream
from nas.run import Run

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("NAS_DATA") or ROOT.parent / "shared" / "data").resolve()
CONFIGS = sorted((ROOT / "search_configs").glob("*.yaml"))
NEEDED = re.compile(r"\$NAS_DATA/(\w+)")


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request, monkeypatch, tmp_path):
    """A config whose data are there, and a working directory from which they are found by NAS_DATA alone."""
    for folder in NEEDED.findall(request.param.read_text(encoding="utf-8")):
        if not (DATA / folder).is_dir():
            pytest.skip(f"{folder} is not in the data folder (NAS_DATA)")
    monkeypatch.setenv("NAS_DATA", str(DATA))
    monkeypatch.chdir(tmp_path)
    return request.param


def tiny(config):
    """Overrides that make a search of two short trainings on few samples, where it trains on a task."""
    loaded = load(config)[0]
    overrides = ["budget={trials: 2}"]
    if takes("evaluator", loaded.evaluators[0], "epochs"):
        overrides.append("evaluators.0.epochs=1")
    if "task" in loaded.model_fields_set and takes("task", loaded.task, "limit"):
        overrides.append("task.limit=64")
    if takes("strategy", loaded.strategy, "pool"):
        overrides += ["strategy.pool=2", "budget={trials: 4}"]  # two trials ask for metrics of the pool
    overrides += [f"stages.{i}.budget={{trials: 8}}" for i in range(len(loaded.stages))]
    if loaded.storage is not None:
        overrides.append("storage=sqlite:///runs.db")
    return overrides


def takes(kind, spec, setting):
    """Whether what a config names has a setting."""
    factory = registry.load(kind, spec if isinstance(spec, str) else spec["name"])
    return setting in inspect.signature(factory).parameters


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_comment_says_what_it_answers_how_long_it_takes_and_what_to_change(path):
    comment = path.read_text(encoding="utf-8").partition("\nseed:")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert "?" in comment.partition(f"nas search search_configs/{path.name}\n")[0]
    assert re.search(r"^# Takes about (a|\d+) (second|minute)s?", comment, re.M)
    assert re.search(r"^# Change: ", comment, re.M)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_loads_without_its_data(path):
    loaded, folder = load(path)
    assert loaded.budget.trials or loaded.budget.wall_seconds
    assert folder == ROOT / "search_configs"


def test_its_parts_fit_together(config):
    parts = Parts(search_of(*load(config)))
    assert {o.metric for o in parts.objectives} <= parts.evaluator.metrics
    parts.strategy.tell((), stream(0, "tell", -1))
    assert parts.strategy.ask(1, stream(0, "ask", 0))


def test_two_trials_run(config, tmp_path):
    run = Run(search_of(*load(config, tiny(config))), tmp_path / "run")
    try:
        run.search()
    finally:
        run.close()
    asked = {o.metric for o in run.parts.objectives}
    searched = [trial for trial in run.history.trials if trial.role == "search"]
    trials = [trial for trial in searched if asked <= set(trial.proposal.metrics)]
    assert len(trials) == 2
    assert all(set(trial.values) == asked for trial in trials)
    assert (tmp_path / "run" / "front.json").is_file()
