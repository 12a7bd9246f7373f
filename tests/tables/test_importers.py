"""Imported tables hold what was published; damaged or missing sources are refused."""

from __future__ import annotations

import gzip
import json
from importlib import import_module
from itertools import product

import numpy as np
import pytest
import torch

from nas import BadInput
from nas.estimators.tabular import TabularEvaluator
from nas.registry import create
from nas.rng import stream
from nas.table import Table
from nas.tables import BUILTIN, csv_table, nasbench_graph


def load(kind):
    """The importer of a kind."""
    module, _, attribute = BUILTIN[kind].partition(":")
    return getattr(import_module(module), attribute)


REAL = [kind for kind in BUILTIN if kind != "synthetic"]


@pytest.mark.parametrize("kind", REAL)
def test_a_missing_source_names_what_to_fetch_and_from_whom(kind, tmp_path):
    with pytest.raises(BadInput, match=r"PATH must be or hold .* got .*; fetch .* 20\d\d"):
        load(kind)(tmp_path, None)


@pytest.mark.parametrize("kind", ["nasbench201", "hpo_svm", "synthetic"])
def test_a_single_table_has_no_parts(kind, tmp_path):
    with pytest.raises(BadInput, match="--part must be left out"):
        load(kind)(tmp_path, "micro")


# --- any csv file -----------------------------------------------------------------------------------


def csv(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["my.csv", "my.csv.gz"])
def test_a_csv_file_becomes_a_table(tmp_path, name):
    path = csv(tmp_path / name, "lr,op,depth,acc,ms,s\n0.1,a,1,0.5,3,10\n0.2,b,2,,4,20\n")
    draft = csv_table.load(path, ["lr", "op", "depth"], ["acc"], ["ms"], "s")
    draft.write(tmp_path / "my.table")
    table = Table.open(tmp_path / "my.table")
    assert (table.name, table.size, table.complete) == ("my", 2, False)
    assert [c.options for c in table.columns] == [(0.1, 0.2), ("a", "b"), (1, 2)]
    first = int(table.find(np.array([[0, 0, 0]]))[0])
    assert table.values("acc")[first] == 0.5
    assert np.isnan(table.values("acc")[1 - first])
    assert table.seconds(["acc"], np.array([first])).tolist() == [10]
    assert table.metrics["ms"].nature == "static"


def test_many_fractional_numbers_are_real(tmp_path):
    lines = "\n".join(f"{i / 7},{i}" for i in range(100))
    draft = csv_table.load(csv(tmp_path / "x.csv", f"x,y\n{lines}\n"), ["x"], ["y"])
    assert isinstance(draft.decisions["x"], np.ndarray)


@pytest.mark.parametrize(
    ("text", "decisions", "metrics", "message"),
    [
        ("a,b\n1,2\n", ["c"], ["b"], "have the column c"),
        ("a,b\n1,2\n", ["a"], ["a"], "columns must be listed once, got 'a'"),
        ("a,b\n1,2\n", [], ["b"], "name at least one column each"),
        ("a,b\n,2\n", ["a"], ["b"], "decision a must be chosen in every row"),
        ("a,b\nnan,2\n", ["a"], ["b"], "hold finite numbers or texts"),
        ("a,b\n1,x\n", ["a"], ["b"], "column b must hold numbers"),
        ("a,b\n1\n", ["a"], ["b"], "line 2 must have 2 cells, got 1"),
        ("a,b\n", ["a"], ["b"], "at least one row"),
    ],
)
def test_a_bad_csv_file_is_refused(tmp_path, text, decisions, metrics, message):
    with pytest.raises(BadInput, match=message):
        csv_table.load(csv(tmp_path / "x.csv", text), decisions, metrics)


