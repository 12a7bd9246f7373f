"""``nas search`` and ``nas resume``: what they say, leave behind, and exit with."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from commands import OWN, QUICK, TRAINED

from nas.budget import Budget
from nas.cli.progress import Progress


def test_a_search_says_what_it_found_and_where_it_is(nas):
    answer = nas("search", "quick.yaml")
    assert answer.code == 0
    assert answer.err == ""
    lines = answer.out.splitlines()
    assert lines[0] == "Tiny: 16 architectures; max accuracy, min params"
    assert lines[1] == "run folder runs/quick"
    assert any(re.match(r"trials 1/6, failed 0, reused 0, best accuracy .* left", line) for line in lines)
    assert any(line.startswith("budget reached: trials after") and "6 trials" in line for line in lines)
    assert any(re.match(r"highest accuracy: \S+, trial \d+ \(params", line) for line in lines)
    for name in ("front.json", "front.png", "hypervolume.png"):
        assert f"  runs/quick/{name}" in lines
        assert (nas.folder / "runs" / "quick" / name).stat().st_size > 0


def test_each_search_gets_a_folder_of_its_own(nas):
    for name in ("quick", "quick-2", "quick-3"):
        assert nas("search", "quick.yaml", "--set", "budget.trials=1").code == 0
        assert (nas.folder / "runs" / name / "run.json").is_file()


def test_json_is_all_that_is_on_standard_output(nas):
    answer = nas("search", "quick.yaml", "--out", "run", "--json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert found["run"] == "run"
    assert found["ended"] == "budget reached: trials"
    assert found["members"] == json.loads((nas.folder / "run" / "front.json").read_text())["members"]
    again = json.loads(nas("resume", "run", "--json").out)
    assert again["members"] == found["members"]


def test_json_stays_whole_beside_what_others_print_on_standard_output(nas):
    noisy = "print('the file is read')\n\ndef noisy(architecture):\n    return 0.5\n"
    nas.write("noisy.py", noisy)
    answer = nas(
        "search",
        "quick.yaml",
        "--out",
        "run",
        "--json",
        "--set",
        "evaluators=[{factory: './noisy.py:noisy'}]",
    )
    assert json.loads(answer.out)["run"] == "run"
    assert "the file is read" in answer.err


def test_pauses_do_not_count_as_time_of_a_session():
    progress, began = Progress(Budget(trials=4)), time.perf_counter()
    with progress.following((), (), lambda: time.perf_counter() - began):  # it was paused all the time
        time.sleep(0.05)
        assert progress._elapsed() <= 0


def test_settings_and_seed_override_the_config(nas):
    nas(
        "search",
        "quick.yaml",
        "--out",
        "run",
        "--seed",
        7,
        "--set",
        "budget.trials=2",
        "--set",
        "space.classes=3",
    )
    stored = json.loads((nas.folder / "run" / "config.json").read_text())["config"]
    assert (stored["seed"], stored["budget"], stored["space"]["classes"]) == (7, {"trials": 2}, 3)
    assert len(json.loads(nas("logs", "run", "--json").out)) == 2


def test_a_run_goes_on_to_what_one_search_would_have_found(nas):
    nas("search", "quick.yaml", "--out", "whole")
    nas("search", "quick.yaml", "--out", "parts", "--set", "budget.trials=2")
    answer = nas("resume", "parts", "--set", "budget.trials=6")
    assert answer.code == 0
    assert "continuing after 2 trials" in answer.out
    whole, parts = (json.loads(nas("logs", run, "--json").out) for run in ("whole", "parts"))
    assert [t["proposal"] for t in parts] == [t["proposal"] for t in whole]
    assert [t["measurement"]["values"] for t in parts] == [t["measurement"]["values"] for t in whole]


def test_a_failure_keeps_its_traceback_and_the_search_goes_on(nas):
    answer = nas(
        "search", nas.write("c.yaml", QUICK.replace("own.py:width", "own.py:odd_fails")), "--out", "run"
    )
    assert answer.code == 0
    trials = json.loads(nas("logs", "run", "--json").out)
    failed = [t for t in trials if "failure" in t]
    assert len(trials) == 6
    assert 0 < len(failed) < 6
    number = failed[0]["number"]
    assert f"{number} search   failed (error): ValueError: an odd width" in nas("logs", "run").out
    shown = nas("logs", "run", number).out
    assert "Traceback" in shown
    assert "own.py" in shown
    assert json.loads(nas("logs", "run", number, "--json").out)["log"].count("ValueError: an odd width") == 1


def test_a_search_whose_first_ten_all_fail_stops_with_the_reason(nas):
    config = QUICK.replace("own.py:width", "own.py:fails").replace("trials: 6", "trials: 50")
    answer = nas("search", nas.write("c.yaml", config), "--out", "run")
    assert answer.code == 1
    assert answer.err == (
        "error: the first 10 evaluations all failed, the first one because: RuntimeError: no such luck; "
        "see: nas logs run\n"
    )
    assert len(json.loads(nas("logs", "run", "--json").out)) == 10


def test_a_dear_bound_that_nothing_met_is_told_with_the_nearest(nas):
    config = QUICK.replace("max accuracy,", "max accuracy >= 2,")
    answer = nas("search", nas.write("c.yaml", config), "--out", "run")
    assert answer.code == 1
    nearest = max(
        t["measurement"]["values"]["accuracy"] for t in json.loads(nas("logs", "run", "--json").out)
    )
    assert f"No architecture met accuracy >= 2; the nearest has {nearest:g}" in answer.out
    assert not (nas.folder / "run" / "front.png").exists()


def test_the_front_is_exported_when_the_config_says_so(nas):
    config = nas.write("c.yaml", TRAINED + "export: {formats: [json]}\n")
    answer = nas("search", config, "--out", "run")
    assert answer.code == 0
    members = json.loads((nas.folder / "run" / "front.json").read_text())["members"]
    for member in members:
        name = f"trial_{member['trial']:04d}"
        exported = json.loads((nas.folder / "run" / "export" / name / f"{name}.json").read_text())
        assert exported["architecture"] == member["architecture"]
        assert f"  run/export/{name}/{name}.json" in answer.out


def test_a_file_in_place_of_the_folder_is_a_storage_error(nas):
    nas.write("taken", "")
    answer = nas("search", "quick.yaml", "--out", "taken/run")
    assert answer.code == 1
    assert re.fullmatch(r"error: the run's folder taken/run cannot be written: [^\n]+\n", answer.err)
    assert nas("search", "quick.yaml", "--out", "/dev/full").code == 1


def test_a_full_disk_ends_the_search_and_loses_nothing(nas, monkeypatch):
    add = optuna.study.Study.add_trial
    left = [3]

    def full(study, trial):
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        add(study, trial)

    monkeypatch.setattr(optuna.study.Study, "add_trial", full)
    answer = nas("search", "quick.yaml", "--out", "run")
    assert answer.code == 1
    assert re.fullmatch(
        r"error: .*No space left.*all 3 trials before it are safe, make room and resume\n", answer.err
    )
    monkeypatch.undo()
    monkeypatch.chdir(nas.folder)
    assert len(json.loads(nas("logs", "run", "--json").out)) == 3
    assert nas("resume", "run").code == 0
    assert len(json.loads(nas("logs", "run", "--json").out)) == 6


def test_a_source_file_that_changed_is_refused(quick):
    quick.write("own.py", OWN + "\n# another thought\n")
    answer = quick("resume", "run")
    assert answer.code == 2
    assert re.search(
        r"own\.py must stay as it was when the run began, .* restore it from run/sources/own\.py", answer.err
    )
    quick.write("own.py", OWN)
    assert quick("resume", "run").code == 0


def test_a_source_file_that_is_gone_is_not_missed(quick):
    (quick.folder / "own.py").unlink()
    assert quick("resume", "run", "--set", "budget.trials=8").code == 0
    assert len(json.loads(quick("logs", "run", "--json").out)) == 8


def test_an_edited_copy_is_refused(quick):
    (quick.folder / "own.py").unlink()
    quick.write("run/sources/own.py", OWN + "\n")
    answer = quick("resume", "run")
    assert answer.code == 2
    assert "source file own.py of the run in run must stay" in answer.err


SLOW = QUICK.replace("own.py:width", "own.py:sleeps").replace("trials: 6", "trials: 100")


def started(nas, *args, **streams):
    """A search in another process that has finished its first trial."""
    nas.write("slow.yaml", SLOW)
    command = [sys.executable, "-m", "nas", "search", "slow.yaml", "--out", "run", *args]
    process = subprocess.Popen(command, **streams)
    deadline = time.time() + 60
    while (
        not (nas.folder / "run" / "journal.log").exists()
        or "record" not in Path("run/journal.log").read_text()
    ):
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.05)
    return process


def test_a_running_search_is_seen_and_guarded_from_other_processes(nas):
    process = started(nas, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        owner = f"process {process.pid} on {os.uname().nodename}"
        assert nas("status", "run").out.startswith(f"running as {owner}\n")
        assert json.loads(nas("status", "run", "--json").out)["spent"]["trials"] >= 1
        assert json.loads(nas("front", "run", "--json").out)["members"]
        answer = nas("resume", "run")
        assert answer.code == 1
        assert answer.err == f"error: run is in use by {owner}; wait for it or stop it\n"
        process.send_signal(2)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert err == (
        "ending after the evaluations that run now; once more to end at once\n"
        "error: interrupted; all finished trials are safe. Continue with: nas resume run\n"
    )
    assert nas("status", "run").out.startswith("stopped\n")
    done = len(json.loads(nas("logs", "run", "--json").out))
    assert nas("resume", "run", "--set", f"budget.trials={done + 1}").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")
def test_a_terminal_shows_a_live_panel_while_evaluations_run(nas):
    ours, theirs = pty.openpty()
    process = started(
        nas, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    )
    os.close(theirs)
    time.sleep(1.0)
    process.send_signal(2)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # the other side is closed
    os.close(ours)
    process.wait(timeout=30)
    text = shown.decode()
    for words in ("trials", "/100", "failed, reused", "best accuracy", "best params", "hypervolume", "left"):
        assert words in text
    assert text.count("hypervolume") > 2, "the panel must be drawn again and again"
    logs = (nas.folder / "run" / "logs").iterdir()
    assert not any("hypervolume" in log.read_text() for log in logs)
