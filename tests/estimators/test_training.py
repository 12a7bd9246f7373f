from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nas
from nas.architecture import Fixed
from nas.budget import Budget
from nas.errors import BadInput, Diverged, StorageError, UnknownMetric
from nas.estimators.fit import Fit
from nas.estimators.recipe import Recipe
from nas.estimators.training import TrainingEvaluator
from nas.evaluator import Combined
from nas.memo import Memoized
from nas.parts import Search
from nas.proposal import Failure, Measurement, Proposal, Trial
from nas.run import Run
from nas.tasks.digits import Digits

ALL = ("accuracy", "loss", "train_loss")


class Nets(nas.Space):
    """Small networks for digits, with dropout and batch norm."""

    decisions = (nas.Categorical("width", (4, 8)), nas.Categorical("dropout", (0.0, 0.3)))

    def build(self, architecture):
        w = architecture["width"]
        return nn.Sequential(
            nn.Conv2d(1, w, 3, 2, 1, bias=False),
            nn.BatchNorm2d(w),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(architecture["dropout"]),
            nn.Linear(w * 16, 10),
        )


class Hyper(nas.Space):
    """One network whose training is chosen."""

    decisions = (nas.Categorical("name", ("lr", "learning_rate")), nas.Real("value", -1.0, 1.0))

    def build(self, architecture):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def recipe(self, architecture):
        return {architecture["name"]: architecture["value"]}


SPACE = Nets()
TASK = Digits(limit=300)


def proposal(width=4, dropout=0.3, metrics=ALL, **more):
    return Proposal(SPACE.architecture({"width": width, "dropout": dropout}), metrics, **more)


def evaluator(**settings):
    return TrainingEvaluator(SPACE, TASK, **{"epochs": 3, **settings})


def values(p, *, seed=0, **settings):
    (outcome,) = evaluator(**settings).evaluate([p], seed=seed)
    return dict(outcome.values)


def test_training_learns():
    full = TrainingEvaluator(SPACE, Digits(), epochs=4)
    (outcome,) = full.evaluate([proposal(8, 0.0)], seed=0)
    assert outcome.values["accuracy"] > 0.9
    assert outcome.values["loss"] < 0.4
    assert outcome.values["train_loss"] < 0.4
    assert outcome.weights is None
    assert outcome.seconds > 0


def test_order_and_batching_change_nothing():
    a, b, c = proposal(4), proposal(8), proposal(4, replicate=1)
    together = [dict(o.values) for o in evaluator().evaluate([a, b, c], seed=0)]
    turned = [dict(o.values) for o in evaluator().evaluate([c, b, a], seed=0)]
    assert together == turned[::-1] == [values(p) for p in (a, b, c)]
    assert together[0] != together[2]
    assert values(a, seed=1) != together[0]


def test_only_asked_metrics_are_given():
    assert set(values(proposal(metrics=("loss",)))) == {"loss"}
    with pytest.raises(UnknownMetric, match="'acuracy'; did you mean 'accuracy'"):
        values(proposal(metrics=("acuracy",)))


def test_global_state_is_left_alone():
    torch.manual_seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    first = values(proposal(), augmentation="crop_flip", mixup=0.2)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert states[2] == torch.get_num_threads()
    torch.manual_seed(2)
    assert values(proposal(), augmentation="crop_flip", mixup=0.2) == first


