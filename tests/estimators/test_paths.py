"""Steps on shared weights: what they change, what they tell, and how they go on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from shared_weights import Mixed, Wide, blobs, seeded_supernet
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.architecture import Mixture
from nas.errors import BadInput, Unsupported
from nas.estimators.feed import Feed
from nas.estimators.paths import PathsEvaluator
from nas.proposal import Failure, Proposal
from nas.task import Task

SPACE, MIXED, TASK = Wide(), Mixed(), blobs()


def sampled(seed, space=SPACE):
    return space.sample(np.random.default_rng(seed))


def proposals(*seeds, metrics=("train_loss",), fidelity=0.5, **given):
    return [Proposal(sampled(s), metrics, fidelity=fidelity, **given) for s in seeds]


def evaluator(space=SPACE, task=TASK, **settings):
    return PathsEvaluator(task, seeded_supernet(space), **{"lr": 0.1, **settings})


def weights(e):
    return {k: v.clone() for k, v in e.supernet.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_step_is_that_of_the_stand_alone_network():
    """Width 16, kernel 5: the path is made of whole weights, so plain SGD must change them alike."""
    a = SPACE.architecture({"width": 16, "kernel": 5, "depth": 3, "op": "conv"})
    e = evaluator(momentum=0.0, weight_decay=0.0, clip=None, schedule="constant")
    path = e.supernet.path(a).train()
    (outcome,) = e.evaluate([Proposal(a, ("train_loss",))], seed=0)
    batch = Feed(TASK, "train").next(0)
    loss = TASK.loss(path(batch[0]), batch).mean()
    loss.backward()
    with torch.no_grad():
        for p in path.parameters():
            p -= 0.1 * p.grad
    assert outcome.values["train_loss"] == pytest.approx(loss.item())
    after = e.supernet.path(a).state_dict()
    assert all(torch.allclose(after[k], v, atol=1e-6) for k, v in path.state_dict().items())


def test_gradients_of_a_group_are_summed():
    a, b = proposals(1, 2)
    together, one, two = evaluator(), evaluator(), evaluator()
    settings = {"momentum": 0.0, "weight_decay": 0.0, "clip": None, "schedule": "constant"}
    together, one, two = (evaluator(**settings) for _ in range(3))
    start = {k: v.clone() for k, v in together.supernet.named_parameters()}
    for e, group in ((together, [a, b]), (one, [a]), (two, [b])):
        e.evaluate(group, seed=0)
    for (name, p), q, r in zip(
        together.supernet.named_parameters(),
        one.supernet.parameters(),
        two.supernet.parameters(),
        strict=True,
    ):
        moved = (q - start[name]) + (r - start[name])
        assert torch.allclose(p - start[name], moved, atol=1e-6), name


def test_norms_are_those_of_each_path_alone():
    asked = ("train_loss", "gradient_norm")
    group = proposals(1, 2, metrics=asked)
    together = evaluator(clip=None).evaluate(group, seed=0)
    first = evaluator(clip=None).evaluate(group[:1], seed=0)
    assert together[0].values["gradient_norm"] == pytest.approx(first[0].values["gradient_norm"], rel=1e-5)
    plain, normed = evaluator(), evaluator()
    plain.evaluate(proposals(1, 2), seed=0)
    normed.evaluate(group, seed=0)
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(plain.supernet.parameters(), normed.supernet.parameters(), strict=True)
    )


def test_norms_of_the_chosen_option_by_decision():
    a = MIXED.architecture({"first": "linear", "second": "relu"})
    e = evaluator(MIXED, momentum=0.0, weight_decay=0.0, clip=None, lr=1e-9)
    (outcome,) = e.evaluate([Proposal(a, ("train_loss", "gradient_norm"))], seed=0)
    path = e.supernet.path(a).train()
    batch = Feed(TASK, "train").next(0)
    TASK.loss(path(batch[0]), batch).mean().backward()
    linear = path[1]
    expected = float(linear.weight.grad.norm() + linear.bias.grad.norm())
    assert outcome.vectors["gradient_norm.first"] == pytest.approx([expected], rel=1e-4)
    assert outcome.vectors["gradient_norm.second"] == pytest.approx([0.0])
    total = torch.nn.utils.get_total_norm([p.grad for p in path.parameters()])
    assert outcome.values["gradient_norm"] == pytest.approx(float(total), rel=1e-4)


def test_chosen_samples_are_trained_on_and_told_in_their_order():
    samples = (3, 40, 3, 17)
    e = evaluator()
    path = e.supernet.path(sampled(1)).train()
    (outcome,) = e.evaluate(proposals(1, samples=samples), seed=0)
    x, y = TASK.picked(samples)
    distance = F.softmax(path(x), -1) - F.one_hot(y, 10)
    assert outcome.vectors["sample_norm"] == pytest.approx(distance.norm(dim=-1).tolist(), rel=1e-4)
    expected = F.cross_entropy(evaluator().supernet.path(sampled(1)).train()(x), y).item()
    assert outcome.values["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_looking_changes_no_weight():
    e = evaluator()
    before = {k: p.clone() for k, p in e.supernet.named_parameters()}
    (outcome,) = e.evaluate(proposals(1, metrics=("val_loss", "val_gradient_norm")), seed=0)
    assert outcome.values["val_gradient_norm"] > 0
    assert all(torch.equal(before[k], p) for k, p in e.supernet.named_parameters())
    assert all(p.grad is None for p in e.supernet.parameters())


def test_a_look_that_is_not_finite_fails():
    e = evaluator(MIXED)
    with torch.no_grad():
        e.supernet.module[3].weight.fill_(torch.nan)
    a = MIXED.architecture({"first": "linear", "second": "relu"})
    (outcome,) = e.evaluate([Proposal(a, ("val_loss",))], seed=0)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "diverged"


@pytest.mark.parametrize("metric", ["train_loss", "val_loss"])
def test_gradient_by_the_mixture_matches_differences(metric):
    split = "train" if metric == "train_loss" else "val"
    mixture = {"first": [0.3, 0.4, 0.3], "second": [0.5, 0.2, 0.3]}
    e = evaluator(MIXED)
    net = copy.deepcopy(e.supernet).double()
    batch = Feed(TASK, split).next(0)

    def loss(first):
        given = {k: torch.tensor(v, dtype=torch.float64) for k, v in {**mixture, "first": first}.items()}
        with torch.no_grad():
            return F.cross_entropy(net(batch[0].double(), given), batch[1]).item()

    (outcome,) = e.evaluate([Proposal(Mixture(mixture), (metric,), gradient="first")], seed=0)
    for i in range(3):
        up, down = list(mixture["first"]), list(mixture["first"])
        up[i], down[i] = up[i] + 1e-5, down[i] - 1e-5
        assert outcome.gradient["first"][i] == pytest.approx((loss(up) - loss(down)) / 2e-5, abs=1e-4)


def test_the_rate_follows_the_fidelity():
    e = evaluator(lr=0.2, schedule="linear")
    for fidelity, rate in ((0.25, 0.15), (0.5, 0.1), (1.0, 0.0)):
        e.evaluate(proposals(1, fidelity=fidelity), seed=0)
        assert e._optimizer.param_groups[0]["lr"] == pytest.approx(rate, abs=1e-5)


def test_going_on_from_a_file_is_going_on(tmp_path):
    settings = {"ema": 0.9, "distillation": "instatune", "teacher": "first", "augmentation": "flip_crop"}
    straight, cut = (evaluator(**{**settings, "augmentation": "none"}) for _ in range(2))
    groups = [proposals(i, i + 1, fidelity=(i + 1) / 9) for i in range(9)]
    for group in groups[:4]:
        straight.evaluate(group, seed=3)
        cut.evaluate(group, seed=3)
    cut.keep(tmp_path / "weights.pt")
    other = PathsEvaluator(
        TASK, seeded_supernet(SPACE, seed=9), lr=0.1, **{**settings, "augmentation": "none"}
    )
    other.take_up(tmp_path / "weights.pt")
    for group in groups[4:]:
        straight.evaluate(group, seed=3)
        other.evaluate(group, seed=3)
    straight.settle()
    other.settle()
    assert same(weights(straight), weights(other))


def test_the_average_is_what_remains():
    e = evaluator(ema=0.5)
    for i in range(3):
        e.evaluate(proposals(i), seed=0)
    trained = weights(e)
    e.settle()
    assert not same(trained, weights(e))


def test_in_place_the_second_path_learns_from_the_first():
    labels, taught = evaluator(), evaluator(distillation="in_place")
    of_labels = labels.evaluate(proposals(1, 2), seed=0)
    of_first = taught.evaluate(proposals(1, 2), seed=0)
    assert of_labels[0].values == of_first[0].values
    assert of_labels[1].values != of_first[1].values


def test_a_step_that_is_not_finite_is_skipped():
    task = blobs(spoiled=tuple(range(96)))
    e = evaluator(task=task)
    before = {k: p.clone() for k, p in e.supernet.named_parameters()}
    outcomes = e.evaluate(proposals(1, 2), seed=0)
    assert all(torch.isfinite(b).all() for b in e.supernet.buffers())
    assert all(isinstance(o, Failure) and o.kind == "diverged" and "skipped" in o.reason for o in outcomes)
    assert all(torch.equal(before[k], p) for k, p in e.supernet.named_parameters())


def test_a_path_without_weights_of_its_own_can_be_trained():
    a = MIXED.architecture({"first": "zero", "second": "zero"})
    (outcome,) = evaluator(MIXED).evaluate([Proposal(a, ("train_loss", "gradient_norm"))], seed=0)
    assert np.isfinite(outcome.values["gradient_norm"])


def test_passes_end_early_and_go_on():
    few = blobs(n=40, batch_size=16)
    feed = Feed(few, "train")
    seen = [len(feed.next(0)[1]) for _ in range(6)]
    assert seen == [16, 16, 8] * 2
    again = Feed(few, "train", (feed.epoch, feed.position - 1))
    assert torch.equal(again.next(0)[0], Feed(few, "train", (1, 2)).next(0)[0])


def test_a_loader_that_gives_nothing_is_named():
    class Empty(Task):
        classes, metrics = 10, ("loss",)

        def count(self, split):
            return 0

        def batches(self, split, *, seed, samples=None, batch_size=None):
            return iter(())

        inputs = targets = forward = loss = score = example = None

    Empty.__abstractmethods__ = frozenset()
    with pytest.raises(BadInput, match="train data must give batches"):
        Feed(Empty(), "train").next(0)


def test_loaders_that_cannot_be_rebuilt_pick_nothing():
    task = Task.from_loaders(
        [(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))] * 2,
        [(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))],
    )
    with pytest.raises(Unsupported, match="cannot pick"):
        task.picked((0, 1))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (lambda: [*proposals(1), *proposals(2, metrics=("val_loss",))], "all of training or all of looking"),
        (lambda: proposals(1, metrics=("train_loss", "val_loss")), "all of training or all of looking"),
        (lambda: proposals(1, gradient="first"), "gradient must be 'none' for an architecture"),
        (lambda: proposals(1, gradient="unrolled"), "gradient must be 'none' or 'first'"),
        (lambda: [*proposals(1, samples=(1, 2)), *proposals(2)], "samples of a step must be the same"),
        (lambda: proposals(1, metrics=("accuracy",)), "accuracy"),
        (lambda: [Proposal(sampled(0, MIXED), ("train_loss",))], "unknown decision"),
    ],
)
def test_wrong_questions(group, message):
    with pytest.raises(BadInput, match=message):
        evaluator().evaluate(group(), seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0}, "lr must be above 0"),
        ({"threads": 0}, "threads must be"),
        ({"distillation": "none of these"}, "distillation"),
        ({"augmentation": "shift_flip"}, "augmentation"),
        ({"device": "cuda:77"}, "device"),
        ({"clip": -1.0}, "clip must be"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(BadInput, match=message):
        evaluator(**settings)


def test_batches_of_one_and_batch_norms():
    with pytest.raises(BadInput, match="batch_size must be at least 2"):
        evaluator(task=blobs(batch_size=1))


def test_a_checkpoint_of_another_supernet_is_refused(tmp_path):
    evaluator().keep(tmp_path / "w.pt")
    with pytest.raises(BadInput, match="must be of supernet"):
        evaluator(MIXED).take_up(tmp_path / "w.pt")


@pytest.mark.cuda
def test_a_step_on_cuda():
    e = evaluator(device="cuda:0")
    (outcome,) = e.evaluate(proposals(1, metrics=("train_loss", "gradient_norm")), seed=0)
    assert np.isfinite(outcome.values["train_loss"])
    assert isinstance(e.supernet, nn.Module)
