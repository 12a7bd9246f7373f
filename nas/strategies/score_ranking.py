"""Search down the ranking of one score: a metric, or several combined without learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np

from nas.errors import must, unknown
from nas.strategies.pool import PoolSearch
from nas.surrogates import scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nas.evaluator import Known
    from nas.objective import Objective
    from nas.space import Space
    from nas.strategies.pool import Given

    Matrix = NDArray[np.float64]

SCORES: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "mean_rank": scores.mean_rank,
    "vote": scores.vote,
    "log_rank": scores.log_rank,
}


def score_ranking(
    space: Space,
    objectives: Sequence[Objective],
    metrics: Sequence[str],
    pool: Given = 200,
    score: str = "mean_rank",
    known: Known | None = None,
) -> PoolSearch:
    """Ask for objectives from the top of a fixed ranking: the baseline of everything that learns one.

    Args:
        space, objectives, pool, known: as in `PoolSearch`.
        metrics: one, such as ``[params]``, or several that ``score`` combines; larger values rank first, and
            a minus sign, as in ``-ntk_condition``, turns a metric round.
        score: ``mean_rank``; ``vote``, the majority in pairs (published for synflow, jacob_cov and snip); or
            ``log_rank``, AZ-NAS's sum of logarithms.

    Raises:
        BadInput: a setting is out of its range.
    """
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    if isinstance(metrics, str):
        raise must("metrics", "name at least one metric, each once", metrics)
    signs = np.array([-1.0 if name.startswith("-") else 1.0 for name in metrics])
    names = [name.removeprefix("-") for name in metrics]
    return PoolSearch(space, objectives, FixedScore(SCORES[score], signs), names, pool, known)


@final
class FixedScore:
    """The policy that learns nothing.

    Args:
        score: of metrics of shape (n, m).
        signs: shape (m,), -1 where less is better.
    """

    def __init__(self, score: Callable[[Matrix], Matrix], signs: Matrix) -> None:
        self._score, self._signs = score, signs
        self._order: list[int] = []

    def begin(self, metrics: Matrix, rng: np.random.Generator) -> None:
        """Rank the pool; equal scores in random order."""
        score = self._score(metrics * self._signs)
        self._order = np.lexsort((rng.random(len(score)), -score)).tolist()

    def tell(self, told: Sequence[tuple[int, float | None]], rng: np.random.Generator) -> None:
        """Nothing is learnt."""

    def order(self) -> Sequence[int]:
        """The ranking."""
        return self._order
