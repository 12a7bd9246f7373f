"""Scores with inherited weights: whose they are, how their batch norms are calibrated, and what is kept."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nas
from nas.architecture import Fixed, Mixture
from nas.budget import Budget
from nas.errors import BadInput, StorageError, UnknownMetric
from nas.estimators.calibration import calibrate
from nas.estimators.inherited import InheritedEvaluator
from nas.executors.processes import Processes
from nas.memo import Memoized
from nas.objective import parse_objectives
from nas.parts import Search
from nas.proposal import CHECKSUM, Measurement, Proposal
from nas.rng import derive, stream
from nas.run import Run
from nas.sharing import (
    Choice,
    ElasticConv2d,
    ElasticLinear,
    ElasticNorm,
    ElasticSequential,
    ElasticSpace,
    Zero,
)
from nas.spaces.nasbench201 import NasBench201Space
from nas.spaces.nasbench_macro import NasBenchMacroSpace
from nas.strategies.random_search import RandomSearch
from nas.study import Study
from nas.tasks.digits import Digits

ALL = ("accuracy", "loss")
TASK = Digits(limit=300)


class Convs(ElasticSpace):
    """Width, kernel, depth and an operation are chosen; there are batch norms and dropout."""

    decisions = (
        nas.Categorical("width", (4, 8)),
        nas.Categorical("kernel", (3, 5)),
        nas.Integer("depth", 1, 2),
        nas.Categorical("op", ("conv", "skip", "zero")),
    )

    def elastic(self):
        return nn.Sequential(
            ElasticConv2d(1, 8, 5, out="width", kernel="kernel", kernel_sizes=(3, 5)),
            ElasticNorm(nn.BatchNorm2d(8)),
            nn.ReLU(),
            ElasticSequential([self._block() for _ in range(2)], depth="depth"),
            Choice(
                "op", {"conv": ElasticConv2d(8, 8, 1, out="width"), "skip": nn.Identity(), "zero": Zero()}
            ),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            ElasticLinear(32, 10),
        )

    def _block(self):
        return nn.Sequential(
            ElasticConv2d(8, 8, 3, groups=8), ElasticNorm(nn.BatchNorm2d(8, momentum=0.2)), nn.ReLU()
        )

    def example(self):
        return torch.zeros(1, 1, 8, 8)


class Norms(ElasticSpace):
    """No batch norm: nothing to calibrate."""

    decisions = (nas.Categorical("width", (4, 8)),)

    def elastic(self):
        return nn.Sequential(
            nn.Flatten(),
            ElasticLinear(64, 8, out="width"),
            ElasticNorm(nn.LayerNorm(8)),
            ElasticLinear(8, 10),
        )

    def example(self):
        return torch.zeros(1, 1, 8, 8)


SPACES = {
    "convs": Convs(),
    "norms": Norms(),
    "nasbench201": NasBench201Space(cells=1, channels=4, nodes=3, input_shape=(1, 8, 8)),
    "nasbench_macro": NasBenchMacroSpace(channels=2, input_shape=(1, 8, 8)),
}
SPACE = SPACES["convs"]


def trained(space, steps=10):
    """A supernet after some steps on random paths."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = space.supernet()
        optimizer = torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9)
        rng = stream(0)
        for batch in list(TASK.batches("train", seed=0)) * steps:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(supernet(TASK.inputs(batch), space.sample(rng)), batch[1])
            if loss.requires_grad:
                loss.backward()
            optimizer.step()
    return supernet


SUPERNET = trained(SPACE)


def evaluator(space=SPACE, supernet=SUPERNET, **settings):
    return InheritedEvaluator(space, TASK, supernet, **settings)


def proposal(metrics=ALL, **more):
    choices = {"width": 4, "kernel": 3, "depth": 2, "op": "conv"}
    return Proposal(SPACE.architecture(choices), metrics, **more)


def values(p, *, seed=0, **settings):
    (outcome,) = evaluator(**settings).evaluate([p], seed=seed)
    return dict(outcome.values)


def noted(inputs, module, x):
    inputs[module].append(x[0].detach())


