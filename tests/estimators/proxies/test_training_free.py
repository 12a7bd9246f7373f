"""The evaluator: one module a candidate, what is missing says why, and nothing depends on the company."""

from __future__ import annotations

import math

import cloudpickle
import pytest
import torch
from torch import nn

import nas
from nas.errors import BadInput, UnknownMetric
from nas.estimators import MEASURES
from nas.estimators.proxies import METRICS
from nas.estimators.proxies.probe import Undefined
from nas.estimators.training_free import TrainingFree
from nas.proposal import Failure, Proposal
from nas.registry import create

FIVE = ("grad_norm", "snip", "plain", "fisher", "l2_norm")


class Small(nas.Space):
    """Networks of one or two hidden layers, with ReLU or tanh."""

    decisions = (nas.Categorical("depth", (1, 2)), nas.Categorical("act", ("relu", "tanh")))
    builds = 0

    def build(self, architecture):
        Small.builds += 1
        act = {"relu": nn.ReLU, "tanh": nn.Tanh}[architecture["act"]]
        hidden = [m for _ in range(architecture["depth"] - 1) for m in (nn.Linear(8, 8), act())]
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), act(), *hidden, nn.Linear(8, 10))


@pytest.fixture(scope="module")
def task():
    return create("task", {"name": "digits", "limit": 160})


def proposal(metrics, depth=2, act="relu", **options):
    return Proposal(Small().architecture({"depth": depth, "act": act}), tuple(metrics), **options)


def evaluated(evaluator, asked, seed=0):
    (outcome,) = evaluator.evaluate([asked], seed=seed)
    return outcome


def test_the_module_is_built_once_for_all_metrics(task):
    Small.builds = 0
    outcome = evaluated(TrainingFree(Small(), task), proposal(FIVE))
    assert Small.builds == 1
    assert set(outcome.values) == set(FIVE)
    assert {f"seconds.{m}" for m in FIVE} == set(outcome.notes)
    assert 0 < sum(outcome.notes.values()) <= outcome.seconds


def test_a_metric_is_the_same_in_any_company(task):
    evaluator = TrainingFree(Small(), task)
    together = evaluated(evaluator, proposal(FIVE)).values
    for metric in FIVE:
        assert evaluated(evaluator, proposal((metric,))).values == {metric: together[metric]}
        assert (
            evaluated(TrainingFree(Small(), task, (metric,)), proposal((metric,))).values[metric]
            == together[metric]
        )


def test_weights_follow_seed_and_replicate_and_batches_are_shared(task):
    evaluator = TrainingFree(Small(), task, ("snip", "l2_norm"))
    first, again = (evaluated(evaluator, proposal(("snip", "l2_norm"))).values for _ in range(2))
    assert first == again
    others = [
        evaluated(evaluator, proposal(("snip", "l2_norm"), replicate=1)).values,
        evaluated(evaluator, proposal(("snip", "l2_norm")), seed=1).values,
    ]
    assert len({first["l2_norm"], *(o["l2_norm"] for o in others)}) == 3

    seen = []

    def watched(probe):
        seen.append(probe.inputs)
        return 1.0

    evaluator = TrainingFree(Small(), task, (watched,))
    for depth in (1, 2):
        evaluated(evaluator, proposal(("watched",), depth=depth))
    evaluated(evaluator, proposal(("watched",), replicate=1))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_a_worker_goes_on_as_this_process_would(task):
    evaluator = TrainingFree(Small(), task, FIVE)
    here = evaluated(evaluator, proposal(FIVE)).values
    there = cloudpickle.loads(cloudpickle.dumps(evaluator))
    assert evaluated(there, proposal(FIVE)).values == here


def test_repeats_are_averaged_over_draws(task):
    single = TrainingFree(Small(), task, ("l2_norm",))
    draws = [evaluated(single, proposal(("l2_norm",), replicate=r)).values["l2_norm"] for r in range(3)]
    outcome = evaluated(TrainingFree(Small(), task, ("l2_norm",), repeats=3), proposal(("l2_norm",)))
    mean = sum(draws) / 3
    assert outcome.values["l2_norm"] == pytest.approx(mean, rel=1e-12)
    spread = math.sqrt(sum((d - mean) ** 2 for d in draws) / 3)
    assert outcome.notes["std.l2_norm"] == pytest.approx(spread, rel=1e-9)


