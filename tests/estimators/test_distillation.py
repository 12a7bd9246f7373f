"""What paths learn from: checked against the formulas, worked out by hand with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.errors import BadInput
from nas.estimators.distillation import distillation, divergence


def soft(z, temperature=1.0):
    e = np.exp(z.detach().numpy() / temperature)
    return e / e.sum(-1, keepdims=True)


def kl(student, target, temperature=1.0):
    p, q = soft(target, temperature), soft(student, temperature)
    return float((p * np.log(p / q)).sum(-1).mean() * temperature**2)


@pytest.fixture
def logits():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(5, 4, generator=g, requires_grad=True) for _ in range(3)]


LABELS = torch.tensor([0.5, 1.0, 2.0, 0.1, 0.4])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_the_mean_over_samples(logits, temperature):
    student, target, _ = (z.detach() for z in logits)
    value = divergence(student, target, temperature)
    assert float(value) == pytest.approx(kl(student, target, temperature), rel=1e-5)
    three_axes = divergence(student[None], target[None], temperature)
    assert float(three_axes) == pytest.approx(float(value))
    assert float(divergence(student, student)) == pytest.approx(0.0, abs=1e-7)


def test_labels_alone(logits):
    path, first, teacher = (z.detach() for z in logits)
    assert float(distillation("none").loss(path, LABELS, first, teacher)) == pytest.approx(0.8)


def test_in_place_distillation_gives_labels_to_the_first_path_only(logits):
    path, first, _ = (z.detach() for z in logits)
    loss = distillation("in_place").loss
    assert float(loss(path, LABELS, None, None)) == pytest.approx(0.8)
    assert float(loss(path, LABELS, first, None)) == pytest.approx(kl(path, first), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_instatune_is_the_published_sum(logits, alpha, gamma):
    path, first, teacher = (z.detach() for z in logits)
    loss = distillation("instatune", alpha=alpha, gamma=gamma).loss
    largest = float(loss(first, LABELS, None, teacher))
    other = float(loss(path, LABELS, first, teacher))
    expected = alpha * 2 * 0.8 + (1 - alpha) * (
        gamma * kl(first, teacher) + (1 - gamma) * kl(path, first) + gamma * kl(path, teacher)
    )
    assert largest + other == pytest.approx(expected, rel=1e-5)


def test_instatune_without_a_teacher_learns_from_the_first_path(logits):
    path, first, _ = (z.detach() for z in logits)
    loss = distillation("instatune", alpha=0.3, gamma=1.0).loss
    assert float(loss(path, LABELS, first, None)) == pytest.approx(0.24 + 0.7 * kl(path, first), rel=1e-5)
    assert float(loss(first, LABELS, None, None)) == pytest.approx(0.24)


@pytest.mark.parametrize("name", ["in_place", "instatune"])
def test_no_gradient_reaches_what_is_learnt_from(logits, name):
    path, first, teacher = logits
    distillation(name, gamma=0.5).loss(path, LABELS, first, teacher).backward()
    assert path.grad is not None
    assert path.grad.abs().max() > 0
    assert first.grad is None
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("instatun", {}, "did you mean 'instatune'"),
        ("instatune", {"alpha": 1.5}, r"alpha must lie in \[0, 1\], got 1.5"),
        ("instatune", {"gamma": -1.0}, "gamma must"),
        ("in_place", {"temperature": 0.0}, "temperature must be a positive number"),
    ],
)
def test_wrong_settings_are_refused(name, settings, message):
    with pytest.raises(BadInput, match=message):
        distillation(name, **settings)
