"""``nas status``, ``logs``, ``front`` and ``export``: reading a run, also one that was moved."""

from __future__ import annotations

import json
import shutil

import torch


def test_status_says_how_far_a_run_is(quick):
    answer = quick("status", "run")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == "ended: budget.trials reached"
    assert lines[1].split() == ["trials", "6", "of", "6", "(100", "%)"]
    assert lines[-1] == "give it more with: nas resume run --budget trials=12"
    assert not any("continue with" in line for line in lines)
    found = json.loads(quick("status", "run", "--json").out)
    assert found["spent"]["trials"] == found["budget"]["trials"] == 6
    assert found["state"] == lines[0]


def test_status_of_an_unfinished_run_says_how_to_go_on(quick):
    config = json.loads((quick.folder / "run" / "config.json").read_text())
    config["config"]["budget"]["trials"] = 9
    quick.write("run/config.json", json.dumps(config))
    lines = quick("status", "run").out.splitlines()
    assert lines[0] == "stopped"
    assert lines[-1] == "continue with: nas resume run"


def test_logs_have_a_line_for_each_trial(quick):
    lines = quick("logs", "run").out.splitlines()
    assert len(lines) == 6
    assert lines[2].split()[:3] == ["2", "search", "accuracy"]
    one = json.loads(quick("logs", "run", 2, "--json").out)
    assert one["number"] == 2
    assert one["log"] == ""
    assert "(it logged nothing)" in quick("logs", "run", 2).out


def test_the_front_lists_members_by_trial(quick):
    members = json.loads((quick.folder / "run" / "front.json").read_text())["members"]
    shown = json.loads(quick("front", "run", "--json").out)
    assert [m["trial"] for m in shown["members"]] == [m["trial"] for m in members]
    lines = quick("front", "run").out.splitlines()
    assert lines[0].split() == ["trial", "accuracy", "params"]
    assert [int(line.split()[0]) for line in lines[1 : 1 + len(members)]] == [m["trial"] for m in members]
    choices = members[0]["architecture"]
    assert (
        lines[1 + len(members)]
        == f"trial {members[0]['trial']}: width={choices['width']} act={choices['act']}"
    )


def test_wide_tables_are_not_cut_where_there_is_no_terminal(trained):
    answer = trained("front", "run", "--test", "--retrain", 2)
    header, first = answer.out.splitlines()[:2]
    assert len(header) == len(first) > 80
    assert "test accuracy mean of 2" in header


def test_the_test_split_is_scored_by_the_kept_weights(trained):
    from nas.cli.opened import found, opened

    shown = json.loads(trained("front", "run", "--test", "--json").out)["members"]
    result = opened(found(trained.folder / "run", None, None))
    task = result.parts.task
    for member, row in zip(result.front(), shown, strict=True):
        module = result.parts.space.build(member.architecture)
        module.load_state_dict(torch.load(trained.folder / "run" / "weights" / member.weights.name))
        assert row["test"] == dict(task.score(module.eval(), "test"))
        assert row["values"]["accuracy"] == task.score(module.eval(), "val")["accuracy"]
    assert "best on validation data" in trained("front", "run", "--test").out


def test_training_again_gives_a_mean_and_a_spread(trained):
    rows = json.loads(trained("front", "run", "--retrain", 2, "--json").out)["members"]
    assert all(0 <= row["test"]["accuracy mean of 2"] <= 1 for row in rows)
    assert any(row["test"]["loss std"] > 0 for row in rows)
    assert not list((trained.folder / "run" / "weights").glob("*-r1-*"))


def test_export_writes_the_front_or_one_of_it(trained):
    members = json.loads((trained.folder / "run" / "front.json").read_text())["members"]
    trial = members[-1]["trial"]
    answer = trained("export", "run", "--format", "json", "--trial", trial, "--out", "one", "--json")
    name = f"trial_{trial:04d}"
    assert json.loads(answer.out) == [f"one/{name}/{name}.json", f"one/{name}/{name}.pt"]
    answer = trained("export", "run", "--format", "pt2,json")
    assert answer.code == 0
    assert len(list((trained.folder / "run" / "export").iterdir())) == len(members)
    program = torch.export.load(trained.folder / "run" / "export" / name / f"{name}.pt2").module()
    assert program(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    answer = trained("export", "run", "--format", "pt9")
    assert answer.code == 2
    assert "unknown exporter 'pt9'" in answer.err


def test_export_fine_tunes_first_on_request(trained):
    trial = json.loads((trained.folder / "run" / "front.json").read_text())["members"][-1]["trial"]
    words = ("export", "run", "--format", "json", "--trial", trial, "--fine-tune", 1, "--lr", 0.02)
    answer = trained(*words)
    assert answer.code == 0, answer.err
    assert f"trial {trial} has after 1 epochs of fine-tuning, on the test split: accuracy" in answer.out
    found = json.loads(trained(*words, "--json").out)
    assert set(found["test"][str(trial)]) == {"accuracy", "loss"}
    assert [name.rpartition(".")[2] for name in found["files"]] == ["json", "pt"]
    facts = json.loads((trained.folder / found["files"][0]).read_text())
    assert facts["provenance"]["fine_tuned_epochs"] == 1
    answer = trained("export", "run", "--fine-tune", 1, "--lr", 0)
    assert answer.code == 2
    assert "lr must" in answer.err


def test_a_moved_run_opens_without_the_sources_of_its_user(trained, monkeypatch):
    before = trained("front", "run", "--test", "--json").out
    place = trained.folder / "elsewhere"
    place.mkdir()
    shutil.move(trained.folder / "run", place / "moved")
    (trained.folder / "own.py").unlink()
    (trained.folder / "trained.yaml").unlink()
    monkeypatch.chdir(place)
    assert trained("front", "moved", "--test", "--json").out == before
    assert trained("export", "moved", "--format", "json").code == 0
    assert trained("status", "moved").code == 0
    assert trained("resume", "moved", "--set", "budget.trials=5").code == 0


def test_weights_that_are_gone_are_told(trained):
    for path in (trained.folder / "run" / "weights").iterdir():
        path.unlink()
    for command in (("front", "run", "--test"), ("export", "run")):
        answer = trained(*command)
        assert answer.code == 2
        assert "must have its weights kept" in answer.err


def test_scores_on_other_data_are_refused(trained, monkeypatch):
    from nas.tasks.digits import Digits

    monkeypatch.setattr(Digits, "fingerprint", lambda _: "0" * 32)
    for option in (("--test",), ("--retrain", 1)):
        answer = trained("front", "run", *option)
        assert answer.code == 2
        assert "the data must be those of the run, with fingerprint" in answer.err
    assert trained("front", "run").code == 0


def test_a_damaged_run_is_told(quick):
    quick.write("run/config.json", "{")
    answer = quick("status", "run")
    assert answer.code == 2
    assert "config.json must be as it was written" in answer.err
    (quick.folder / "run" / "config.json").unlink()
    assert "run must be a folder made by 'nas search'" in quick("status", "run").err
