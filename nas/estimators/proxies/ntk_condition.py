"""ntk_condition: the condition number of the neural tangent kernel of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.estimators.proxies.probe import Undefined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from nas.estimators.proxies.probe import Probe


def ntk_condition(probe: Probe, *, samples: int = 16) -> float:
    """λmax/λmin of K = G Gᵀ, where row i of G is the gradient of the sum of sample i's logits by the weights.

    Lower is better: a smaller number trains more easily. It takes one backward pass a sample, and memory for
    samples × weights numbers; it grows with the samples, so that only values of equal numbers compare.

    Args:
        probe: its weights are used as they are.
        samples: the batch's first; all of it where it holds fewer.

    Raises:
        Undefined: the batch holds one sample, or K is singular in the precision of its gradients.

    Source: Chen et al. 2021 (TE-NAS), sec. 3.1.1, with the authors' code: train mode, in which all samples
    share a pass and its batch statistics, so that a gradient also holds a sample's influence on others;
    parameters named ``weight`` only. Deviations: 16 samples, the module's own weights and one repeat, where
    TE-NAS averages three Kaiming initialisations of 72 samples; the kernel and its eigenvalues in float64.
    """
    with probe.running("ntk"):
        weights = [p for name, p in probe.module.named_parameters() if "weight" in name and p.requires_grad]
        logits = probe.forward(probe.inputs[:samples])
        if not weights or not logits.requires_grad:
            raise Undefined("the logits must depend on a weight, got none that they do")
        return condition(gradients(logits, weights))


def gradients(logits: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Shape (batch, numbers in weights): by all weights, the gradient of the sum of each sample's logits."""
    rows = logits.new_empty(len(logits), sum(w.numel() for w in weights))
    for row, sample in zip(rows, logits.flatten(1).sum(dim=1), strict=True):
        found = torch.autograd.grad(sample, weights, retain_graph=True, materialize_grads=True)
        torch.cat([g.flatten() for g in found], out=row)
    return rows


def condition(rows: Tensor) -> float:
    """Largest over smallest eigenvalue of the Gram matrix of rows of shape (batch, n)."""
    if len(rows) < 2:
        raise Undefined(f"the batch must hold 2 samples or more, got {len(rows)}")
    kernel = gram(rows)
    if not bool(torch.isfinite(kernel).all()):
        raise Undefined("gradients must be finite, got NaN or infinity")
    v = torch.linalg.eigvalsh(kernel)
    # What float32 gradients cannot tell from zero.
    if not float(v[0]) > float(v[-1]) * torch.finfo(rows.dtype).eps ** 2:
        raise Undefined("the kernel must be regular, got an eigenvalue of zero")
    return float(v[-1] / v[0])


def gram(rows: Tensor, columns: int = 2**18) -> Tensor:
    """The rows' inner products, shape (n, n), in float64; so many columns at once."""
    total = rows.new_zeros(len(rows), len(rows), dtype=torch.float64)
    for part in torch.split(rows, columns, dim=1):
        total += part.double() @ part.double().T
    return total
