"""What can be done with what a run found."""

from __future__ import annotations

import json

import pytest
import torch
from test_run import DIGITS, TRAINING, Flat

from nas.budget import Budget
from nas.errors import BadInput, RunFailed
from nas.parts import Search
from nas.result import versions
from nas.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    wanted = Search(
        Flat(), "max accuracy, min params", Budget(trials=4), DIGITS, evaluators=[TRAINING], strategy="random"
    )
    finished = Run(wanted, tmp_path_factory.mktemp("result") / "run")
    finished.search()
    yield finished
    finished.close()


def test_values_on_the_test_split_belong_to_the_kept_weights(run):
    result, front = run.result, run.result.front()
    rows = result.test(list(front))
    trainer = result.parts.trainer()
    for member, row in zip(front, rows, strict=True):
        proposal = result._proposal(member)
        assert trainer.score(proposal, member.weights, "val")["accuracy"] == member.values["accuracy"]
        assert row == trainer.score(proposal, member.weights, "test")


def test_training_again_differs_by_seed_and_repeats(run):
    member = run.result.front()[0]
    first, second = run.result.retrain(member, 2), run.result.retrain(member, 2)
    assert first == second
    assert first[0]["loss"] != first[1]["loss"]
    assert run.result.test([member])[0]["loss"] not in [row["loss"] for row in first]


def test_training_replicate_zero_again_gives_the_scored_weights(run):
    member = run.result.front()[0]
    before = member.weights.read_bytes()
    assert run.result.train(member).resolve() == member.weights.resolve()
    assert run.result.test([member]) == run.result.test([member])
    assert member.weights.stat().st_size == len(before)


def test_fine_tuning_goes_on_from_the_kept_weights_and_repeats(run):
    result, member = run.result, run.result.front()[0]
    before = result.test([member])[0]
    kept = member.weights.read_bytes()
    one, again, longer = (result.fine_tune(member, epochs, lr=0.05) for epochs in (3, 3, 6))
    assert one.test == again.test
    assert one.test["loss"] < before["loss"]
    assert longer.test["loss"] < one.test["loss"]
    assert member.weights.read_bytes() == kept
    task = result.parts.task
    assert (task.score(one.module, "val"), task.score(one.module, "test")) == (one.val, one.test)
    still = result.fine_tune(member, 1, lr=1e-9)
    assert still.test["loss"] == pytest.approx(before["loss"], rel=1e-4)


def test_fine_tuning_of_nothing_is_refused(run):
    member = run.result.front()[0]
    with pytest.raises(BadInput, match="epochs must be a whole number of at least 1"):
        run.result.fine_tune(member, 0)
    with pytest.raises(BadInput, match="lr must"):
        run.result.fine_tune(member, 1, lr=-1.0)


def test_what_was_fine_tuned_is_exported_as_such(run, tmp_path):
    result, member = run.result, run.result.front()[-1]
    tuned = result.fine_tune(member, 2)
    facts, weights = result.export([member], tmp_path, ["json"], {member.trial: tuned})
    content = json.loads(facts.read_text())
    assert content["provenance"]["fine_tuned_epochs"] == 2
    assert content["metrics"] == {"accuracy": tuned.val["accuracy"], "params": member.values["params"]}
    module = result.parts.space.build(member.architecture).eval()
    module.load_state_dict(torch.load(weights, weights_only=True))
    assert result.parts.task.score(module, "test") == tuned.test


def test_a_training_that_fails_is_told(run, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("out of luck")

    monkeypatch.setattr(type(run.result.parts.task), "batches", broken)
    with pytest.raises(RunFailed, match="could not be trained again: ValueError: out of luck"):
        run.result.retrain(run.result.front()[0], 1)


def test_exports_are_named_by_trial(run, tmp_path):
    member = run.result.front()[-1]
    written = run.result.export([member], tmp_path, ["json"])
    assert [path.name for path in written] == [
        f"trial_{member.trial:04d}.json",
        f"trial_{member.trial:04d}.pt",
    ]
    with pytest.raises(BadInput, match="unknown exporter 'jsn'; did you mean 'json'"):
        run.result.export([member], tmp_path / "other", ["jsn"])
    assert not (tmp_path / "other").exists()


def test_lost_weights_are_told(run):
    member = run.result.front()[0]
    kept = member.weights.rename(member.weights.with_suffix(".away"))
    try:
        with pytest.raises(BadInput, match=f"trial {member.trial} must have its weights kept"):
            run.result.test([member])
    finally:
        kept.rename(member.weights)


def test_versions_name_what_decides_on_results():
    assert {"python", "torch", "numpy", "optuna", "nas-toolkit"} <= set(versions())
