"""What cannot be used: every command refuses it in one line, with exit code 2 and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

WRONG = [
    ("", ""),
    ("nosuch", "No such command 'nosuch'; see: nas --help"),
    ("data nosuch", "No such command 'nosuch'; see: nas data --help"),
    ("search missing.yaml", "config must be a file that can be read, got 'missing.yaml'"),
    ("search quick.yaml --seed x", "'--seed': Input should be a valid integer"),
    ("search quick.yaml --out own.py", "'--out': dir 'own.py' is a file; see: nas search --help"),
    ("search quick.yaml --artifacts own.py", "'--artifacts': dir 'own.py' is a file"),
    ("search quick.yaml --storage nonsense", "storage must be a URL of SQLite"),
    ("resume missing", "run must be a folder made by 'nas search', got 'missing'"),
    ("resume run --budget trials", "--budget must read LIMIT=VALUE, got 'trials'; such as"),
    ("stop missing", "got 'missing'; begin one with: nas search CONFIG"),
    ("stop run", "the run must be running, got 'run'; continue it with: nas resume run"),
    ("pause own.py", "run must be a folder made by 'nas search', got 'own.py'"),
    ("status run --watch 0", "'--watch': Input should be greater than or equal to 0.1"),
    ("status missing --json", "run must be a folder made by 'nas search', got 'missing'"),
    ("status --run run", "the run must be given as RUN, or as --storage URL and --run NAME"),
    ("logs run 77", "NUMBER must be a trial from 0 to 5, got 77"),
    ("front missing --measure", "run must be a folder made by 'nas search', got 'missing'"),
    ("front run --measure --pack run", "--pack must be a new folder, or that of an earlier pack, got 'run'"),
    ("front run --pack own.py", "'--pack': dir 'own.py' is a file; see: nas front --help"),
    ("report run --out run", "'--out': file 'run' is a directory; see: nas report --help"),
    ("report run --against missing", "run must be a folder made by 'nas search', got 'missing'"),
    ("compare run --html run", "'--html': file 'run' is a directory; see: nas compare --help"),
    ("compare run missing", "run must be a folder made by 'nas search', got 'missing'"),
    ("compare metrics", "CONFIG must be one file (.yaml, .yml, .json), got ''; nas compare metrics CONFIG"),
    ("compare metrics own.py", "CONFIG must be one file (.yaml, .yml, .json), got 'own.py'"),
    ("compare metrics quick.yaml --pool 3", "pool must lie in [10, 3,000], got 3"),
    ("dashboard run --port 0", "'--port': Input should be greater than or equal to 1; see: nas dashboard"),
    ("export run --format ,", "--format must name at least one format, got ','; such as --format pt2,json"),
    ("export run --trial 99", "--trial must be one of the front's"),
    ("export run --out own.py", "'--out': dir 'own.py' is a file; see: nas export --help"),
    ("list commands", "'commands' is not one of 'spaces', 'strategies'"),
    ("check spce conv", "'spce' is not one of 'space', 'strategy', 'evaluator'"),
    ("check space nosuch", "unknown space 'nosuch'"),
    ("check strategy ./own.py:Tiny", "./own.py:Tiny must be a nas.Strategy, got 'Tiny'"),
    ("schema extra", "unexpected extra argument(s) (extra); see: nas schema --help"),
    ("profile --plan nosuch", "unknown plan 'nosuch'; known: full, quick"),
    ("profile --out own.py", "'--out': dir 'own.py' is a file; see: nas profile --help"),
    ("profile --pack run", "--pack must be a new folder, or that of an earlier pack, got 'run'"),
    ("data import nosuch .", "unknown kind of table 'nosuch'"),
    ("data import synthetic . --out run", "'--out': file 'run' is a directory"),
    ("data list run", "PATH must hold a *.table file, got 'run'; make one with 'nas data import'"),
    ("init missing/x.yaml", "the config file must lie in a folder that is there, got 'missing/x.yaml'"),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the run lies that all tests here copy."""
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
def quick(nas, kept):
    """The command line with a finished search of six trials in ``run``."""
    if not kept.exists():
        assert nas("search", "quick.yaml", "--out", "run").code == 0
        Path("run").rename(kept)
    shutil.copytree(kept, "run")
    return nas


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[words or "nothing" for words, _ in WRONG])
def test_what_cannot_be_used_is_refused_in_one_line(quick, words, says):
    before = sorted(Path("run").rglob("*"))
    done = quick(*words.split())
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == bool(says)
    assert not says or done.err.startswith("error: ")
    assert sorted(Path("run").rglob("*")) == before


def test_a_name_that_a_storage_does_not_hold_is_answered_by_those_that_it_does(nas):
    for name in ("one", "two"):
        assert nas("search", "quick.yaml", "--storage", "sqlite:///r.db", "--out", name).code == 0
    for command in ("status", "stop", "pause", "resume", "logs", "front", "report", "export", "compare"):
        done = nas(command, "--storage", "sqlite:///r.db", "--run", "three")
        assert done.code == 2
        assert done.err == "error: --run must name a run in sqlite:///r.db, got 'three'; it holds: one, two\n"


def test_a_folder_whose_run_the_storage_does_not_hold(nas):
    assert nas("search", "quick.yaml", "--storage", "sqlite:///r.db", "--out", "one").code == 0
    assert nas("search", "quick.yaml", "--out", "run").code == 0
    done = nas("status", "run", "--storage", "sqlite:///r.db")
    assert done.code == 2
    assert done.err == "error: --storage must hold the run run, got 'sqlite:///r.db'; it holds: one\n"


def test_runs_where_they_are_put_are_named(nas):
    assert nas("search", "quick.yaml").code == 0
    assert "got 'quick'; here are: runs/quick" in nas("status", "quick").err


def test_a_run_of_another_version_is_named(quick):
    journal = Path("run/journal.log")
    journal.write_text(journal.read_text().replace('"schema":1', '"schema":99'))
    for command in ("status", "front", "report", "export", "resume", "logs"):
        done = quick(command, "run")
        assert done.code == 1
        assert "holds a run of another schema (99 instead of 1); start a new run with --out" in done.err
        assert len(done.err.splitlines()) == 1


def test_help_and_version_end_well(nas):
    assert nas("--version").code == nas("data", "--help").code == nas("schema").code == 0
