"""Which told architecture is better: objectives to minimise, with constraints before everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from nas.architecture import Architecture
from nas.objective import minimised, violations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.objective import Objective
    from nas.proposal import Trial


@final
@dataclass(frozen=True, slots=True)
class Record:
    """An architecture with what it achieved.

    Args:
        architecture: what was chosen.
        costs: one finite value per goal, all to be minimised.
        violation: total constraint violation, finite and >= 0; 0 is feasible.
    """

    architecture: Architecture
    costs: tuple[float, ...]
    violation: float

    @property
    def rank(self) -> tuple[float, ...]:
        """Sorts records of one objective, best first: feasible, then less violating, then cheaper ones."""
        return (self.violation, *self.costs)

    def dominates(self, other: Record) -> bool:
        """Constrained dominance; equal records do not dominate each other.

        Source: Deb et al. 2002, Definition 1.
        """
        if self.violation != other.violation:
            return self.violation < other.violation
        return self.costs != other.costs and all(a <= b for a, b in zip(self.costs, other.costs, strict=True))


@final
class Ranking:
    """Turns trials into records, and knows the baseline that bounds may be relative to.

    Args:
        objectives: goals become costs, bounds become the violation.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self._baseline: Mapping[str, float] | None = None

    def records(self, trials: Sequence[Trial]) -> list[Record | None]:
        """One record a trial; None for a failure, a value that is missing or not finite, or a candidate
        that is no architecture.
        """
        for trial in trials:
            if trial.role == "baseline":
                self._baseline = trial.values
        rows = [trial.values for trial in trials]
        costs = minimised(rows, self._objectives)
        broken = violations(rows, self._objectives, self._baseline) if rows else np.zeros(0)
        usable = np.isfinite(costs).all(axis=1) & np.isfinite(broken)
        return [
            Record(trial.proposal.candidate, tuple(row), violation)
            if ok and isinstance(trial.proposal.candidate, Architecture)
            else None
            for trial, row, violation, ok in zip(trials, costs.tolist(), broken.tolist(), usable, strict=True)
        ]
