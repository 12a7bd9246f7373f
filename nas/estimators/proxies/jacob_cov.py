"""jacob_cov: how differently the logits depend on the inputs of different samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.estimators.proxies.probe import Undefined

if TYPE_CHECKING:
    from torch import Tensor

    from nas.estimators.proxies.probe import Probe

EPSILON = 1e-5


def jacob_cov(probe: Probe) -> float:
    """Minus the sum of ln(v + ε) + 1/(v + ε) over the eigenvalues v of the correlations of Jacobians.

    At most −batch, when all samples' Jacobians are uncorrelated; higher is better.

    Raises:
        Undefined: the batch holds one sample, or a sample's Jacobian is constant.

    Source: Mellor et al. 2020, the first version of "Neural Architecture Search without Training", with
    ε = 1e-5. Deviations: eigenvalues of a symmetric matrix in float64, where published code takes those of a
    general one; both are called ``jacob_cov`` or ``jacov``.
    """
    return spread(correlations(probe.input_jacobian))


def correlations(jacobian: Tensor) -> Tensor:
    """Correlation of each pair of rows, float64, shape (batch, batch).

    Args:
        jacobian: shape (batch, D).

    Raises:
        Undefined: there is one row, or a row is constant.
    """
    if len(jacobian) < 2:
        raise Undefined(f"the batch must hold 2 samples or more, got {len(jacobian)}")
    rows = jacobian.double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        raise Undefined("the logits must depend on every sample's input, got a constant Jacobian")
    rows = rows / norms
    matrix: Tensor = rows @ rows.T
    return matrix


def spread(matrix: Tensor) -> float:
    """Minus the sum of ln(v + ε) + 1/(v + ε) over the eigenvalues v of a positive semi-definite matrix."""
    v = torch.linalg.eigvalsh(matrix).clamp(min=0) + EPSILON
    return float(-(v.log() + 1 / v).sum())