def test_the_data_order_does_not_depend_on_the_architecture():
    class Recorded(nas.Task):
        """Digits that note the order in which they are asked for."""

        classes, metrics, augmentable = 10, TASK.metrics, True
        inputs, targets = TASK.inputs, TASK.targets
        forward, loss, score, example = TASK.forward, TASK.loss, TASK.score, TASK.example
        count = TASK.count

        def batches(self, split, *, seed, samples=None, batch_size=None):
            seeds.append(seed)
            return TASK.batches(split, seed=seed, samples=samples, batch_size=batch_size)

    seeds: list[int] = []
    trained = TrainingEvaluator(SPACE, Recorded(), epochs=2)
    trained.evaluate([proposal(4), proposal(8), proposal(4, replicate=1)], seed=0)
    first, second, third = seeds[0:2], seeds[2:4], seeds[4:6]
    assert first == second
    assert len({*first, *third}) == 4


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_training import proposal, values
print(sorted(values(proposal(4), ema=0.9).items()))
"""


def test_a_fresh_process_gives_the_same_numbers():
    here = Path(__file__).parent
    root = here.parents[1]
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(here)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(root)},
    ).stdout
    assert answer.strip() == str(sorted(values(proposal(4), ema=0.9).items()))


# --- weights and continuing ----------------------------------------------------------------------


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_saved_weights_score_what_was_recorded(tmp_path, ema):
    trained = evaluator(folder=tmp_path, ema=ema)
    p = proposal(8)
    (outcome,) = trained.evaluate([p], seed=0)
    assert outcome.weights == tmp_path / "weights" / f"{p.candidate.key}-r0-f1.pt"
    scored = trained.score(p, outcome.weights, "val")
    assert scored == {m: outcome.values[m] for m in ("accuracy", "loss")}
    assert trained.score(p, outcome.weights, "test") != scored
    module = trained.load(p, outcome.weights)
    assert not any(part.training for part in module.modules())
    assert TASK.score(module, "val") == scored
    assert [f.name for f in (tmp_path / "weights").iterdir()] == [outcome.weights.name]
    assert not (tmp_path / "checkpoints").exists()


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "broken.pt"
    path.write_bytes(b"PK")
    with pytest.raises(StorageError, match=r"broken\.pt cannot be read"):
        evaluator().load(proposal(), path)


SETTINGS = [
    {"epochs": 3, "ema": 0.9},
    {"epochs": 2, "optimizer": "adamw", "lr": 0.01, "mixup": 0.4, "augmentation": "crop", "clip": 1.0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["sgd-ema", "adamw-mixup"])
def test_continuing_equals_training_straight_through(tmp_path, settings):
    straight = evaluator(folder=tmp_path / "straight", **settings)
    resumed = evaluator(folder=tmp_path / "resumed", **settings)
    (expected,) = straight.evaluate([proposal()], seed=0)
    parts = [proposal(fidelity=0.3), proposal(fidelity=0.55, continues=0), proposal(continues=1)]
    outcomes = [resumed.evaluate([p], seed=0)[0] for p in parts]
    assert dict(outcomes[-1].values) == dict(expected.values)
    assert dict(outcomes[0].values) != dict(outcomes[1].values)
    ours, theirs = (torch.load(o.weights, weights_only=True) for o in (outcomes[-1], expected))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_continuing_does_only_the_remaining_steps(tmp_path, caplog):
    trained = evaluator(folder=tmp_path)
    trained.evaluate([proposal(fidelity=0.5)], seed=0)
    with caplog.at_level(logging.INFO, logger="nas"):
        trained.evaluate([proposal(continues=0)], seed=0)
    assert "goes on from step 6/12" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="nas"):
        trained.evaluate([proposal()], seed=0)
        trained.evaluate([proposal(continues=0)], seed=9)
        evaluator(folder=tmp_path, lr=0.05).evaluate([proposal(continues=0)], seed=0)
    assert "goes on" not in caplog.text


def test_a_checkpoint_goes_when_what_went_on_from_it_is_stored(tmp_path):
    trained = Memoized(Combined([evaluator(folder=tmp_path)]), SPACE)
    climb = [proposal(fidelity=0.3), proposal(fidelity=0.6, continues=0), proposal(continues=1)]
    twin = proposal(width=8, fidelity=0.3)
    left = []
    for number, p in enumerate([*climb[:1], twin, *climb[1:]]):
        p = replace(p, continues={None: None, 0: 0, 1: 2}[p.continues])
        (outcome,) = trained.worker.evaluate([p], seed=0)
        before = kept(tmp_path)
        if number == 2:
            trained.remember(Trial(9, p, Failure("killed", "as planned")))
            assert kept(tmp_path) == before, "what failed is not stored as done"
        trained.remember(Trial(number, p, outcome))
        left.append((len(before), len(kept(tmp_path))))
    assert left == [(1, 1), (2, 2), (3, 2), (2, 1)]
    assert kept(tmp_path) == [f"{twin.candidate.key}-r0-f0.3.pt"]
    again = evaluator(folder=tmp_path)  # told everything anew, as after a kill
    for number, p in enumerate([twin, replace(twin, fidelity=1.0, continues=0)]):
        again.remember(Trial(number, p, Measurement({"loss": 1.0})))
    assert kept(tmp_path) == []


def test_a_halving_search_keeps_only_what_may_still_be_continued(tmp_path):
    halving = {"name": "halving", "strategy": "grid", "min_fidelity": 1 / 4, "eta": 2}
    settings = {"evaluators": [{"name": "training", "epochs": 2}], "strategy": halving, "memo": "off"}
    run = Run(Search(SPACE, budget=Budget(trials=14), task=TASK, **settings), tmp_path)
    assert run.search()
    run.close()
    trials = run.history.trials
    continued = {t.proposal.continues for t in trials} - {None}
    low = [t for t in trials if t.proposal.fidelity < 1]
    names = {t.number: t.outcome.weights.name for t in low}
    may_go_on = {names[t.number] for t in low if t.number not in continued}
    assert {names[number] for number in continued} - may_go_on, "something went on and is not needed"
    assert set(kept(tmp_path)) <= may_go_on
    there = {path.name for path in (tmp_path / "weights").iterdir()}
    assert there <= may_go_on | {m.weights.name for m in run.result.front()}


def kept(folder):
    """Names of the checkpoints in a folder."""
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


def test_without_a_folder_continuing_trains_from_the_start():
    assert values(proposal(continues=4)) == values(proposal())


def test_fidelity_truncates_the_full_schedule(caplog):
    with caplog.at_level(logging.INFO, logger="nas"):
        values(proposal(fidelity=1 / 3), warmup=0.0, lr=0.2)
    (message,) = [r.getMessage() for r in caplog.records]
    assert message.startswith("epoch 1/3, step 4/12")
    assert message.endswith(f"lr {0.1 * (1 + math.cos(math.pi * 3 / 12)):.3g}")
    low, full = values(proposal(fidelity=1 / 3)), values(proposal())
    assert low != full
    assert values(proposal(), epochs=1) != low


def test_some_samples_only():
    p = proposal(samples=tuple(range(30)), dropout=0.0)
    assert values(p)["accuracy"] < values(proposal(dropout=0.0))["accuracy"]


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"warmup": -0.1}, r"warmup must lie in \[0, 1\)"),
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'; did you mean 'sgd'"),
        ({"schedule": "step"}, "unknown schedule 'step'"),
        ({"augmentation": "flop"}, "did you mean 'flip'"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"threads": 0}, "threads must be a whole number"),
        ({"device": "tpu9"}, "device must be"),
        ({"device": "cuda:99"}, "device must be a device of this machine"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(BadInput, match=message):
        evaluator(**setting)


def test_the_spaces_recipe_overrides_and_is_checked():
    space = Hyper()
    trained = TrainingEvaluator(space, TASK, epochs=2, lr=0.3)
    plain = TrainingEvaluator(space, TASK, epochs=2, lr=0.01)

    def loss(e, name, value):
        architecture = space.architecture({"name": name, "value": value})
        return e.evaluate([Proposal(architecture, ("loss",))], seed=0)[0].values["loss"]

    assert loss(trained, "lr", 0.05) == loss(plain, "lr", 0.05)
    assert loss(trained, "lr", 0.05) != loss(plain, "lr", 0.06)
    with pytest.raises(BadInput, match="unknown training setting 'learning_rate'"):
        loss(trained, "learning_rate", 0.1)
    with pytest.raises(BadInput, match="lr must be above 0"):
        loss(trained, "lr", -0.5)


def test_every_setting_changes_training():
    base = values(proposal(8))
    for setting in (
        {"optimizer": "adamw"},
        {"lr": 0.05},
        {"weight_decay": 0.01},
        {"momentum": 0.5},
        {"schedule": "linear"},
        {"schedule": "constant"},
        {"warmup": 0.5},
        {"label_smoothing": 0.1},
        {"ema": 0.9},
        {"augmentation": "flip"},
        {"augmentation": "crop"},
        {"mixup": 0.2},
        {"batch_size": 32},
        {"clip": 0.1},
    ):
        assert values(proposal(8), **setting) != base, setting


def test_smoothing_is_that_of_torch():
    torch_rng = torch.Generator().manual_seed(0)
    output, y = torch.randn(9, 10, generator=torch_rng), torch.arange(9)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    fit = Fit(model, TASK, Recipe(label_smoothing=0.2), seed=0, replicate=0)
    expected = nn.functional.cross_entropy(output, y, label_smoothing=0.2)
    assert torch.allclose(fit._smoothed(output, (None, y)), expected, atol=1e-6)


def test_averaged_weights_follow_the_trained_ones_and_share_their_statistics():
    model = SPACE.module(proposal().candidate)
    fit = Fit(model, TASK, Recipe(epochs=1, ema=0.99), seed=0, replicate=0)
    trace = []
    for step in range(1, 4):
        fit.run(step)
        trace.append(model[0].weight.detach().clone())
    average = trace[0]
    for t, weight in enumerate(trace[1:], 1):
        average = torch.lerp(average, weight, 1 - (1 + t) / (10 + t))
    assert torch.allclose(fit.scored[0].weight, average, atol=1e-6)
    assert torch.equal(fit.scored[1].running_mean, model[1].running_mean)
    assert not torch.equal(fit.scored[0].weight, model[0].weight)


def regression():
    x = torch.linspace(-1, 1, 64).reshape(64, 1)
    loader = DataLoader(TensorDataset(x, 3 * x), batch_size=16, shuffle=True)
    return nas.Task.from_loaders(loader, loader, loss=nn.MSELoss())


class Line(nas.Space):
    decisions = (nas.Categorical("bias", (True, False)),)

    def build(self, architecture):
        return nn.Linear(1, 1, bias=architecture["bias"])


def test_a_users_loaders_train_as_well():
    space, task = Line(), regression()
    p = Proposal(space.architecture({"bias": True}), ("loss",))
    trained = TrainingEvaluator(space, task, epochs=30, lr=0.1, weight_decay=0.0)
    assert trained.metrics == {"loss", "train_loss"}
    (one,), (two,) = trained.evaluate([p], seed=0), trained.evaluate([p], seed=0)
    assert one.values == two.values
    assert one.values["loss"] < 0.01


@pytest.mark.parametrize("setting", [{"mixup": 0.1}, {"augmentation": "flip"}, {"label_smoothing": 0.1}])
def test_settings_that_the_data_does_not_allow(setting):
    with pytest.raises(BadInput, match="for a task without"):
        TrainingEvaluator(Line(), regression(), **setting)


# --- other candidates, failures -------------------------------------------------------------------


def baseline() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_a_fixed_candidate_is_scored_and_not_trained(tmp_path):
    with torch.random.fork_rng(devices=[]):
        expected = TASK.score(baseline(), "val"), TASK.score(baseline(), "train")["loss"]
    (outcome,) = evaluator(folder=tmp_path).evaluate([Proposal(Fixed(baseline), ALL)], seed=0)
    assert dict(outcome.values) == {**expected[0], "train_loss": expected[1]}
    assert outcome.weights is None


def test_mixtures_and_gradients_are_refused():
    mixture = nas.Mixture({"width": [0.5, 0.5], "dropout": [1, 0]})
    with pytest.raises(BadInput, match="candidate must be an architecture"):
        evaluator().evaluate([Proposal(mixture, ("loss",))], seed=0)
    with pytest.raises(BadInput, match="gradient must be 'none'"):
        evaluator().evaluate([proposal(gradient="first")], seed=0)


class Bursting(nas.Space):
    decisions = (nas.Categorical("how", ("nan", "large")),)

    def build(self, architecture):
        return Burst(architecture["how"])


class Burst(nn.Module):
    """Logits that stop being numbers, or grow, from the 31st step on."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.calls = how, 0
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        self.calls += self.training
        factor = 1.0 if self.calls <= 30 else float("nan") if self.how == "nan" else 1e4
        return self.linear(x.flatten(1)) * factor


@pytest.mark.parametrize(
    ("how", "message"), [("nan", "loss became nan at step 30 of 120"), ("large", "loss rose above 10 times")]
)
def test_divergence_ends_training_early(how, message):
    space = Bursting()
    p = Proposal(space.architecture({"how": how}), ("loss",))
    before = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(Diverged, match=message):
        TrainingEvaluator(space, TASK, epochs=30, lr=0.01).evaluate([p], seed=0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_num_threads()


@pytest.mark.cuda
def test_training_on_cuda_repeats(tmp_path):
    trained = evaluator(device="cuda:0", folder=tmp_path, epochs=5)
    (one,), (two,) = trained.evaluate([proposal(8)], seed=0), trained.evaluate([proposal(8)], seed=0)
    assert one.values == two.values
    assert trained.score(proposal(8), one.weights, "val")["accuracy"] == one.values["accuracy"]
