"""naswot: how differently the samples of a batch switch the ReLUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.estimators.proxies.patterns import joined
from nas.estimators.proxies.probe import Undefined
from nas.kernels.hamming import hamming

if TYPE_CHECKING:
    from torch import Tensor

    from nas.estimators.proxies.probe import Probe


def naswot(probe: Probe) -> float:
    """The logarithm of |det K|, where K counts the ReLU inputs on which two samples of a batch agree in sign.

    Higher is better. It grows with the batch, so that only values of equal batches compare.

    Raises:
        Undefined: there is no ReLU, or the samples' codes are linearly dependent, as equal samples' are.

    Source: Mellor et al. 2021, sec. 3: K = Σ over ReLUs of N_A − Hamming distance of their binary codes.
    The paper's batch is 128, NASLib's 64. Deviations: in float64, from packed bits; ReLUs that are called as
    functions count too, and leaky and clipped ones by the sign of their input.
    """
    return log_determinant(agreements(joined(probe.codes)))


def agreements(codes: Tensor) -> Tensor:
    """On how many units each pair of samples agrees: int64, shape (batch, batch).

    Args:
        codes: bool, shape (batch, units).
    """
    return codes.shape[1] - hamming(codes)


def log_determinant(matrix: Tensor) -> float:
    """The logarithm of the determinant of a positive semi-definite matrix, in float64.

    Raises:
        Undefined: it is singular.
    """
    exact = matrix.double()
    rank = int(torch.linalg.matrix_rank(exact, hermitian=True))
    if rank < len(exact):
        raise Undefined(f"the samples' codes must be independent, got rank {rank} for {len(exact)} samples")
    return float(torch.linalg.slogdet(exact).logabsdet)