def test_a_file_that_is_no_gzip_is_refused(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(b"plain")
    with pytest.raises(BadInput, match="be a csv file, or one gzipped"):
        csv_table.load(tmp_path / "x.csv.gz", ["a"], ["b"])


# --- published JSON, and networks -------------------------------------------------------------------


def test_nasbench_macros_json_is_read(tmp_path):
    archs = ["".join(digits) for digits in product("012", repeat=8)]
    records = {a: {"test_acc": [90.0, 91.0, 92.0], "params": int(a, 3), "flops": 7} for a in archs}
    path = tmp_path / "nas-bench-macro_cifar10.json"
    path.write_text(json.dumps(records))
    load("nasbench_macro")(tmp_path, None).write(tmp_path / "x.table")
    table = Table.open(tmp_path / "x.table")
    row = archs.index("02012100")
    assert table.choices(row)["layer_1"] == "mb_k5_e6"
    assert table.values("params")[row] == int("02012100", 3)
    assert table.values("cifar10_test_accuracy")[row] == pytest.approx(0.91)
    records.pop("00000000")
    path.write_text(json.dumps(records))
    with pytest.raises(BadInput, match="rows must be 6,561, got 6560"):
        load("nasbench_macro")(tmp_path, None).packed()
    path.write_text('{"0": 1}')
    with pytest.raises(BadInput, match="map architectures to test_acc"):
        load("nasbench_macro")(tmp_path, None)


def test_networks_are_equal_just_when_they_compute_with_the_same_weights():
    network, skip = nasbench_graph.network, 8
    a, b = 0, 1
    assert network((0, 0, 0, 0), (a, b, a, b), skip) == network((0, 0, 0, 0), (b, b, a, a), skip)
    assert network((0, 1, 2, 3), (a, skip, b, a), skip) == network((0, 1, 2, 3), (skip, a, b, a), skip)
    assert network((0, 1, 1, 2), (a, b, a, b), skip) == network((0, 1, 1, 2), (a, b, a, b), skip)
    # The same values in the output, but one of them from a shared node.
    assert network((0, 0, 1, 1), (a, a, a, skip), skip) != network((0, 0, 0, 1), (a, a, a, a), skip)


# --- the data folder --------------------------------------------------------------------------------


def best(table, metric):
    row = int(np.nanargmax(table.values(metric)))
    return row, float(table.values(metric)[row])


def test_nasbench201_has_its_published_optima(imported):
    table = imported("nasbench201")
    assert (table.size, table.complete) == (15_625, True)
    assert best(table, "cifar10_test_accuracy") == (6111, pytest.approx(0.943733))
    assert best(table, "cifar100_test_accuracy") == (9930, pytest.approx(0.735133))
    assert table.choices(0)["edge_0_1"] == "avg_pool_3x3"
    assert len([m for m in table.metrics if m.endswith("_latency_ms")]) >= 20
    np.testing.assert_array_equal(table.find(table.codes), np.arange(table.size))


def test_nasbench201s_faults_are_masked_and_counted(imported):
    table = imported("nasbench201")
    assert table.missing("cifar10_edgetpu_latency_ms") == 4_699
    pixel = table.values("cifar10_pixel3_latency_ms")
    assert np.nanmin(pixel) >= 1.0
    assert np.isnan(pixel).sum() == 283
    assert any("cifar10_pixel3_latency_ms: 283 values masked" in note for note in table.notes)
    dead = [i for i in np.nonzero(np.isnan(pixel))[0] if table.values("cifar10_test_accuracy")[i] > 0.2]
    assert not dead  # only cells that learn nothing were folded away


def test_nasbench_macro_agrees_with_its_source(imported):
    table = imported("nasbench_macro")
    assert table.complete
    assert best(table, "cifar10_test_accuracy")[1] == pytest.approx(0.931267, abs=1e-5)
    runs = [table.values(r) for r in table.metrics["cifar10_test_accuracy"].runs]
    np.testing.assert_allclose(np.mean(runs, axis=0), table.values("cifar10_test_accuracy"))


@pytest.mark.parametrize(
    ("data_set", "optimum"), [("cora", 0.8313), ("citeseer", 0.7157), ("pubmed", 0.7860), ("cs", 0.9126)]
)
def test_nasbench_graph_has_its_published_optima(imported, data_set, optimum):
    table = imported("nasbench_graph")
    assert table.size == nasbench_graph.CHOICES
    assert best(table, f"{data_set}_test_accuracy")[1] == pytest.approx(optimum, abs=5e-5)


def test_samples_are_marked_as_such(imported):
    for kind, part, rows in [
        ("transnasbench101", "micro", 711),
        ("transnasbench101", "macro", 725),
        ("hpo_xgboost", "heart", 5000),
        ("hpo_taskset", None, 1000),
        ("hw_gpt_bench", None, 10_000),
    ]:
        table = imported(kind, part)
        assert (table.size, table.complete) == (rows, False), kind


def test_an_unknown_part_is_refused(data):
    with pytest.raises(BadInput, match="--part must be one of micro, macro, got 'nano'"):
        load("transnasbench101")(data, "nano")


def test_taskset_has_curves_whose_divergence_is_masked(imported):
    table = imported("hpo_taskset")
    metric = table.metric("imdb_patch128_LSTM128_bs64_valid_loss")
    assert (len(metric.fidelities), metric.missing) == (51, "training diverged")
    assert 0 < table.missing(metric.name) < 1000
    assert np.isfinite(table.values(metric.name, 0.01)).mean() > 0.95


def test_truncated_and_incomplete_sources_are_refused(data, tmp_path):
    source = (data / "nasbench201" / "nb201.csv.gz").read_bytes()
    (tmp_path / "nb201.csv.gz").write_bytes(source[: len(source) // 2])
    with pytest.raises(BadInput, match="be a csv file, or one gzipped"):
        load("nasbench201")(tmp_path, None)
    text = gzip.decompress(source).decode().splitlines()[:100]
    (tmp_path / "nb201.csv.gz").write_bytes(gzip.compress("\n".join(text).encode()))
    with pytest.raises(BadInput, match="nasbench201: rows must be 15,625, got 99"):
        load("nasbench201")(tmp_path, None).packed()


# --- tables and spaces fit --------------------------------------------------------------------------

SPACES = {
    ("nasbench201", None): "nasbench201",
    ("nasbench_macro", None): "nasbench_macro",
    ("nasbench_graph", None): "nasbench_graph",
    ("transnasbench101", "micro"): "transnasbench101_micro",
    ("transnasbench101", "macro"): "transnasbench101_macro",
    ("hw_gpt_bench", None): "hw_gpt_bench",
    ("hpo_svm", None): {"name": "hpo_tabular", "benchmark": "svm"},
    ("hpo_xgboost", "a6a"): {"name": "hpo_tabular", "benchmark": "xgboost"},
    ("hpo_taskset", None): {"name": "hpo_tabular", "benchmark": "taskset"},
}


@pytest.mark.parametrize(("kind", "part"), SPACES)
def test_rows_are_feasible_architectures_of_the_space(imported, kind, part):
    table, space = imported(kind, part), create("space", SPACES[kind, part])
    rows = stream(0, "rows").integers(table.size, size=200)
    architectures = [space.architecture(table.choices(int(row))) for row in rows]
    assert all(map(space.feasible, architectures))
    np.testing.assert_array_equal(table.rows(architectures), rows)
    TabularEvaluator(space, table)
    if table.complete:
        rng = stream(1, "rows")
        assert (table.rows([space.sample(rng) for _ in range(200)]) >= 0).all()


@pytest.mark.parametrize(
    ("kind", "part", "metric"),
    [
        ("nasbench_macro", None, "params"),
        ("transnasbench101", "micro", "class_object_params"),
        ("transnasbench101", "macro", "class_object_params"),
        ("hw_gpt_bench", None, "params"),
        ("nasbench201", None, "cifar10_params"),
    ],
)
def test_built_modules_have_the_published_sizes(imported, kind, part, metric):
    table, space = imported(kind, part), create("space", SPACES[kind, part])
    known = np.nonzero(np.isfinite(table.values(metric)))[0]
    for row in stream(0, "sizes").choice(known, size=8).tolist():
        with torch.device("meta"):
            module = space.build(space.architecture(table.choices(row)))
        assert sum(p.numel() for p in module.parameters()) == table.values(metric)[row]


def test_published_training_free_metrics_are_columns_and_failures_are_missing(imported):
    cells = imported("nasbench201")
    synflow, accuracy = cells.values("cifar10_synflow"), cells.values("cifar10_test_accuracy")
    there = np.isfinite(synflow)
    assert there.sum() == 9_445
    order = [np.argsort(np.argsort(v[there])) for v in (synflow, accuracy)]
    assert np.corrcoef(order)[0, 1] == pytest.approx(0.75, abs=0.05)
    assert "cifar10_synflow" in TabularEvaluator(create("space", "nasbench201"), cells).cheap
    sample = imported("transnasbench101", "micro")
    assert "jigsaw_jacob_cov" in sample.metrics
    assert "class_scene_epe_nas" not in sample.metrics, "it failed everywhere"
    for table in (cells, sample):
        for name in table.metrics:
            assert not (table.values(name) == -1e8).any()
