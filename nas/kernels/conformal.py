"""Intervals that hold with a known probability, whatever the model: split conformal prediction."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from nas.errors import must

if TYPE_CHECKING:
    from numpy.typing import NDArray


@final
@dataclass(frozen=True)
class Conformal:
    """Ratios of a truth to its prediction on data that the model was not fitted to.

    Args:
        scores: ascending, >= 0: each distance in logarithms, divided by the difficulty that was foreseen.

    Source: Lei et al. 2018, "Distribution-free predictive inference for regression", alg. 2 and sec. 5.2
    (normalised scores), on logarithms.
    """

    scores: NDArray[Any]

    @classmethod
    def of(cls, truth: NDArray[Any], predicted: NDArray[Any], difficulty: NDArray[Any] | float = 1.0) -> Self:
        """From positive numbers of shape (n,).

        Raises:
            BadInput: there are none.
        """
        if not len(truth):
            raise must("calibration", "hold at least one measurement", 0)
        scores = np.abs(np.log(truth / predicted)) / difficulty
        return cls(np.sort(scores))

    def quantile(self, level: float) -> float:
        """The score that a new one does not exceed with at least this probability; inf when n is too small.

        Raises:
            BadInput: the level is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise must("level", "lie between 0 and 1", level)
        rank = ceil(level * (len(self.scores) + 1))
        return float(self.scores[rank - 1]) if rank <= len(self.scores) else float("inf")

    def factor(self, level: float, difficulty: NDArray[Any] | float = 1.0) -> NDArray[Any]:
        """By which a prediction is divided and multiplied to give the interval; >= 1."""
        return np.asarray(np.exp(self.quantile(level) * np.asarray(difficulty)))

    def thinned(self, size: int = 200) -> Conformal:
        """At most ``size`` scores with the same quantiles, rounded up."""
        if len(self.scores) <= size:
            return self
        at = np.ceil(np.linspace(0, len(self.scores) - 1, size)).astype(int)
        return Conformal(self.scores[at])
