"""Tables: what is read, inferred, encoded, split and scored."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import BadInput
from nas.estimators.training import TrainingEvaluator
from nas.proposal import Measurement, Proposal
from nas.spaces.mlp import MlpSpace
from nas.tasks.columns import encoded, numbers, read_columns
from nas.tasks.table import Table

ALL = np.arange(4)


class Constant(nn.Module):
    """Answers every row with the same numbers."""

    def __init__(self, *values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, x):
        return self.values.expand(len(x), -1)


def write(path, head, rows):
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def houses(tmp_path):
    """100 rows: a size, a town, and a price of 3·size + 7."""
    rows = [(i / 2, ["ulm", "bonn"][i % 2], 3 * i / 2 + 7) for i in range(100)]
    return write(tmp_path / "houses.csv", "size,town,price", rows)


def test_quotes_packing_and_marks_are_read(tmp_path):
    text = '\ufeffa,"b, c"\r\n1,"x ""y"""\r\n\r\n2,"two\nlines"\r\n'
    (tmp_path / "t.csv").write_bytes(text.encode())
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    expected = {"a": ["1", "2"], "b, c": ['x "y"', "two\nlines"]}
    assert read_columns(tmp_path / "t.csv") == read_columns(tmp_path / "t.csv.gz") == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n1,2,3\n", r"line 3 of .*t\.csv must have 2 cells, got 3"),
        (b"a,a\n1,2\n", "must name every column once, got 'a'"),
        (b"a,\n1,2\n", "must name every column once, got ''"),
        (b"a,b\n", "must hold a head line and rows"),
        (b"a,b\n\xff\xfe,2\n", "must be a csv file that can be read"),
        (b'a,b\n1,"2\n', "must be a csv file that can be read"),
        (None, "must be a csv file that can be read"),
    ],
)
def test_broken_tables_are_refused_with_the_place(tmp_path, content, words):
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read_columns(tmp_path / "t.csv")


def test_a_cut_gzip_file_is_refused(tmp_path):
    packed = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    (tmp_path / "t.csv.gz").write_bytes(packed[:-12])
    with pytest.raises(BadInput, match=r"t\.csv\.gz"):
        read_columns(tmp_path / "t.csv.gz")


def test_numbers_know_missing_cells_and_text():
    assert np.array_equal(numbers(["1", " ", "NA", "-2e3", "?"]), [1, np.nan, np.nan, -2000, np.nan], True)
    assert numbers(["1", "one"]) is None
    assert numbers(["1", "inf"]) is None


def test_numeric_columns_are_standardised_by_training_rows_and_say_what_is_missing():
    x, names = encoded({"a": ["1", "3", "", "100"]}, np.arange(3), (), 9)
    assert names == ("a", "a missing")
    assert x.tolist() == [[-1, 0], [1, 0], [0, 1], [98, 0]]
    x, names = encoded({"a": ["1", "3", "5", ""]}, np.arange(3), (), 9)
    assert names == ("a",)
    assert x[3] == 0
    constant, _ = encoded({"a": ["5", "5", "5", "7"]}, np.arange(3), (), 9)
    assert constant[:, 0].tolist() == [0, 0, 0, 2]


def test_rare_and_unknown_values_share_a_feature():
    cells = ["x", "x", "y", "y", "y", "rare", "", "", "new"]
    x, names = encoded({"c": cells}, np.arange(8), (), 9)
    assert names == ("c=y", "c=", "c=x", "c=other")
    assert x[[0, 2, 5, 6, 8]].tolist() == [
        [0, 0, 1, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 1, 0, 0],
        [0, 0, 0, 1],
    ]
    assert (x.sum(1) == 1).all()
    assert encoded({"c": cells}, np.arange(8), (), 1)[1] == ("c=y", "c=other")


def test_numbers_can_be_names():
    assert encoded({"zip": ["10", "10", "20", "20"]}, ALL, ("zip",), 9)[1] == (
        "zip=10",
        "zip=20",
        "zip=other",
    )
    assert encoded({"zip": ["10", "10", "20", "20"]}, ALL, (), 9)[1] == ("zip",)


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (["yes", "no"] * 10, "classification", ("no", "yes")),
        ([10, 9, 2.0, "2"] * 5, "classification", ("2", "9", "10")),
        ([0.5, 1.0] * 10, "regression", ()),
        (list(range(21)) * 2, "regression", ()),
        (list(range(20)) * 10, "classification", tuple(map(str, range(20)))),
    ],
)
def test_the_kind_is_inferred_and_said(tmp_path, caplog, labels, kind, classes):
    path = write(tmp_path / "t.csv", "x,y", enumerate(labels))
    with caplog.at_level(logging.INFO, "nas"):
        task = Table(path, "y", test_share=0.3, val_share=0.3)
    assert (task.kind, task.class_names) == (kind, classes)
    assert f"label y: taken for {kind}" in caplog.text


def test_a_given_kind_is_kept(tmp_path):
    path = write(tmp_path / "t.csv", "x,y", [(i, i % 5) for i in range(40)])
    task = Table(path, "y", kind="regression")
    assert (task.classes, task.metrics) == (None, ("rmse", "r2", "loss"))
    large = write(tmp_path / "l.csv", "x,y", [(i, 1_000_000 + i % 2) for i in range(40)])
    assert Table(large, "y").class_names == ("1000000", "1000001")


