"""How far two measurements of the same architectures agree on which are better."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.errors import must
from nas.report.statistics import RESAMPLES, kendall_and_interval, spearman, spearman_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FEWEST = 5
"""Architectures that ranks can be compared of."""


@final
@dataclass(frozen=True)
class Top:
    """How much of the best of one measurement is among the best of the other.

    Attributes:
        k: how many are the best.
        overlap: expected number of them in both, in [0, k]; of equal values any may be the best.
        share: overlap / k, in [0, 1]; by chance it is k / n.
        share_95: its middle 95 % in 1,000 resamples of the architectures.
    """

    k: int
    overlap: float
    share: float
    share_95: tuple[float, float]


@final
@dataclass(frozen=True)
class Agreement:
    """Rank correlations of two measurements, and the overlap of their best.

    Attributes:
        count: architectures.
        kendall, spearman: correlations, Kendall's tau-b, in [-1, 1].
        kendall_95, spearman_95: their middle 95 % in 1,000 resamples of the architectures.
        top: overlaps, in the order they were asked for.
    """

    count: int
    kendall: float
    kendall_95: tuple[float, float]
    spearman: float
    spearman_95: tuple[float, float]
    top: tuple[Top, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def rank_agreement(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    top: Sequence[int | float] = (5, 10, 0.1),
    rng: np.random.Generator,
    names: tuple[str, str] = ("a", "b"),
) -> Agreement:
    """Compare two measurements of the same architectures, such as inherited and stand-alone accuracy.

    Args:
        a, b: values of shape (n,), n at least 5, finite; larger is better.
        top: how many are the best: whole numbers, or shares of the architectures in (0, 1); numbers that
            are not below n are left out.
        rng: draws the resamples.
        names: of the measurements, for what is wrong with them.

    Raises:
        BadInput: there are fewer than 5, shapes differ, or all values of a measurement are equal.

    Source: Kendall 1945 (tau-b); Efron and Tibshirani 1993, sec. 13.3 (percentile intervals).
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise must(f"{names[0]} and {names[1]}", "have one value for each architecture", (a.shape, b.shape))
    n = len(a)
    if n < FEWEST:
        raise must("the architectures measured by both", f"be at least {FEWEST}", n)
    for name, values in zip(names, (a, b), strict=True):
        if not np.isfinite(values).all():
            raise must(name, "be finite", values[~np.isfinite(values)][0])
        if np.ptp(values) == 0:
            raise must(name, "differ between architectures to rank them", f"{values[0]:g} for all {n}")
    sizes = dict.fromkeys(k if isinstance(k, int) else max(1, round(k * n)) for k in top)
    tau, tau_95 = kendall_and_interval(a, b, rng)
    tops = tuple(_top(a, b, k, rng) for k in sizes if 0 < k < n)
    return Agreement(n, tau, tau_95, spearman(a, b), spearman_interval(a, b, rng), tops)


def _top(a: NDArray[np.float64], b: NDArray[np.float64], k: int, rng: np.random.Generator) -> Top:
    overlap = float(_chances(a, k) @ _chances(b, k))
    drawn = (rng.integers(len(a), size=len(a)) for _ in range(RESAMPLES))
    found = [_chances(a[rows], k) @ _chances(b[rows], k) for rows in drawn]
    low, high = np.quantile(np.array(found) / k, (0.025, 0.975))
    return Top(k, overlap, overlap / k, (float(low), float(high)))


def _chances(values: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Chance of each to be among the k largest when ties are broken at random, shape (n,)."""
    last = np.partition(values, -k)[-k]
    above, equal = values > last, values == last
    chances: NDArray[np.float64] = above + equal * ((k - above.sum()) / equal.sum())
    return chances
