"""How steady the gradients are from batch to batch."""

from __future__ import annotations

import math

import torch

from nas.estimators.proxies.probe import Probe, Undefined

BATCHES = 2
"""As many as published."""


def zico(probe: Probe) -> float:
    """Σ_layers ln Σ_weights mean|g| / std(g), over batches; weights whose std is 0 are skipped.

    Higher is better. A layer with no weight left, such as one that the loss does not reach, is skipped.

    Raises:
        Undefined: every layer is, or there are fewer than two batches.

    Source: Li et al. 2023, eq. 5, with the standard deviation of the population; two batches, of the
    probe's size where the paper takes 128.
    """
    per_batch = [[g for _, g in probe.weight_gradients(i)] for i in range(BATCHES)]
    terms = [_steadiness(torch.stack(layer).double()) for layer in zip(*per_batch, strict=True)]
    logs = [math.log(term) for term in terms if term > 0]
    if not logs:
        raise Undefined("gradients must differ between batches, got equal ones everywhere")
    return sum(logs)


def _steadiness(g: torch.Tensor) -> float:
    """For gradients of shape (batches, ...)."""
    spread = g.std(0, correction=0)
    varies = spread > 0
    return float((g.abs().mean(0)[varies] / spread[varies]).sum())
