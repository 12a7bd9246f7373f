"""When going on is not worth it: the front has hardly grown over the last trials."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from nas.architecture import Architecture
from nas.errors import must
from nas.front import hypervolume
from nas.objective import goals, minimised, violations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nas.objective import Objective
    from nas.proposal import Trial

BEYOND = 0.1
"""How far the reference lies beyond the worst values, in spans of the first window."""


@final
@dataclass(frozen=True)
class Stop:
    """A search ends when the front gained too little over the last told trials.

    Args:
        hypervolume_gain: least relative gain that is worth going on for, above 0; see `Gains`.
        over: told trials that it is looked at over, at least 1.

    Raises:
        BadInput: a setting is out of its range.
    """

    hypervolume_gain: float
    over: int = 100

    def __post_init__(self) -> None:
        gain, over = self.hypervolume_gain, self.over
        if isinstance(gain, bool) or not isinstance(gain, int | float) or not 0 < gain < math.inf:
            raise must("hypervolume_gain", "be a positive number", gain, "such as 0.001")
        if isinstance(over, bool) or not isinstance(over, int) or over < 1:
            raise must("over", "be a whole number of at least 1", over)

    def reached(self, gains: Gains) -> str | None:
        """Why to stop; None while the front grows, or before a window is full."""
        gain = gains.relative
        if gain is None or gain >= self.hypervolume_gain:
            return None
        return f"gained {gain:.2g} over the last {self.over} trials, less than {self.hypervolume_gain:g}"


@final
class Gains:
    """What each of the last told trials added to the front.

    With several objectives that is hypervolume, relative to what the front dominated ``over`` trials ago;
    with one, the change of the best value, relative to the best value then. A ratio of volumes does not
    depend on how axes are scaled, only on the reference: a tenth of the span beyond the worst feasible
    values of the first window, which are the ``over`` trials from the first feasible one on. It is fixed
    from then on, so that everything here follows from the order of telling alone. What lies beyond the
    reference adds nothing.

    An architecture counts with the latest finite full-fidelity value of each metric, where it keeps every
    bound; what was borrowed counts as told. One trial takes time in proportion to the front, and the
    hypervolume of the part of it that lies behind the new point.

    Args:
        objectives: goals span the front, bounds decide on feasibility.
        over: trials of a window, at least 1.
    """

    def __init__(self, objectives: Sequence[Objective], over: int) -> None:
        self._objectives, self._over = tuple(objectives), over
        self._baseline: Mapping[str, float] | None = None
        self._known: dict[str, dict[str, float]] = {}
        self._first: list[NDArray[np.float64] | None] = []
        self._low = self._span = np.empty(0)
        self._front = np.empty((0, len(goals(objectives))))
        self._size = 0.0
        self._sizes: deque[float] = deque(maxlen=over + 1)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take note of told trials, the baseline's among them."""
        for trial in trials:
            point = self._point(trial)
            if trial.role == "search":
                self._count(point)
            elif point is not None:
                self._grow(point) if self._sizes else self._first.append(point)

    @property
    def relative(self) -> float | None:
        """What the last ``over`` trials gained, at least 0; None before there were so many."""
        if len(self._sizes) <= self._over:
            return None
        before, gained = self._sizes[0], self._size - self._sizes[0]
        if gained <= 0:
            return 0.0
        return gained / abs(before) if before else math.inf

    def _point(self, trial: Trial) -> NDArray[np.float64] | None:
        """Where a trial's architecture lies, of shape (m,), to be minimised; None where it does not count."""
        if trial.role == "baseline" and self._baseline is None and trial.complete:
            self._baseline = dict(trial.values)
        candidate = trial.proposal.candidate
        if not isinstance(candidate, Architecture) or not trial.values or trial.proposal.fidelity < 1.0:
            return None
        values = self._known.setdefault(candidate.key, {})
        values.update(trial.values)
        point: NDArray[np.float64] = minimised([values], self._objectives)[0]
        if not np.isfinite(point).all() or not self._feasible(values):
            return None
        return point

    def _feasible(self, values: Mapping[str, float]) -> bool:
        bounds = [o for o in self._objectives if o.bound is not None]
        if not bounds:
            return True
        if self._baseline is None and any(o.bound is not None and o.bound.relative for o in bounds):
            return False
        return bool(violations([values], bounds, self._baseline)[0] == 0)

    def _count(self, point: NDArray[np.float64] | None) -> None:
        """One more search trial."""
        if self._sizes:
            if point is not None:
                self._grow(point)
            self._sizes.append(self._size)
            return
        if self._first or point is not None:
            self._first.append(point)
        if len(self._first) >= self._over:
            self._fix()

    def _fix(self) -> None:
        """End the first window: choose the reference, and go through the window with it."""
        points = np.array([p for p in self._first if p is not None])
        low, high = points.min(axis=0), points.max(axis=0)
        span = np.where(high > low, high - low, np.where(high != 0, np.abs(high), 1.0))
        self._low, self._span = low, high - low + BEYOND * span
        for point in self._first:
            if point is not None:
                self._grow(point)
            self._sizes.append(self._size)
        self._first.clear()

    def _grow(self, point: NDArray[np.float64]) -> None:
        """Add what a point dominates and nothing before it did.

        Source: While et al. 2012 (WFG), sec. III: the exclusive hypervolume of a point by limiting the rest.
        """
        if len(point) == 1:
            self._size = max(self._size, -float(point[0])) if self._front.size else -float(point[0])
            self._front = np.zeros((1, 1))
            return
        scaled = (point - self._low) / self._span
        if (scaled >= 1).any() or (self._front <= scaled).all(axis=1).any():
            return
        behind = np.maximum(self._front, scaled)
        self._size += float(np.prod(1 - scaled)) - hypervolume(behind)
        self._front = np.vstack([self._front[~(scaled <= self._front).all(axis=1)], scaled])