# --- whose weights, whose statistics -------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_scores_are_those_of_the_own_module_with_copied_weights(name):
    space = SPACES[name]
    supernet, rng = trained(space, steps=1), stream(1)
    chosen = stream(5, "calibration", 0).choice(TASK.count("train"), 100, replace=False)
    for _ in range(3):
        architecture = space.sample(rng)
        own = space.build(architecture)
        own.load_state_dict(supernet.path(architecture).state_dict())
        norms = [m for m in own.modules() if isinstance(m, nn.BatchNorm2d)]
        sums = {norm: [] for norm in norms}
        hooks = [n.register_forward_pre_hook(partial(noted, sums)) for n in norms]
        own.eval()
        for norm in norms:
            norm.train()
        order = derive(5, "calibration", 0)
        for batch in TASK.batches("train", seed=order, samples=sorted(chosen.tolist())):
            own(TASK.inputs(batch))
        for hook in hooks:
            hook.remove()
        for norm in norms:
            norm.running_mean.copy_(torch.stack([x.mean((0, 2, 3)) for x in sums[norm]]).mean(0))
            norm.running_var.copy_(torch.stack([x.var((0, 2, 3)) for x in sums[norm]]).mean(0))
        expected = TASK.score(own.eval(), "val")
        e = InheritedEvaluator(space, TASK, supernet, calibration=100)
        (outcome,) = e.evaluate([Proposal(architecture, ALL)], seed=5)
        assert outcome.values["accuracy"] == expected["accuracy"]
        assert outcome.values["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_without_calibration_the_path_is_scored_as_it_is():
    p = proposal()
    assert values(p, calibration=0) == TASK.score(SUPERNET.path(p.candidate).eval(), "val")
    assert values(p, calibration=0) != values(p)


def test_the_supernet_is_left_as_it_was():
    before = {name: tensor.clone() for name, tensor in SUPERNET.state_dict().items()}
    values(proposal(), fine_tune=1)
    after = SUPERNET.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_weights_are_read_when_a_candidate_is_evaluated():
    supernet = trained(SPACE, steps=1)
    e = evaluator(supernet=supernet)
    (before,) = e.evaluate([proposal()], seed=0)
    supernet.load_state_dict(SUPERNET.state_dict())
    (after,) = e.evaluate([proposal()], seed=0)
    assert before.values != after.values == values(proposal())


def test_calibration_is_the_same_for_all_and_belongs_to_seed_and_replicate():
    asked = [proposal(), proposal(replicate=1)]
    together = [dict(o.values) for o in evaluator(calibration=64).evaluate(asked, seed=0)]
    assert together == [values(p, calibration=64) for p in asked]
    assert together[0] != together[1]
    assert values(proposal(), seed=1, calibration=64) != together[0]
    assert values(proposal(fidelity=0.5), calibration=64) == together[0]


def test_only_norms_train_while_they_are_calibrated():
    path, seen = SUPERNET.path(proposal().candidate), {}

    def note(module, _):
        seen[type(module).__name__] = module.training

    for module in path.modules():
        module.register_forward_pre_hook(note)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    calibrate(path, TASK, 100, seed=0)
    assert torch.equal(state, torch.get_rng_state())
    assert {name for name, training in seen.items() if training} == {"BatchNorm2d"}
    assert not any(module.training for module in path.modules())
    momenta = [m.momentum for m in path.modules() if isinstance(m, nn.BatchNorm2d)]
    assert momenta == [0.1, 0.2, 0.2]


def test_hooks_on_a_path_are_its_own():
    SUPERNET.path(proposal().candidate).apply(lambda module: module.register_forward_hook(print))
    assert not any(module._forward_hooks for module in SUPERNET.modules())
    SPACE.build(proposal().candidate).apply(lambda module: module.register_forward_hook(print))
    assert not any(module._forward_hooks for module in SPACE.build(proposal().candidate).modules())


# --- fine-tuning, fidelity ------------------------------------------------------------------------------


def test_fine_tuning_learns_and_fidelity_truncates_it():
    p = proposal(("loss",))
    losses = [values(q, fine_tune=4, lr=0.05)["loss"] for q in (proposal(("loss",), fidelity=0.25), p)]
    assert values(p)["loss"] > losses[0] > losses[1]
    assert values(p, fine_tune=4, lr=0.05)["loss"] == losses[1]
    assert evaluator(fine_tune=1).multi_fidelity == {"accuracy", "loss"}
    assert evaluator().multi_fidelity == frozenset()


# --- what is kept ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"fine_tune": 1}])
def test_kept_weights_give_the_scores_again(tmp_path, settings):
    e = evaluator(folder=tmp_path, **settings)
    (outcome,) = e.evaluate([proposal()], seed=0)
    assert outcome.weights.parent == tmp_path / "weights"
    assert outcome.notes[CHECKSUM]
    module = e.load(proposal(), outcome.weights)
    assert type(module) is type(SPACE.build(proposal().candidate))
    assert not module.training
    assert TASK.score(module, "val") == outcome.values == e.score(proposal(), outcome.weights, "val")
    outcome.weights.write_bytes(b"nothing")
    with pytest.raises(StorageError, match="cannot be read"):
        e.load(proposal(), outcome.weights)


def test_a_fixed_candidate_is_scored_as_it_is(tmp_path):
    fixed = Fixed(plain)
    (outcome,) = evaluator(folder=tmp_path).evaluate([Proposal(fixed, ALL)], seed=0)
    assert outcome.values["accuracy"] < 0.4
    assert outcome.weights is None


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


# --- in a study -----------------------------------------------------------------------------------------


def test_functions_do_not_share_inherited_accuracies_and_repeats_do():
    space = SPACES["nasbench201"]
    one = space.from_string("|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|")
    memo = Memoized(InheritedEvaluator(space, TASK, trained(space, steps=1)), space)
    other = space.from_string("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|")
    first, again, second = memo.evaluate([Proposal(a, ALL) for a in (one, one, other)], seed=0)
    assert again.reused
    assert not first.reused
    assert not second.reused
    assert memo._evaluator.functional == frozenset()


def test_worker_processes_give_the_same_and_their_weights():
    found = []
    for executor in ({}, {"executor": Processes(workers=1)}):
        study = Study(
            SPACE,
            parse_objectives("max accuracy"),
            evaluator(),
            RandomSearch(SPACE, parse_objectives("max accuracy")),
            seed=2,
            **executor,
        )
        study.run(Budget(trials=3))
        found.append({t.proposal.candidate: dict(t.values) for t in study.history.trials})
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_what_a_run_found_is_tested_fine_tuned_and_exported_as_it_was_scored(tmp_path):
    task = {"name": "digits", "limit": 300}
    evaluators = [{"name": "inherited", "calibration": 100}]
    search = Search(SPACE, "max accuracy", Budget(trials=3), task, evaluators=evaluators, strategy="random")
    run = Run(search, tmp_path / "run")
    run.search()
    result, member = run.result, run.result.front()[0]
    run.close()
    trainer, proposed = result.parts.trainer(), Proposal(member.candidate, ALL)
    assert trainer.score(proposed, member.weights, "val")["accuracy"] == member.values["accuracy"]
    (before,) = result.test([member])
    tuned = result.fine_tune(member, 10, lr=0.1)
    assert tuned.test["loss"] < before["loss"]
    facts, _ = result.export([member], tmp_path / "out", ["json"], {member.trial: tuned})
    assert facts.is_file()


def test_it_pickles_with_the_weights_of_that_moment():
    e = pickle.loads(pickle.dumps(evaluator()))
    (outcome,) = e.evaluate([proposal()], seed=0)
    assert outcome.values == values(proposal())


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibration": 1}, "calibration must be 0 or a whole number of at least 2, got 1"),
        ({"calibration": -2}, "calibration must be 0 or"),
        ({"calibration": 2.5}, "calibration must be 0 or"),
        ({"calibration": True}, "calibration must be 0 or"),
        ({"calibration": 2048}, "calibration must be at most 240, the task's training samples, got 2048"),
        ({"fine_tune": -1}, "fine_tune must be a whole number of at least 0"),
        ({"lr": 0.0}, "lr must"),
        ({"threads": 0}, "threads must"),
        ({"device": "tpu"}, "device must"),
        ({"supernet": None}, "supernet must be that of a space with one"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(BadInput, match=message):
        evaluator(**settings)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"gradient": "first"}, "gradient must be 'none'"), ({"samples": (0, 1)}, "samples must be None")],
)
def test_questions_that_only_training_answers_are_refused(more, message):
    with pytest.raises(BadInput, match=message):
        values(proposal(**more))


def test_mixtures_and_unknown_metrics_are_refused():
    with pytest.raises(BadInput, match="candidate must be an architecture"):
        values(Proposal(Mixture({"op": np.ones(3)}), ALL))
    with pytest.raises(UnknownMetric, match="'acuracy'; did you mean 'accuracy'"):
        values(proposal(("acuracy",)))


def test_batches_of_one_are_refused_where_there_are_batch_norms():
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, torch.arange(6)), batch_size=1)
    task = nas.Task.from_loaders(loader, loader, classes=10)
    e = InheritedEvaluator(SPACE, task, SUPERNET)
    with pytest.raises(BadInput, match=r"batch_size must be at least 2, got 1; .* set calibration: 0"):
        e.evaluate([proposal()], seed=0)
    space = SPACES["norms"]
    e = InheritedEvaluator(space, task, trained(space, 1))
    (outcome,) = e.evaluate([Proposal(space.sample(stream(0)), ALL)], seed=0)
    assert isinstance(outcome, Measurement)
