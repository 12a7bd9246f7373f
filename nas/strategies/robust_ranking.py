"""Search of a pool by a model of the objective on the metrics, which weighs each by what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np

from nas.strategies.pool import PoolSearch
from nas.surrogates.gp import expected_improvement
from nas.surrogates.scores import mean_rank, minmax, ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nas.evaluator import Known
    from nas.objective import Objective
    from nas.space import Space
    from nas.strategies.pool import Given

    Matrix = NDArray[np.float64]

LINEAR = 0.3
"""Variance of the linear part of the model, beside 1 of the smooth part."""
COVERED = 0.5
"""Share of the pool that a metric must have values of to be a feature."""


def robust_ranking(
    space: Space,
    objectives: Sequence[Objective],
    metrics: Sequence[str],
    pool: Given = 200,
    known: Known | None = None,
) -> PoolSearch:
    """Ask first for the best mean rank, then for what a model of the metrics expects most improvement from.

    A Gaussian process on both the ranks and the min-max values of all metrics is fitted at every tell. Its
    linear part weighs each metric by what was measured, against its usual sign if need be; ranks make it
    indifferent to outliers, and min-max values keep extremes apart that ranks hide. Nothing is drawn but the
    pool.

    Args:
        space, objectives, metrics, pool, known: as in `PoolSearch`. More metrics do no harm: parameters and
            multiply-accumulates belong among them.

    Raises:
        BadInput: as `PoolSearch`.
    """
    return PoolSearch(space, objectives, ModelledScore(), metrics, pool, known)


@final
class ModelledScore:
    """The policy of `robust_ranking`."""

    def __init__(self) -> None:
        self._features = np.zeros((0, 0))
        self._gains: dict[int, float | None] = {}
        self._order: list[int] = []

    def begin(self, metrics: Matrix, rng: np.random.Generator) -> None:  # noqa: ARG002 - draws nothing
        """Order by the mean rank; metrics that most of the pool lacks are left out where others are there."""
        covered = np.isfinite(metrics).mean(axis=0) >= COVERED
        there = metrics[:, covered] if covered.any() else metrics
        self._features = np.hstack([ranks(there), minmax(there)])
        self._order = np.argsort(-mean_rank(there), kind="stable").tolist()

    def tell(self, told: Sequence[tuple[int, float | None]], rng: np.random.Generator) -> None:  # noqa: ARG002 - draws nothing
        """Fit the model and order by it; failures take the least gain. Before any gain nothing changes."""
        self._gains.update(told)
        worst = min((gain for gain in self._gains.values() if gain is not None), default=None)
        if worst is None:
            return
        gains = np.array([worst if gain is None else gain for gain in self._gains.values()])
        expected = expected_improvement(self._features, list(self._gains), gains, LINEAR)
        self._order = np.argsort(-expected, kind="stable").tolist()

    def order(self) -> Sequence[int]:
        """The pool by expected improvement."""
        return self._order
