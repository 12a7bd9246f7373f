"""``nas data import`` and ``nas data list``."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.errors import BadInput
from nas.table import Table


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text("op,acc,ms,s\na,0.5,1,10\nb,,2,20\n")

    def call(*words):
        done = CliRunner().invoke(app, ["data", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stdout

    return call


TABLE = (
    "import",
    "table",
    "my.csv",
    "--decisions",
    "op",
    "--metrics",
    "acc",
    "--static",
    "ms",
    "--cost",
    "s",
)


def test_importing_twice_changes_nothing(run, tmp_path):
    assert "my.table: written" in run(*TABLE)
    before = (tmp_path / "my.table").read_bytes()
    assert "my.table: unchanged" in run(*TABLE)
    assert (tmp_path / "my.table").read_bytes() == before
    assert Table.open("my.table").metrics["acc"].cost == "s"


def test_importing_other_data_over_a_table_is_refused(run, tmp_path):
    run(*TABLE)
    (tmp_path / "my.csv").write_text("op,acc,ms,s\na,0.5,1,10\n")
    with pytest.raises(BadInput, match="--out must be new, or hold just this table"):
        run(*TABLE)
    assert json.loads(run(*TABLE, "--out", "new.table", "--json"))["rows"] == 1


def test_listing_shows_units_and_missing_values(run):
    run(*TABLE)
    text = run("list", "my.table")
    assert "my: 2 rows, a sample" in text
    assert "decision op: a, b" in text
    assert "1 missing: it was not measured" in text
    (row,) = json.loads(run("list", ".", "--json"))
    assert {m["name"]: m["missing"] for m in row["metrics"]} == {"acc": 1, "ms": 0, "s": 0}
    assert {m["name"]: m["unit"] for m in row["metrics"]}["s"] == "s"
    assert "125 rows, the whole space" in run("list", "synthetic")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("import", "nasbench202", "."), "unknown kind of table 'nasbench202'; did you mean 'nasbench201'"),
        (("import", "hpo_svm", ".", "--decisions", "a"), "--decisions must go with the kind table only"),
        (("import", "hpo_svm", ".", "--cost", "a"), "--cost must go with the kind table only"),
        (("list", "."), r"PATH must hold a \*.table file"),
        (("list", "my.csv"), "be a file made by 'nas data import', got 'another kind of file'"),
    ],
)
def test_bad_words_are_refused(run, words, message):
    with pytest.raises(BadInput, match=message):
        run(*words)
