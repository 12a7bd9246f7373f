"""Trainings before a search: counted, kept, continued, and used by what follows."""

from __future__ import annotations

import json

import pytest
import torch
from shared_weights import Wide, blobs, seeded_supernet

import nas
from nas.budget import Budget
from nas.errors import BadInput, Incompatible, RunFailed, StorageError
from nas.estimators.paths import PathsEvaluator
from nas.parts import Parts, Search
from nas.report.html import report
from nas.result import Result
from nas.run import Run
from nas.stage import Stage
from nas.strategies.fair import Fair
from nas.strategies.path_sampler import PathSampler
from nas.strategies.uniform import Uniform
from nas.tally import CURVE, SKIPPED, Tally, TallyHistory

SPACE, TASK = Wide(), blobs()
EPOCHS, STEPS = 5, 30


class NeverZero(PathSampler):
    """Paths whose outputs depend on their inputs."""

    def paths(self, round, rng, before):
        return self.train([SPACE.architecture({**SPACE.sample(rng), "op": "skip"})], round)


def stage(folder, *, sampler=Uniform, task=TASK, budget=10**9, lr=0.05):
    evaluator = PathsEvaluator(task, seeded_supernet(SPACE), lr=lr)
    strategy = sampler(space=SPACE, task=task, epochs=EPOCHS)
    return Stage("uniform", SPACE, strategy, evaluator, Budget(trials=budget), 0, folder)


def trained(made):
    study = made.study()
    made.train(study)
    return study, {k: v.clone() for k, v in made.evaluator.supernet.state_dict().items()}


@pytest.mark.parametrize("sampler", [Uniform, Fair])
def test_cut_and_continued_equals_straight(tmp_path, sampler):
    straight, expected = trained(stage(None, sampler=sampler))
    trained(stage(tmp_path, sampler=sampler, budget=10))
    study, found = trained(stage(tmp_path, sampler=sampler))
    assert study.spent.trials == straight.spent.trials
    assert all(torch.equal(expected[k], v) for k, v in found.items())


def test_what_is_trained_already_is_not_trained_again(tmp_path):
    _, expected = trained(stage(tmp_path))
    again = stage(tmp_path)
    again.evaluator.evaluate = None  # would fail if it were called
    study, found = trained(again)
    assert study.spent.trials == STEPS
    assert all(torch.equal(expected[k], v) for k, v in found.items())


def test_the_tally_counts_options_and_losses(tmp_path):
    trained(stage(tmp_path))
    tally = json.loads((tmp_path / "tally.json").read_text())
    assert tally["used"]["trials"] == STEPS
    assert tally["skipped"] == 0
    assert sum(tally["chosen"]["width"].values()) == STEPS
    assert set(tally["chosen"]["op"]) <= {"conv", "skip", "zero"}
    assert len(tally["losses"]) == STEPS
    assert sum(tally["losses"][-6:]) < sum(tally["losses"][:6])


def test_a_long_curve_is_halved():
    from nas.proposal import Measurement, Proposal, Trial

    tally = Tally()
    a = SPACE.architecture({"width": 4, "kernel": 3, "depth": 1, "op": "skip"})
    for i in range(4 * CURVE + 1):
        tally.add(Trial(i, Proposal(a, ("train_loss",)), Measurement({"train_loss": float(i)})))
    assert tally.width == 4
    assert tally.losses[0] == pytest.approx(1.5)
    again = Tally(json.loads(json.dumps(tally.to_json())))
    for t in (tally, again):
        t.add(Trial(0, Proposal(a, ("train_loss",)), Measurement({"train_loss": 0.0})))
    assert again.to_json() == tally.to_json()


def test_training_that_only_fails_ends_with_the_cause(tmp_path):
    with pytest.raises(RunFailed, match="loss became"):
        trained(stage(tmp_path, sampler=NeverZero, task=blobs(spoiled=tuple(range(96)))))


def test_too_many_skipped_steps_in_a_row_end_it():
    from nas.proposal import Failure, Proposal, Trial

    tally = Tally()
    a = SPACE.architecture({"width": 4, "kernel": 3, "depth": 1, "op": "skip"})
    failed = Trial(0, Proposal(a, ("train_loss",)), Failure("diverged", "the loss became nan"))
    for _ in range(SKIPPED - 1):
        tally.add(failed)
    with pytest.raises(RunFailed, match="the last one because: the loss became nan"):
        tally.add(failed)


def test_a_signal_within_a_step_keeps_no_half_of_it(tmp_path):
    _, expected = trained(stage(None))
    cut = stage(tmp_path)
    step, calls = cut.evaluator._optimizer.step, []

    def interrupted():
        step()
        calls.append(None)
        if len(calls) == 13:
            raise KeyboardInterrupt

    cut.evaluator._optimizer.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        trained(cut)
    study, found = trained(stage(tmp_path))
    assert study.spent.trials == STEPS
    assert all(torch.equal(expected[k], v) for k, v in found.items())


def test_where_the_last_weights_are_damaged_those_before_are_taken(tmp_path, caplog):
    _, expected = trained(stage(None))
    trained(stage(tmp_path, budget=10))
    trained(stage(tmp_path, budget=20))
    last = max(tmp_path.glob("weights-*.pt"), key=lambda file: int(file.stem.partition("-")[2]))
    last.write_bytes(last.read_bytes()[:-100])
    _, found = trained(stage(tmp_path))
    assert "going on from those before" in caplog.text
    assert all(torch.equal(expected[k], v) for k, v in found.items())


