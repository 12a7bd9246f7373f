"""The cells that were trained for the toolkit: training goes on after any cut, and the table is sound."""

from __future__ import annotations

import importlib
import json
import sys
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas import BadInput
from nas.errors import Diverged
from nas.estimators.tabular import TabularEvaluator
from nas.estimators.training import TrainingEvaluator
from nas.proposal import Measurement, Proposal
from nas.spaces.nasbench201 import NasBench201Space
from nas.table import SHIPPED, Table
from nas.tasks.digits import Digits

RECIPE = {"epochs": 2, "lr": 0.1, "batch_size": 32}
SHIPPED_TABLE = SHIPPED / "cell125.table"


@pytest.fixture(scope="module")
def cell125():
    """The benchmark of that name."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("cell125")
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def task():
    return Digits(limit=160, val_share=0.5)


@pytest.fixture(scope="module")
def space(task):
    return NasBench201Space(task, nodes=3, channels=2, cells=1)


@pytest.fixture(scope="module")
def two(cell125, space):
    return [cell125.cells(space)[i] for i in (0, 93)]


@pytest.fixture(scope="module")
def straight(cell125, space, task, two, tmp_path_factory):
    """The file of two cells trained twice each in one go, and its rows."""
    file = tmp_path_factory.mktemp("straight") / "trainings.jsonl"
    return file, cell125.train_all(space, task, RECIPE, two, file, runs=2)


def without_times(rows):
    return [{k: v for k, v in row.items() if k not in ("cpu_seconds", "date")} for row in rows]


# --- training ---------------------------------------------------------------------------------------


def test_all_cells_are_trained_in_runs(cell125, space, two, straight):
    assert len({cell.key for cell in cell125.cells(space)}) == 125
    _, rows = straight
    assert [row["run"] for row in rows] == [0, 0, 1, 1]
    assert [space.architecture(row["cell"]).key for row in rows] == [c.key for c in two] * 2
    assert all(len(row["valid_accuracy"]) == 2 and row["cpu_seconds"] > 0 for row in rows)


def test_a_row_is_what_the_evaluator_says_of_the_whole_schedule(space, task, two, straight, tmp_path):
    proposal = Proposal(two[1], ("accuracy",), replicate=1)
    evaluator = TrainingEvaluator(space, task, **RECIPE, folder=tmp_path)
    outcome = evaluator.evaluate([proposal], seed=0)[0]
    row = straight[1][3]
    assert row["valid_accuracy"][-1] == outcome.values["accuracy"]
    assert row["test_accuracy"] == evaluator.score(proposal, outcome.weights, "test")["accuracy"]


@pytest.mark.parametrize("lost", [1, 40, 400])
def test_a_killed_training_goes_on_to_the_same_rows(
    cell125, space, task, two, straight, tmp_path, monkeypatch, lost
):
    source, rows = straight
    file = tmp_path / "trainings.jsonl"
    file.write_bytes(source.read_bytes()[:-lost])
    kept = file.read_bytes().count(b"\n") - 1
    assert 0 < kept < 4
    trained, train = [], cell125.train
    monkeypatch.setattr(cell125, "train", lambda *a: trained.append(a[-1]) or train(*a))
    again = cell125.train_all(space, task, RECIPE, two, file, runs=2)
    assert len(trained) == 4 - kept
    assert without_times(again) == without_times(rows)
    assert [json.loads(line) for line in file.read_text().splitlines()[1:]] == again


def test_a_finished_file_trains_nothing(cell125, space, task, two, straight, monkeypatch):
    monkeypatch.setattr(cell125, "train", None)
    assert cell125.train_all(space, task, RECIPE, two, straight[0], runs=2) == straight[1]


def test_trainings_under_another_recipe_are_kept_apart(cell125, space, task, two, straight):
    before = straight[0].read_bytes()
    with pytest.raises(BadInput, match="choose another --folder"):
        cell125.train_all(space, task, {**RECIPE, "lr": 0.2}, two, straight[0], runs=2)
    assert straight[0].read_bytes() == before


def test_a_diverged_training_is_a_row_without_values(cell125, space, task, two, monkeypatch):
    def diverge(*_, **__):
        raise Diverged("loss became nan")

    monkeypatch.setattr(cell125.TrainingEvaluator, "evaluate", diverge)
    row = cell125.train(space, task, RECIPE, two[0], 0)
    assert (row["valid_accuracy"], row["test_accuracy"]) == ([None, None], None)


# --- the table of a part ----------------------------------------------------------------------------


def test_a_part_of_the_trainings_makes_a_table_that_says_what_is_missing(
    cell125, space, task, two, straight, tmp_path
):
    file, rows = straight
    cell125.drafted(space, task, RECIPE, file, runs=2).write(tmp_path / "x.table")
    table = Table.open(tmp_path / "x.table")
    assert (table.size, table.missing("test_accuracy"), table.missing("params")) == (125, 123, 0)
    assert table.notes[0].startswith("4 of 250 trainings")
    at = table.rows(two)
    for epoch, share in enumerate((0.5, 1.0)):
        curve = [row["valid_accuracy"][epoch] for row in rows]
        np.testing.assert_allclose(
            table.values("valid_accuracy", share)[at], np.mean([curve[:2], curve[2:]], 0)
        )
        assert table.values("valid_accuracy_run1", share)[at].tolist() == curve[2:]
    tests = [row["test_accuracy"] for row in rows]
    evaluator = TabularEvaluator(space, table, runs=["test_accuracy"])
    for i, row in enumerate(rows):
        outcome = evaluator.evaluate([Proposal(two[i % 2], ("test_accuracy",), replicate=row["run"])], seed=0)
        assert outcome[0].values["test_accuracy"] == tests[i]
    half = Proposal(two[1], ("valid_accuracy",), fidelity=0.5, replicate=1)
    told = TabularEvaluator(space, table, runs=["valid_accuracy"]).evaluate([half], seed=0)
    assert told[0].values["valid_accuracy"] == rows[3]["valid_accuracy"][0]
    module = space.build(two[1])
    assert table.values("params")[at[1]] == sum(p.numel() for p in module.parameters())


def test_figures_tell_agreement_apart_from_noise(cell125, space, task, tmp_path):
    file, chosen = tmp_path / "trainings.jsonl", cell125.cells(space)
    cell125.opened(file, cell125.settings(task, RECIPE))
    for run, i in product(range(3), range(125)):
        test = (i if run < 2 else 124 - i) / 125
        row = {"cell": chosen[i].to_json(), "run": run, "valid_accuracy": [0.0, i / 125], "date": ""}
        cell125.append(file, {**row, "test_accuracy": test, "cpu_seconds": None if i == 3 else 8.0})
    found = cell125.figures(cell125.drafted(space, task, RECIPE, file))
    np.testing.assert_allclose(found["test_tau_of_runs"], [1, -1, -1])
    np.testing.assert_allclose(found["valid_tau_of_runs"], 1)
    assert found["best_cells"][0] == {**chosen[124].to_json(), "test_accuracy": pytest.approx(248 / 375)}
    assert found["test_quantiles_of_cells"]["1"] == pytest.approx(248 / 375)


# --- the table that ships ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    if not SHIPPED_TABLE.exists():
        pytest.skip("the cells are not trained yet: benchmarks/cell125.py --write makes the table")
    return Table.open("cell125")


def test_the_shipped_table_is_small_whole_and_of_the_space(cell125, shipped):
    assert SHIPPED_TABLE.stat().st_size < 100_000
    assert (shipped.size, shipped.complete) == (125, True)
    assert {f"test_accuracy_run{i}" for i in range(3)} <= set(shipped.metrics)
    space = NasBench201Space(**cell125.NETWORK, input_shape=(1, 14, 14))
    np.testing.assert_array_equal(shipped.rows(cell125.cells(space)), np.arange(125))
    asked = [Proposal(cell, ("valid_accuracy", "params")) for cell in cell125.cells(space)]
    told = TabularEvaluator(space, shipped).evaluate(asked, seed=0)
    assert all(isinstance(outcome, Measurement) for outcome in told)
    sizes = [sum(p.numel() for p in space.build(p.candidate).parameters()) for p in asked]
    assert [outcome.values["params"] for outcome in told] == sizes


def test_the_shipped_runs_agree(shipped):
    for kind in ("valid", "test"):
        runs = [shipped.values(f"{kind}_accuracy_run{i}") for i in range(3)]
        assert all(np.isfinite(run).all() for run in runs)
        assert min(kendalltau(a, b)[0] for a, b in combinations(runs, 2)) > 0
        np.testing.assert_allclose(shipped.values(f"{kind}_accuracy"), np.mean(runs, axis=0))


def test_cells_that_connect_nothing_guess(shipped):
    cut = [
        row
        for row in range(125)
        if (c := shipped.choices(row))["edge_0_2"] == "none" and "none" in (c["edge_0_1"], c["edge_1_2"])
    ]
    assert len(cut) == 9
    others = np.delete(shipped.values("test_accuracy"), cut)
    assert shipped.values("test_accuracy")[cut].max() < 0.2 < others.min()
