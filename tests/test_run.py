"""Searches from Python: their folders, their fronts, and what they leave behind."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import pytest
import torch
from commands import OWN
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from toys import plain_space

import nas
from nas.budget import Budget
from nas.errors import BadInput, RunFailed, StorageError
from nas.parts import Search
from nas.run import PRUNE_EVERY, Run, owner_of

DIGITS = {"name": "digits", "limit": 60}
TRAINING = {"name": "training", "epochs": 1}


class Flat(nas.Space):
    """A network for digits whose width is chosen."""

    decisions = (nas.Integer("width", 1, 8), nas.Categorical("bias", (True, False)))

    def build(self, a):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, a["width"], bias=a["bias"]), nn.Linear(a["width"], 10)
        )


def one(architecture):
    return 1.0


def breaks(architecture):
    raise ZeroDivisionError


def search(**settings):
    given = {"space": Flat(), "strategy": "random", "trials": 6, **settings}
    return nas.search(**given)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder that temporary folders are made in."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_function_of_the_architecture_is_enough(temporary):
    front = search(evaluator=lambda architecture: architecture["width"], objectives="max accuracy")
    assert front.best().values == {"accuracy": max(m.values["accuracy"] for m in front.candidates)}
    assert list(temporary.iterdir()) != []
    with pytest.raises(BadInput, match="hold one that keeps weights"):
        front.export(temporary / "out")
    del front
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_function_may_ask_for_model_seed_and_fidelity_and_return_several():
    seen = []

    def train(model, seed, fidelity, architecture):
        seen.append((seed, fidelity))
        assert model[1].out_features == architecture["width"]
        return {"accuracy": float(model[1].weight.detach().mean()), "cost": architecture["width"]}

    train.metrics = ("accuracy", "cost")
    one, two = (search(evaluator=train, objectives="max accuracy, min cost") for _ in range(2))
    assert [m.values for m in one] == [m.values for m in two]
    assert {fidelity for _, fidelity in seen} == {1.0}
    assert len({seed for seed, _ in seen}) > 1
    other = search(evaluator=train, objectives="max accuracy, min cost", seed=1)
    assert [m.values for m in one] != [m.values for m in other]


def test_evaluators_are_combined_with_functions():
    front = search(
        evaluator=[lambda architecture: 1 / architecture["width"], "cost"],
        task=DIGITS,
        objectives="max accuracy, max params",
    )
    width = front[0].architecture["width"]
    assert front[0].values["accuracy"] == 1 / width
    assert front[0].values["params"] in (74 * width + 10, 75 * width + 10)


def test_a_task_of_ones_own_loaders():
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    loaders = [DataLoader(TensorDataset(x[i::2], y[i::2]), batch_size=8, shuffle=i == 0) for i in (0, 1)]
    front = search(
        task=nas.Task.from_loaders(*loaders),
        evaluator={"name": "training", "epochs": 2},
        objectives="max accuracy, min params",
        trials=3,
    )
    assert 0 <= front.best("accuracy").values["accuracy"] <= 1
    assert front.best("params").values["params"] > 0


def test_a_temporary_folder_lives_as_long_as_the_front(temporary):
    front = search(evaluator=TRAINING, task=DIGITS, objectives="max accuracy, min params", trials=3)
    (folder,) = temporary.iterdir()
    written = front.export(temporary / "out", ["json"])
    assert all(path.is_file() for path in written)
    member = front[0]
    exported = json.loads(
        (temporary / "out" / f"trial_{member.trial:04d}" / f"trial_{member.trial:04d}.json").read_text()
    )
    assert exported["architecture"] == member.architecture.to_json()
    assert folder.is_dir()
    del front, member
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("trouble", [{"objectives": "max acuracy"}, {"evaluator": breaks, "trials": 12}])
def test_a_search_that_fails_leaves_no_temporary_folder(temporary, trouble):
    with pytest.raises((BadInput, RunFailed)):
        search(**{"evaluator": TRAINING, "task": DIGITS, **trouble})
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_folder_goes_on_where_it_was(tmp_path):
    calls = []

    def score(architecture):
        calls.append(architecture)
        return architecture["width"] + architecture["bias"] / 2

    whole = search(evaluator=score, trials=8)
    calls.clear()
    search(evaluator=score, trials=3, out=tmp_path / "run")
    front = search(evaluator=score, trials=8, out=str(tmp_path / "run"))
    assert len(calls) <= 8
    assert [m.values for m in front] == [m.values for m in whole]
    assert json.loads((tmp_path / "run" / "front.json").read_text())["spent"]["trials"] == 8
    assert len(search(evaluator=score, trials=5, out=tmp_path / "run").candidates) == len(front.candidates)


def test_the_folder_says_what_the_run_was(tmp_path):
    search(evaluator=TRAINING, task=DIGITS, trials=2, seed=5, out=tmp_path / "run")
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    identity = told["identity"]
    assert identity["seed"] == 5
    assert identity["objectives"] == ["max accuracy"]
    assert identity["evaluators"] == [TRAINING]
    assert len(identity["data"]) == 32
    assert told["versions"]["torch"] == torch.__version__
    assert told["threads"] == 1
    assert told["repeatable"] is True
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {"journal.log", "logs", "weights", "front.json"}
    assert len(list((tmp_path / "run" / "logs").iterdir())) == 2


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"space": plain_space()}, "space"),
        ({"objectives": "min accuracy"}, "objectives"),
        ({"task": {"name": "digits", "limit": 70}}, "data"),
        ({"batch": 2}, "batch"),
        ({"strategy": "grid"}, "strategy"),
        ({"memo": "off"}, "memo"),
        ({"evaluator": {"name": "training", "epochs": 2}}, "evaluators"),
    ],
)
def test_a_folder_of_another_search_is_refused_and_left_free(tmp_path, changed, name):
    given = {"evaluator": TRAINING, "task": DIGITS, "trials": 1, "out": tmp_path / "run"}
    search(**given)
    with pytest.raises(BadInput, match=f"^{name} of the run in .* must stay"):
        search(**{**given, **changed})
    assert search(**{**given, "trials": 2})  # nothing holds the folder


def test_two_runs_never_share_a_folder(tmp_path):
    wanted = Search(Flat(), evaluators=[one], budget=Budget(trials=1))
    first = Run(wanted, tmp_path / "run")
    owner = owner_of(tmp_path / "run")
    assert owner.split()[1] == "on"
    with pytest.raises(StorageError, match=f"is in use by process {owner}; wait for it or stop it"):
        Run(wanted, tmp_path / "run")
    first.close()
    assert owner_of(tmp_path / "run") is None
    Run(wanted, tmp_path / "run").close()
    assert owner_of(tmp_path / "nothing") is None


def test_a_run_description_that_is_no_json_is_a_storage_error(tmp_path):
    given = {"evaluator": one, "trials": 1, "out": tmp_path / "run"}
    search(**given)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(StorageError, match="cannot be used"):
        search(**given)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        search(evaluator=one, out=tmp_path / "file" / "run")


def test_a_failed_start_leaves_nothing_behind(tmp_path):
    for trouble in ({"objectives": "max accuracy, limit params <= 1"}, {"strategy": "evoluton"}):
        with pytest.raises(BadInput):
            search(task=DIGITS, out=tmp_path / "run", **trouble)
    assert not (tmp_path / "run").exists()


def test_only_weights_of_the_front_are_kept(tmp_path):
    front = search(evaluator=TRAINING, task=DIGITS, objectives="max accuracy, min params",
                   trials=PRUNE_EVERY + 2, out=tmp_path / "run")  # fmt: skip
    kept = {path.name for path in (tmp_path / "run" / "weights").iterdir()}
    assert kept == {m.weights.name for m in front}
    assert len(front.candidates) > len(front)


def test_weights_that_are_missing_are_trained_again_before_the_front_is_given(tmp_path):
    given = {"evaluator": TRAINING, "task": DIGITS, "objectives": "max accuracy, min params", "trials": 4}
    front = search(**given, out=tmp_path / "run")
    states = {m.weights.name: torch.load(tmp_path / "run" / "weights" / m.weights.name) for m in front}
    for name in states:
        (tmp_path / "run" / "weights" / name).unlink()
    search(**given, out=tmp_path / "run")
    for name, state in states.items():
        again = torch.load(tmp_path / "run" / "weights" / name)
        assert all(torch.equal(state[k], again[k]) for k in state)


def test_budgets_can_be_given_in_several_ways():
    def score(architecture):
        return architecture["width"]

    for given in (
        {"trials": 2},
        {"budget": {"trials": 2}, "trials": None},
        {"budget": Budget(evaluations=2), "trials": 5},
    ):
        assert 1 <= len(search(evaluator=score, memo="off", **given).candidates) <= 2
    with pytest.raises(BadInput, match=r"budget\.trials must be a positive number, got 0"):
        search(evaluator=score, trials=0)


def test_a_run_from_a_file_remembers_its_sources(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    space, evaluator = ({"factory": f"./own.py:{name}"} for name in ("Tiny", "width"))
    wanted = Search(space, budget=Budget(trials=1), evaluators=[evaluator], folder=tmp_path)
    Run(wanted, tmp_path / "run").close()
    assert (tmp_path / "run" / "sources" / "own.py").read_text() == OWN
    (tmp_path / "own.py").write_text(OWN + "\n# changed\n")
    with pytest.raises(BadInput, match=r"source file own\.py of the run in .* must stay"):
        Run(wanted, tmp_path / "run")


KILLED = """
import os, sys
sys.path[:0] = {path!r}
import nas
from test_run import Flat
count = 0
def score(architecture):
    global count
    count += 1
    if count == 4:
        os._exit(9)
    return architecture["width"]
nas.search(space=Flat(), evaluator=score, strategy="random", trials=6, memo="off", out={out!r})
"""


def test_a_killed_search_goes_on_from_its_folder(tmp_path):
    code = KILLED.format(path=sys.path, out=str(tmp_path / "run"))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    calls = []

    def score(architecture):
        calls.append(1)
        return architecture["width"]

    front = search(evaluator=score, memo="off", out=tmp_path / "run")
    assert len(calls) == 3
    assert [m.trial for m in front] == [m.trial for m in search(evaluator=score, memo="off")]
