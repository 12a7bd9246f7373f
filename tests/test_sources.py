"""A user's source files are found, kept, and read from the run."""

from __future__ import annotations

import pytest

from nas import sources
from nas.errors import BadInput
from nas.parts import Search


@pytest.fixture
def search(tmp_path):
    (tmp_path / "home" / "deep").mkdir(parents=True)
    for name in ("own.py", "deep/task.py", "net.py"):
        (tmp_path / "home" / name).write_text(f"x = {name!r}\n")
    return Search(
        space={"factory": "./own.py:Space", "head": "./net.py:head"},
        task={"factory": "deep/task.py:make"},
        evaluators=[{"name": "training"}, {"factory": "nas.estimators.cost:CostEvaluator"}],
        strategy={"factory": "./missing.py:x"},
        folder=tmp_path / "home",
    )


def test_files_are_found_at_any_depth(search):
    home = search.folder
    assert sources.files(search) == {
        "own.py": home / "own.py",
        "net.py": home / "net.py",
        "task.py": home / "deep/task.py",
    }


def test_the_run_keeps_copies_and_reads_them(search, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    sources.keep(search, run)
    kept = sources.from_run(search, run)
    assert kept.space == {"factory": "./sources/own.py:Space", "head": "./sources/net.py:head"}
    assert kept.task == {"factory": "./sources/task.py:make"}
    assert kept.evaluators == search.evaluators
    assert kept.folder == run
    assert sources.files(kept)["task.py"].read_text() == "x = 'deep/task.py'\n"
    assert sources.digests(kept) == sources.digests(search)
    sources.keep(kept, run)  # onto themselves


def test_copies_are_never_overwritten(search, tmp_path):
    sources.keep(search, tmp_path)
    before = sources.digests(sources.from_run(search, tmp_path))
    (search.folder / "own.py").write_text("x = 'new'\n")
    sources.keep(search, tmp_path)
    assert sources.digests(sources.from_run(search, tmp_path)) == before
    with pytest.raises(BadInput, match=r"own\.py must stay as it was when the run began"):
        sources.check_unchanged(search, tmp_path)
    (search.folder / "own.py").unlink()
    sources.check_unchanged(search, tmp_path)


def test_two_files_of_one_name_are_refused(search):
    (search.folder / "deep" / "own.py").write_text("")
    search.baseline = {"factory": "./deep/own.py:model"}
    with pytest.raises(BadInput, match="name source files of different names"):
        sources.files(search)
    search.baseline = {"factory": "./deep/../own.py:model"}
    assert len(sources.files(search)) == 3
