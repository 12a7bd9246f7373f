"""Best of n draws, rank correlation, and how sure it is."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RESAMPLES = 1000
PAIRED = 2048
"""Values that are paired with all others at once, so that memory grows with their number only."""


def best_of(values: Sequence[float]) -> list[float]:
    """Expected smallest of n values drawn without replacement, for n = 1 … all of them."""
    ordered = sorted(values)
    total = len(ordered)
    # The k-th smallest is the smallest of n where the other n - 1 are among those above it.
    return [
        sum(v * (comb(total - 1 - k, n - 1) / comb(total, n)) for k, v in enumerate(ordered[: total - n + 1]))
        for n in range(1, total + 1)
    ]


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation of two arrays of shape (n,), ties at mean rank; NaN for constants."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else float("nan")


def spearman_interval(
    a: NDArray[np.float64], b: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float]:
    """The middle 95 % of the rank correlation in 1,000 resamples of the pairs.

    Source: Efron and Tibshirani 1993, sec. 13.3 (percentile interval).
    """
    drawn = (rng.integers(len(a), size=len(a)) for _ in range(RESAMPLES))
    found = np.array([spearman(a[rows], b[rows]) for rows in drawn])
    low, high = np.nanquantile(found, (0.025, 0.975))
    return float(low), float(high)


def kendall(a: NDArray[np.float64], b: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[Any]:
    """Kendall's tau-b of resamples of n pairs.

    Args:
        a, b: shape (n,).
        counts: how often each resample holds each pair, shape (resamples, n).

    Returns:
        Shape (resamples,); NaN where all values of a resample are equal.
    """
    weights = counts.astype(np.float32)
    agree, one, two = np.zeros((3, len(weights)))
    for part in np.array_split(np.arange(len(a)), -(-len(a) // PAIRED)):
        x, y = (np.sign(v[:, None] - v[None, part]).astype(np.float32) for v in (a, b))
        for total, pairs in ((agree, x * y), (one, np.abs(x)), (two, np.abs(y))):
            total += np.einsum("ri,ri->r", weights @ pairs, weights[:, part], dtype=np.float64)
    scale = np.sqrt(one * two)
    return np.where(scale > 0, agree / np.where(scale > 0, scale, 1.0), np.nan)


def kendall_and_interval(
    a: NDArray[np.float64], b: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, tuple[float, float]]:
    """Kendall's tau-b of the pairs, and its middle 95 % in 1,000 resamples of them."""
    n = len(a)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    low, high = np.nanquantile(kendall(a, b, counts), (0.025, 0.975))
    return float(kendall(a, b, np.ones((1, n)))[0]), (float(low), float(high))


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, ties at their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