def test_splits_are_disjoint_stratified_and_the_test_is_always_the_same(tmp_path):
    rows = [(i, "rare" if i % 10 == 0 else "often") for i in range(200)]
    path = write(tmp_path / "t.csv", "id,y", rows)

    a, b = Table(path, "y", seed=0), Table(path, "y", seed=1)
    assert [a.count(s) for s in ("train", "val", "test")] == [128, 32, 40]
    for split, n in (("train", 13), ("val", 3), ("test", 4)):
        assert int((a._splits[split][1] == 1).sum()) == n
    rows = [row for split in ("train", "val", "test") for row in _original(a, split)]
    assert sorted(rows) == list(range(200))
    assert _original(a, "test") == _original(b, "test")
    assert _original(a, "val") != _original(b, "val")


def _original(task, split):
    """Row numbers of a split: the rank of the ids, which are the only feature."""
    everything = np.sort(np.concatenate([task._splits[s][0][:, 0].numpy() for s in task._splits]))
    return np.searchsorted(everything, task._splits[split][0][:, 0].numpy()).tolist()


def test_regression_scores_are_in_the_labels_unit(houses):
    task = Table(houses, "price")
    assert (task.kind, task.input_shape, task.features) == (
        "regression",
        (4,),
        ("size", "town=ulm", "town=bonn", "town=other"),
    )
    y = task._splits["val"][1].double() * task._std + task._mean
    score = task.score(Constant(0.5), "val")
    answer = task._mean + 0.5 * task._std
    assert score["rmse"] == pytest.approx(float((y - answer).square().mean().sqrt()), rel=1e-5)
    expected = 1 - float((y - answer).square().sum() / (y - y.mean()).square().sum())
    assert score["r2"] == pytest.approx(expected, rel=1e-5)
    assert score["rmse"] == pytest.approx(score["loss"] ** 0.5 * task._std)
    with pytest.raises(BadInput, match=r"must answer with one number a row, got \(20, 2\)"):
        task.score(Constant(0.5, 1.0), "test")


def test_classification_scores(tmp_path):
    path = write(tmp_path / "t.csv", "x,y", [(i, "ab"[i % 4 == 0]) for i in range(80)])
    task = Table(path, "y")
    score = task.score(Constant(2.0, 0.0), "test")
    assert score["accuracy"] == 12 / 16
    log_p = torch.log_softmax(torch.tensor([2.0, 0.0], dtype=torch.float64), 0)
    assert score["loss"] == pytest.approx(-float(0.75 * log_p[0] + 0.25 * log_p[1]), rel=1e-6)


def test_fingerprints_follow_data_and_seed(houses):
    assert Table(houses, "price").fingerprint() == Table(houses, "price").fingerprint()
    assert Table(houses, "price", seed=1).fingerprint() != Table(houses, "price").fingerprint()
    assert Table(houses, "price", ignore=["town"]).fingerprint() != Table(houses, "price").fingerprint()
    assert Table(houses, "price", ignore=["town"]).features == ("size",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"label": "prise"}, "unknown column 'prise'; did you mean 'price'"),
        ({"ignore": ["hous"]}, "unknown column 'hous'"),
        ({"kind": "ranking"}, "kind must be classification or regression"),
        ({"label": "town", "kind": "regression"}, "the label town must hold finite numbers"),
        ({"test_share": 0.0}, "test_share must lie in"),
        ({"val_share": 0.001}, "the val split must have rows"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"ignore": ["size", "town"]}, "must have a column beside the label"),
        ({"delimiter": ";"}, "unknown column 'price'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(houses, settings, words):
    with pytest.raises(BadInput, match=words):
        Table(houses, **{"label": "price", **settings})


def test_labels_must_be_there_and_differ(tmp_path):
    path = write(tmp_path / "t.csv", "x,y", [(1, "a"), (2, "NA"), (3, "b")])
    with pytest.raises(BadInput, match="the label y must be given in every row, got 'none in line 3'"):
        Table(path, "y")
    same = write(tmp_path / "s.csv", "x,y", [(i, "a") for i in range(9)])
    with pytest.raises(BadInput, match=r"at least two classes, got \['a'\]"):
        Table(same, "y")


def test_the_tables_of_scikit_learn():
    task = Table("sklearn:breast_cancer")
    assert (task.class_names, task.input_shape) == (("benign", "malignant"), (30,))
    assert [task.count(s) for s in ("train", "val", "test")] == [365, 91, 113]
    x = torch.cat([x for x, _ in task.batches("train", seed=0)])
    assert float(x.mean(0).abs().max()) < 1e-5
    assert float((x.std(0, correction=0) - 1).abs().max()) < 1e-4
    assert Table("sklearn:diabetes").kind == "regression"
    with pytest.raises(BadInput, match="unknown table of scikit-learn 'irish'; did you mean 'iris'"):
        Table("sklearn:irish")


def test_perceptrons_learn_both_kinds(houses):
    for task, metric, good in (
        (Table(houses, "price"), "r2", 0.9),
        (Table("sklearn:wine"), "accuracy", 0.9),
    ):
        space = MlpSpace(task, widths=(16,), layers=1)
        assert space.classes == (task.classes or 1)
        a = space.architecture({"layer.count": 1, "layer.0.width": 16, "activation": "relu", "norm": "none"})
        training = TrainingEvaluator(space, task, epochs=30, lr=0.05)
        (outcome,) = training.evaluate([Proposal(a, task.metrics)], seed=0)
        assert isinstance(outcome, Measurement)
        assert outcome.values[metric] > good
