"""RoBoT: Bayesian optimisation of the weights of training-free metrics, then greedy search of the ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np

from nas.errors import must, unknown
from nas.strategies.pool import PoolSearch
from nas.surrogates import scores
from nas.surrogates.gp import most_promising

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nas.evaluator import Known
    from nas.objective import Objective
    from nas.space import Space
    from nas.strategies.pool import Given

    Matrix = NDArray[np.float64]
    Explore = Callable[[Matrix, Matrix, np.random.Generator], Matrix]

NORMALISATIONS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "minmax": scores.minmax,
    "rank": scores.ranks,
}


def robot(
    space: Space,
    objectives: Sequence[Objective],
    metrics: Sequence[str],
    pool: Given = 200,
    rounds: int = 20,
    normalisation: str = "minmax",
    weights: str = "random",
    known: Known | None = None,
) -> PoolSearch:
    """Find the weighted sum of metrics whose best architecture is best, then search down its ranking.

    A round takes weights in [-1, 1] for each metric and asks for the objective of the architecture with the
    largest weighted sum; an architecture that was asked for before is not asked for again. After the rounds,
    the ranking under the best weights is walked until the budget ends: the paper's T queries are a budget of
    T trainings with ``rounds`` T.

    Args:
        space, objectives, metrics, pool, known: as in `PoolSearch`.
        rounds: weights that are tried, at least 1.
        normalisation: of each metric over the pool: ``minmax`` (as published) or ``rank``.
        weights: ``bayesian`` proposes them by a Gaussian process (as published), ``random`` uniformly; the
            default is the ablation because the published part was not better (benchmarks/robot.py).

    Raises:
        BadInput: a setting is out of its range.

    Source: He et al. 2024 (RoBoT), Algorithm 1, settings as in `most_promising`. Deviations: a failure
    counts as the worst gain so far; architectures without any finite metric come last.
    """
    if rounds < 1:
        raise must("rounds", "be at least 1", rounds)
    if normalisation not in NORMALISATIONS:
        raise unknown("normalisation", normalisation, NORMALISATIONS)
    if weights not in EXPLORERS:
        raise unknown("weights", weights, EXPLORERS)
    policy = RobustWeights(rounds, NORMALISATIONS[normalisation], EXPLORERS[weights])
    return PoolSearch(space, objectives, policy, metrics, pool, known)


def uniform(points: Matrix, gains: Matrix, rng: np.random.Generator) -> Matrix:  # noqa: ARG001 - learns nothing
    """Weights that are drawn whatever was observed."""
    return rng.uniform(-1.0, 1.0, (points.shape[1],))


EXPLORERS: Mapping[str, Explore] = {"bayesian": most_promising, "random": uniform}


@final
class RobustWeights:
    """The policy of RoBoT.

    Args:
        rounds: weights that are tried.
        normalise: of the metrics over the pool.
        explore: the next weights, from those tried and what they gained.
    """

    def __init__(self, rounds: int, normalise: Callable[[Matrix], Matrix], explore: Explore) -> None:
        self._rounds, self._normalise, self._explore = rounds, normalise, explore
        self._features = np.zeros((0, 0))
        self._blank = np.zeros(0, dtype=bool)
        self._gains: dict[int, float | None] = {}
        self._tried: list[tuple[Matrix, int]] = []
        self._present = np.zeros(0)

    def begin(self, metrics: Matrix, rng: np.random.Generator) -> None:
        """Normalise, and draw the first weights."""
        self._features = self._normalise(metrics)
        self._blank = scores.told_nothing(metrics)
        self._present = rng.uniform(-1.0, 1.0, (metrics.shape[1],))

    def tell(self, told: Sequence[tuple[int, float | None]], rng: np.random.Generator) -> None:
        """Go on to weights whose best architecture is not known yet, or through all rounds."""
        self._gains.update(told)
        while len(self._tried) < self._rounds and (row := self._first(self._present)) in self._gains:
            self._tried.append((self._present, row))
            if len(self._tried) < self._rounds:
                points = np.array([weights for weights, _ in self._tried])
                self._present = self._explore(points, self._observed(), rng)

    def order(self) -> Sequence[int]:
        """The best architecture of the present weights, or the whole ranking of the best ones."""
        if len(self._tried) < self._rounds:
            return [self._first(self._present)]
        gains = self._observed()
        best = len(gains) - 1 - int(np.argmax(gains[::-1]))  # of equal ones the latest
        ranking: list[int] = np.argsort(-self._scores(self._tried[best][0]), kind="stable").tolist()
        return ranking

    def _observed(self) -> Matrix:
        """Gains of the tried weights; failures take the least of them."""
        found = [self._gains[row] for _, row in self._tried]
        worst = min((gain for gain in found if gain is not None), default=0.0)
        return np.array([worst if gain is None else gain for gain in found])

    def _first(self, weights: Matrix) -> int:
        return int(np.argmax(self._scores(weights)))

    def _scores(self, weights: Matrix) -> Matrix:
        return np.where(self._blank, -np.inf, self._features @ weights)
