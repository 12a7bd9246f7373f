"""When a search ends, what it has used of that, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, final

from nas.errors import must
from nas.proposal import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nas.proposal import Trial

HOUR = 3600.0
"""Seconds."""


@final
@dataclass(frozen=True)
class Budget:
    """When to stop; the first limit that is reached ends the search.

    Args:
        trials: stored answers, reused and failed ones among them.
        evaluations: fresh evaluations, in full-fidelity equivalents; of a trial that continues another one
            only what it adds; none where an architecture that computes the same function lent a part of the
            answer.
        seconds: what evaluations report to have taken (simulated for tables).
        wall_seconds: of this session's searching, and of evaluating in earlier ones.
        device_seconds: during which a place was busy, with attempts that were lost.
        cost: of these device seconds, at the price of an hour.

    Raises:
        BadInput: no limit is set, or one is not positive.
    """

    trials: int | None = None
    evaluations: float | None = None
    seconds: float | None = None
    wall_seconds: float | None = None
    device_seconds: float | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if not given:
            raise must("budget", "set a limit", None, "such as budget: {trials: 100}")
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise must(f"budget.{name}", "be a positive number", value)
        if self.trials is not None and not isinstance(self.trials, int):
            raise must("budget.trials", "be a whole number", self.trials)


@final
@dataclass(frozen=True)
class Price:
    """What a device costs while it is used.

    Args:
        per_hour: money for an hour of one place, at least 0.
        currency: in which that is; empty where it does not matter.

    Raises:
        BadInput: the price is negative or no number.
    """

    per_hour: float
    currency: str = ""

    def __post_init__(self) -> None:
        price = self.per_hour
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
            raise must("price_per_hour", "be a number of at least 0", price)

    def of(self, seconds: float) -> float:
        """The cost of device seconds."""
        return self.per_hour * seconds / HOUR

    def text(self, seconds: float) -> str:
        """The cost of device seconds, for people."""
        money = self.of(seconds)
        amount = f"{money:,.2f}" if money >= 1 else f"{money:.2g}"
        return f"{amount} {self.currency}".rstrip()


@dataclass
class Spent:
    """What a study has used of its budget; the fields of `Budget`, and counts for progress."""

    trials: int = 0
    evaluations: float = 0.0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    cost: float = 0.0
    failures: int = 0
    reused: int = 0

    def __post_init__(self) -> None:
        self._begun: dict[int, float] = {}  # what was trained of trials that others may continue

    def add(self, trial: Trial, price: Price | None = None) -> None:
        """Count a stored trial of the search; one that is continued must have been counted before."""
        self.trials += 1
        self.seconds += trial.outcome.seconds
        busy = trial.ended - trial.started + trial.lost_seconds
        self.device_seconds += busy
        self.cost += 0.0 if price is None else price.of(busy)
        self.failures += trial.failed
        self.reused += trial.reused
        if not trial.reused or not (trial.known or _lent(trial)):
            self.evaluations += self._added(trial)
        if not trial.failed and trial.proposal.fidelity < 1.0:
            self._begun[trial.number] = trial.proposal.fidelity

    def _added(self, trial: Trial) -> float:
        """Share of the schedule that a trial adds to what it continues."""
        p = trial.proposal
        begun = 0.0 if p.continues is None else self._begun.get(p.continues, 0.0)
        return max(0.0, p.fidelity - begun)

    def reached(self, budget: Budget) -> str | None:
        """Name of the first limit that is reached."""
        return next((name for name, share in self.shares(budget).items() if share >= 1), None)

    def shares(self, budget: Budget) -> dict[str, float]:
        """What was used of each limit that is set; 1 is all of it."""
        limits = {f.name: getattr(budget, f.name) for f in fields(Budget)}
        return {name: getattr(self, name) / limit for name, limit in limits.items() if limit is not None}


def covered(trials: Iterable[Trial]) -> float:
    """Seconds during which at least one of these trials was evaluated."""
    total, reached = 0.0, -math.inf
    for start, end in sorted((t.started, t.ended) for t in trials):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _lent(trial: Trial) -> bool:
    """Whether what was known came from another architecture."""
    return isinstance(trial.outcome, Measurement) and trial.outcome.reused != trial.proposal.candidate.key
