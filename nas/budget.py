"""When a search ends, and what it has used of that."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, final

from nas.errors import must
from nas.proposal import Measurement

if TYPE_CHECKING:
    from nas.proposal import Trial


@final
@dataclass(frozen=True)
class Budget:
    """When to stop; the first limit that is reached ends the search.

    Args:
        trials: answers told to the strategy, reused and failed ones among them.
        evaluations: fresh evaluations, in full-fidelity equivalents; none where an architecture that
            computes the same function lent a part of the answer.
        seconds: what evaluations report to have taken (simulated for tables).
        wall_seconds: of this and earlier sessions' searching.
        device_seconds: during which a place was busy.

    Raises:
        BadInput: no limit is set, or one is not positive.
    """

    trials: int | None = None
    evaluations: float | None = None
    seconds: float | None = None
    wall_seconds: float | None = None
    device_seconds: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if not given:
            raise must("budget", "set a limit", None, "such as budget: {trials: 100}")
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise must(f"budget.{name}", "be a positive number", value)
        if self.trials is not None and not isinstance(self.trials, int):
            raise must("budget.trials", "be a whole number", self.trials)


@dataclass
class Spent:
    """What a study has used of its budget; the fields of `Budget`, and counts for progress."""

    trials: int = 0
    evaluations: float = 0.0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    failures: int = 0
    reused: int = 0

    def add(self, trial: Trial) -> None:
        """Count a told trial."""
        self.trials += 1
        self.seconds += trial.outcome.seconds
        self.device_seconds += trial.ended - trial.started
        self.failures += trial.failed
        self.reused += trial.reused
        if not trial.reused or not (trial.known or _lent(trial)):
            self.evaluations += trial.proposal.fidelity

    def reached(self, budget: Budget) -> str | None:
        """Name of the first limit that is reached."""
        for f in fields(Budget):
            limit = getattr(budget, f.name)
            if limit is not None and getattr(self, f.name) >= limit:
                return f.name
        return None


def _lent(trial: Trial) -> bool:
    """Whether what was known came from another architecture."""
    return isinstance(trial.outcome, Measurement) and trial.outcome.reused != trial.proposal.candidate.key