def test_weights_that_cannot_be_written_end_the_training_and_leave_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nas.estimators.weights.os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        trained(stage(tmp_path))
    assert not list(tmp_path.glob("weights-*"))


def test_a_skipped_group_is_one_skipped_step():
    from nas.proposal import Failure, Proposal, Trial

    a = SPACE.architecture({"width": 4, "kernel": 3, "depth": 1, "op": "skip"})
    tally = Tally()
    for i in range(SKIPPED - 1):
        for position in range(4):
            failure = Failure("diverged", "the loss became nan")
            tally.add(
                Trial(4 * i + position, Proposal(a, ("train_loss",)), failure, position=position, size=4)
            )
    assert tally.skipped == SKIPPED - 1
    assert tally.used["trials"] == 4 * (SKIPPED - 1)


def test_damaged_weights_are_named(tmp_path):
    trained(stage(tmp_path))
    for file in tmp_path.glob("weights-*.pt"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(nas.NasError, match="cannot be read"):
        stage(tmp_path).study()


def test_another_supernets_weights_are_refused(tmp_path):
    from shared_weights import Mixed

    trained(stage(tmp_path))
    other = PathsEvaluator(TASK, seeded_supernet(Mixed()))
    with pytest.raises(BadInput, match="must be of supernet"):
        TallyHistory(other, tmp_path)


def search(**given):
    stages = [{"strategy": {"name": "uniform", "epochs": EPOCHS}}]
    return Search(
        **{
            "space": SPACE,
            "task": blobs(),
            "objectives": "max accuracy, min params",
            "budget": Budget(trials=8),
            "stages": stages,
            "evaluators": ["inherited"],
            "strategy": "random",
            **given,
        }
    )


def values(front):
    return sorted((m.values["params"], m.values["accuracy"]) for m in front)


def test_a_search_on_trained_weights(tmp_path):
    said = []
    run = Run(search(), tmp_path / "a", trained=lambda label, _: said.append(label))
    front = run.search()
    run.close()
    assert len(front)
    assert all(label == "stage 1 of 1 (uniform)" for label in said)
    again = Run(search(), tmp_path / "a")
    assert values(again.search()) == values(front)
    again.close()
    other = Run(search(executor={"name": "processes", "workers": 2}, batch=4), tmp_path / "b")
    batched = other.search()
    other.close()
    here = Run(search(batch=4), tmp_path / "c")
    assert values(here.search()) == values(batched)
    here.close()


def test_a_run_that_is_read_inherits_the_trained_weights(tmp_path):
    run = Run(search(), tmp_path)
    front = run.search()
    run.close()
    parts = Parts(search(), tmp_path)
    again = Result(parts, run.history, tmp_path)
    page = report(again)
    assert "Training of shared weights" in page
    assert "<td>uniform</td><td>30</td><td>0</td>" in page
    member = front.best("accuracy")
    file = again.train(member)
    module, kept = (parts.trainer().load(again._proposal(member), p) for p in (file, again._weights(member)))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), kept.parameters(), strict=True))
    for file in (tmp_path / "stages").rglob("*.*"):
        file.unlink()
    with pytest.raises(StorageError, match="nas resume trains them"):
        Result(Parts(search(), tmp_path), run.history, tmp_path).train(member)


def test_weights_get_better_by_training():
    untrained = nas.search(
        space=SPACE, task=blobs(), evaluator=["inherited"], trials=6, strategy="random", seed=1
    )
    stages = [{"strategy": {"name": "uniform", "epochs": 20}, "evaluators": [{"name": "paths", "lr": 0.1}]}]
    front = nas.search(
        space=SPACE, task=blobs(), evaluator=["inherited"], trials=6, strategy="random", seed=1, stages=stages
    )
    assert front.best("accuracy").values["accuracy"] > untrained.best("accuracy").values["accuracy"] + 0.2


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        ([{"evaluators": ["paths"]}], BadInput, "stages.0.strategy: must be given|strategy must be given"),
        ([{"strategy": "uniform", "epochs": 3}], BadInput, "epochs"),
        ([{"strategy": "uniform", "evaluators": ["training"]}], BadInput, "must train shared weights"),
        ([{"strategy": "uniform", "evaluators": ["paths", "paths"]}], BadInput, "must be one that trains"),
        ([{"strategy": {"name": "uniform", "epochs": 0}}], BadInput, "epochs"),
    ],
)
def test_wrong_stages(tmp_path, stages, error, message):
    with pytest.raises(error, match=message):
        Run(search(stages=stages), tmp_path)


def test_a_space_without_a_supernet_is_refused(tmp_path):
    with pytest.raises((Incompatible, BadInput), match="supernet"):
        Run(search(space="mlp", task="digits"), tmp_path)


def test_other_stages_are_another_run(tmp_path):
    Run(search(), tmp_path).close()
    other = [{"strategy": {"name": "uniform", "epochs": EPOCHS + 1}}]
    with pytest.raises(BadInput, match="stages"):
        Run(search(stages=other), tmp_path)