def picky(probe):
    """Undefined for networks without ReLU."""
    if not any(isinstance(m, nn.ReLU) for m in probe.module.modules()):
        raise Undefined("the module must have a ReLU, got none")
    return 2.5


def test_what_is_missing_says_why_and_keeps_the_rest(task):
    evaluator = TrainingFree(Small(), task, (picky, "l2_norm"))
    whole = evaluated(evaluator, proposal(("picky", "l2_norm")))
    assert whole.values["picky"] == 2.5
    part = evaluated(evaluator, proposal(("picky", "l2_norm"), act="tanh"))
    assert math.isnan(part.values["picky"])
    assert part.values["l2_norm"] > 0
    assert part.notes["missing.picky"] == "the module must have a ReLU, got none"
    nothing = evaluated(evaluator, proposal(("picky",), act="tanh"))
    assert isinstance(nothing, Failure)
    assert nothing.reason == "picky is missing: the module must have a ReLU, got none"


def test_a_missing_metric_never_enters_a_front(task):
    front = nas.search(
        space=Small(),
        task=task,
        evaluator=TrainingFree(Small(), task, (picky, "l2_norm")),
        objectives="max picky, max l2_norm",
        strategy="grid",
        trials=4,
    )
    assert {member.candidate["act"] for member in front} == {"relu"}


def test_components_are_metrics_of_their_own(task):
    assert {"az_nas_expressivity", "az_nas_trainability"} < TrainingFree(Small(), task, ("az_nas",)).metrics


def test_defaults_leave_out_what_the_task_rules_out(task):
    assert TrainingFree(Small(), task).metrics == {
        v for n, m in METRICS.items() for v in m.components or (n,)
    }
    data = [(torch.randn(4, 64), torch.zeros(4, dtype=torch.int64))]
    one_class = nas.Task.from_loaders(data, data, classes=1, loss=nn.CrossEntropyLoss())
    left = TrainingFree(Small(), one_class).metrics
    assert "l2_norm" in left
    assert "snip" not in left


def test_every_metric_has_a_default_evaluator(task):
    measured = {m for m, evaluator in MEASURES.items() if evaluator == "training_free"}
    assert measured | {"params", "macs"} == TrainingFree(Small(), task).metrics


def test_bad_settings_are_refused(task):
    with pytest.raises(BadInput, match="repeats must be a whole number of at least 1, got 0"):
        TrainingFree(Small(), task, repeats=0)
    with pytest.raises(UnknownMetric, match="did you mean 'snip'"):
        TrainingFree(Small(), task, ("snib",))
    data = [(torch.randn(4, 64), torch.zeros(4, dtype=torch.int64))]
    one_class = nas.Task.from_loaders(data, data, classes=1, loss=nn.CrossEntropyLoss())
    with pytest.raises(
        BadInput, match="snip cannot be computed: the task must have 2 classes or more, got 1"
    ):
        TrainingFree(Small(), one_class, ("snip",))
    evaluator = TrainingFree(Small(), task, ("snip",))
    with pytest.raises(UnknownMetric, match="fisher"):
        evaluated(evaluator, proposal(("fisher",)))
    with pytest.raises(BadInput, match="gradient must be 'none'"):
        evaluated(evaluator, proposal(("snip",), gradient="first"))


def test_metrics_of_ones_own_by_reference(task):
    reference = f"{picky.__module__}:picky"
    assert TrainingFree(Small(), task, (reference,)).metrics == {"picky"}


def test_a_sequence_and_a_table_are_scored_too():
    words = [(torch.randn(12, 5, 3), torch.arange(12) % 4) for _ in range(2)]
    rows = [(torch.randn(12, 15), torch.arange(12) % 4) for _ in range(2)]

    class Either(nas.Space):
        decisions = (nas.Categorical("it", (True,)),)

        def build(self, architecture):
            return nn.Sequential(nn.Flatten(), nn.Linear(15, 8), nn.ReLU(), nn.Linear(8, 4))

    for data in (words, rows):
        given = nas.Task.from_loaders(data, data)
        metrics = (*FIVE, "grasp", "synflow", "zico", "params", "macs")
        evaluator = TrainingFree(Either(), given, metrics, batch_size=None)
        outcome = evaluated(evaluator, Proposal(Either().architecture({"it": True}), metrics))
        assert all(map(math.isfinite, outcome.values.values()))
