"""Scores of a pool from its training-free metrics, which have shape (n, m) and NaN where one is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


def minmax(metrics: Matrix) -> Matrix:
    """Each metric scaled to [0, 1] over the pool, shape (n, m); missing values become 0.

    A metric that is constant, or missing everywhere, becomes 0.

    Source: He et al. 2024 (RoBoT), sec. 3. Deviation: the reference leaves a constant metric as it is, which
    moves every score by the same amount and so changes no ranking.
    """
    there = np.isfinite(metrics)
    low = np.where(there, metrics, np.inf).min(axis=0)
    spread = np.where(there, metrics, -np.inf).max(axis=0) - low
    varies = spread > 0
    scaled: Matrix = (metrics - np.where(varies, low, 0.0)) / np.where(varies, spread, 1.0)
    return np.where(there & varies, scaled, 0.0)


def ranks(metrics: Matrix) -> Matrix:
    """Each metric's rank over the pool in (0, 1), ties at their mean, shape (n, m); missing become 0.5."""
    return np.stack([_column_ranks(column) for column in metrics.T], axis=1)


def mean_rank(metrics: Matrix) -> Matrix:
    """The mean of the ranks, shape (n,)."""
    mean: Matrix = ranks(metrics).mean(axis=1)
    return mean


def log_rank(metrics: Matrix) -> Matrix:
    """The sum of ``ln(rank / n)``, rank n best, shape (n,): one bad rank weighs more than one good one.

    Source: Lee & Ham 2024 (AZ-NAS), eq. 10. Deviation: missing values take the middle rank, and ranks begin
    at one half.
    """
    total: Matrix = np.log(ranks(metrics)).sum(axis=1)
    return total


def vote(metrics: Matrix) -> Matrix:
    """How many of the pool an architecture beats by the majority of the metrics, shape (n,).

    Ties of a metric, and missing values, vote for nobody.

    Source: Abdelfattah et al. 2021, sec. 4 (vote of synflow, jacob_cov and snip). Deviation: pairs are
    counted over the whole pool, instead of being compared as a sorting algorithm happens to meet them.
    """
    wins = np.zeros(len(metrics))
    for i, row in enumerate(metrics):
        votes = (row > metrics).sum(axis=1) - (row < metrics).sum(axis=1)
        wins[i] = np.count_nonzero(votes > 0)
    return wins


def told_nothing(metrics: Matrix) -> NDArray[np.bool_]:
    """Which architectures have no metric at all, shape (n,)."""
    return np.array(~np.isfinite(metrics).any(axis=1))


def _column_ranks(column: Matrix) -> Matrix:
    out = np.full(len(column), 0.5)
    there = np.isfinite(column)
    _, place, counts = np.unique(column[there], return_inverse=True, return_counts=True)
    if len(counts):
        out[there] = (np.cumsum(counts) - counts / 2)[place] / len(place)
    return out
