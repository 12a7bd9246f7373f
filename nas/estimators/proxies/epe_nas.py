"""epe_nas: how alike the logits depend on the inputs of samples of one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.estimators.proxies.jacob_cov import EPSILON, correlations
from nas.estimators.proxies.probe import Undefined

if TYPE_CHECKING:
    from torch import Tensor

    from nas.estimators.proxies.probe import Probe

MANY = 100
"""Beyond so many classes, classes are compared with each other, since a batch holds few samples of each."""


def epe_nas(probe: Probe) -> float:
    """Sum over the classes of a batch of |s|, where s = Σ ln(|r| + ε) over a class's correlations r.

    Beyond 100 classes: s is divided by the class's samples, and the absolute differences of all ordered
    pairs of classes are summed and divided by the number of classes seen. Higher is better.

    Raises:
        Undefined: targets are no classes, no class of the batch has two samples, or a Jacobian is constant.

    Source: Lopes et al. 2021 (EPE-NAS), with the authors' code: ε = 1e-5, the diagonal of ones counts, the
    number of classes is the task's, not the batch's. A class of one sample adds |ln(1 + ε)| up to 100
    classes and is left out beyond. Deviations: float64.
    """
    classes, targets = probe.classes, probe.targets
    if targets.ndim != 1 or targets.is_floating_point():
        raise Undefined(f"targets must be class indices, got shape {tuple(targets.shape)}, {targets.dtype}")
    return within_classes(correlations(probe.input_jacobian), targets, classes)


def within_classes(matrix: Tensor, targets: Tensor, classes: int) -> float:
    """The score from correlations of shape (batch, batch) and class indices of shape (batch,)."""
    seen, sizes = torch.unique(targets, return_counts=True)
    if not bool((sizes > 1).any()):
        raise Undefined("a class of the batch must have 2 samples or more, got one of each")
    if classes > MANY:
        seen = seen[sizes > 1]
    parts = [(targets == c).nonzero().flatten() for c in seen]
    logs = [(matrix[part][:, part].abs() + EPSILON).log() for part in parts]
    if classes <= MANY:
        return float(sum(abs(part.sum()) for part in logs))
    means = [float(part.sum()) / len(part) for part in logs]
    return sum(abs(a - b) for a in means for b in means) / len(means)
