"""``nas report``, ``compare`` and ``dashboard``."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest


def test_a_report_is_one_file_in_the_run(quick):
    answer = quick("report", "run")
    assert answer.code == 0
    path = quick.folder / "run" / "report.html"
    assert answer.out.startswith("run/report.html (")
    assert "6 trials, written in" in answer.out
    assert path.read_text().startswith("<!DOCTYPE html>")
    found = json.loads(quick("report", "run", "--out", "there.html", "--json").out)
    assert found["file"] == "there.html"
    assert found["bytes"] == (quick.folder / "there.html").stat().st_size
    assert found["trials"] == 6
    assert 0 < found["seconds"] < 60


def test_a_report_against_a_run_of_other_objectives_is_refused(quick):
    assert quick("search", "quick.yaml", "--set", "objectives=max accuracy", "--out", "other").code == 0
    answer = quick("report", "run", "--against", "other")
    assert answer.code == 2
    assert "objectives of other must be those of run (min params), got 'nothing for it'" in answer.err
    assert not (quick.folder / "run" / "report.html").exists()


def test_runs_are_compared_on_the_terminal_and_as_a_page(quick):
    for seed in (1, 2):
        assert quick("search", "quick.yaml", "--seed", seed, "--out", f"seed{seed}").code == 0
    answer = quick("compare", "run", "seed1", "seed2", "--html", "all.html")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split()[:4] == ["run", "seed", "trials", "evaluated"]
    assert [line.split()[0] for line in lines[1:4]] == ["run", "seed1", "seed2"]
    assert lines[4].split()[:4] == ["mean", "of", "3", "seeds"]
    assert lines[5].split()[:2] == ["±", "std"]
    assert (quick.folder / "all.html").read_text().startswith("<!DOCTYPE html>")
    found = json.loads(quick("compare", "run", "seed1", "--json").out)
    assert [row["seed"] for row in found["runs"]] == [0, 1]
    assert found["groups"][0]["mean"]["trials"] == 6
    assert found["html"] is None


def test_a_comparison_of_nothing_but_a_run_says_that_it_knows_no_spread(quick):
    assert "no spread over seeds is known" in quick("compare", "run").out
    answer = quick("compare", "run", "nowhere")
    assert answer.code == 2
    assert "must be a folder made by 'nas search', got 'nowhere'" in answer.err


@pytest.mark.skipif(find_spec("optuna_dashboard") is not None, reason="optuna-dashboard is installed")
def test_a_dashboard_that_is_not_installed_says_how_to_get_it(quick):
    answer = quick("dashboard", "run")
    assert answer.code == 2
    assert answer.err.splitlines() == [
        "error: optuna-dashboard must be installed, got none; "
        "install it with: pip install 'nas-toolkit[dashboard]'"
    ]


def test_what_a_dashboard_sees_of_a_run_cannot_be_changed(quick):
    import optuna

    from nas.errors import StorageError
    from nas.report.watching import storage

    journal = quick.folder / "run" / "journal.log"
    before = journal.read_bytes()
    study = optuna.load_study(study_name="nas", storage=storage(journal))
    assert len(study.trials) == 6
    with pytest.raises(StorageError, match="read only"):
        study.set_user_attr("note", "mine")
    assert journal.read_bytes() == before
