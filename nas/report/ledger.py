"""Where the time of a run went, what failed, and what was not evaluated again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from nas.budget import HOUR, covered
from nas.executor import log_file
from nas.proposal import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from nas.budget import Price
    from nas.proposal import Trial

TAIL = 12
"""Last lines of a failure's log that are shown."""


@final
@dataclass(frozen=True)
class Ledger:
    """Seconds of a run, and numbers of its trials.

    Attributes:
        wall: from the first asking to the last end, pauses between sessions included.
        evaluating: of these, while at least one evaluation ran.
        busy: device-seconds of all evaluations; more than ``evaluating`` where several ran at once.
        searching, baseline, confirming: parts of ``busy``, of evaluations that gave a measurement.
        failed: part of ``busy`` that went into failures.
        lost: seconds of attempts that were lost and made again, on top of ``busy``.
        reported: what evaluations said they took; simulated for tables.
        trials, evaluated, reused, partly, failures, confirmed, retried: numbers of trials.
    """

    wall: float
    evaluating: float
    busy: float
    searching: float
    baseline: float
    confirming: float
    failed: float
    lost: float
    reported: float
    trials: int
    evaluated: int
    reused: int
    partly: int
    failures: int
    confirmed: int
    retried: int

    @property
    def waiting(self) -> float:
        """Seconds in which nothing was evaluated: the driver's own time, waiting, pauses between sessions."""
        return max(0.0, self.wall - self.evaluating)

    @property
    def used(self) -> float:
        """Device-seconds in all, with those of lost attempts."""
        return self.busy + self.lost

    @property
    def wasted(self) -> float:
        """Device-seconds that gave no measurement: of failures and of lost attempts."""
        return self.failed + self.lost


def bill(books: Ledger, price: Price | None) -> str:
    """Device-hours spent and lost, and what they cost, for people."""
    text = f"{books.used / HOUR:.4g} device-hours, {books.wasted / HOUR:.4g} of them lost"
    if price is None:
        return text
    rate = f"{price.per_hour:g} {price.currency}".rstrip()
    return f"{text}; {price.text(books.used)} at {rate} an hour, {price.text(books.wasted)} of it lost"


def accounted(books: Ledger, price: Price | None) -> dict[str, Any]:
    """The same as JSON values: ``device_hours`` and ``money``."""
    money = None
    if price is not None:
        money = {
            "spent": price.of(books.used),
            "lost": price.of(books.wasted),
            "currency": price.currency,
        }
    return {"device_hours": {"spent": books.used / HOUR, "lost": books.wasted / HOUR}, "money": money}


def ledger(trials: Sequence[Trial]) -> Ledger:
    """The ledger of a run."""
    fresh = [t for t in trials if not t.known]
    searched = [t for t in trials if t.role == "search"]
    start = min((t.queued or t.started for t in trials), default=0.0)
    return Ledger(
        wall=max((t.ended for t in trials), default=0.0) - start,
        evaluating=covered(fresh),
        busy=_seconds(fresh),
        searching=_seconds(t for t in fresh if t.role == "search" and not t.failed),
        baseline=_seconds(t for t in fresh if t.role == "baseline" and not t.failed),
        confirming=_seconds(t for t in fresh if t.role == "confirm" and not t.failed),
        failed=_seconds(t for t in fresh if t.failed),
        lost=sum(t.lost_seconds for t in trials),
        reported=sum(t.outcome.seconds for t in trials),
        trials=len(searched),
        evaluated=sum(not t.known for t in searched),
        reused=sum(t.known for t in searched),
        partly=sum(t.reused and not t.known for t in searched),
        failures=sum(t.failed for t in searched),
        confirmed=sum(t.role == "confirm" for t in trials),
        retried=sum(t.attempts > 1 for t in trials),
    )


def _seconds(trials: Iterable[Trial]) -> float:
    return sum(t.ended - t.started for t in trials)


@final
@dataclass(frozen=True)
class FailureGroup:
    """Failures for one reason, figures aside.

    Attributes:
        kind: what happened.
        reason: of the first of them.
        trials: their numbers.
        seconds: that they took.
        excerpt: last lines of the first one's log.
    """

    kind: str
    reason: str
    trials: Sequence[int]
    seconds: float
    excerpt: str


def failure_groups(trials: Sequence[Trial], logs: Path) -> list[FailureGroup]:
    """Failures by kind and reason, the most frequent first."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if isinstance(trial.outcome, Failure):
            reason = re.sub(r"\d+(\.\d+)?", "#", trial.outcome.reason)
            groups.setdefault((trial.outcome.kind, reason), []).append(trial)
    found = []
    for (kind, _), group in groups.items():
        first = group[0].outcome
        assert isinstance(first, Failure)
        excerpt = _tail(log_file(logs, group[0].number))
        seconds = sum(t.outcome.seconds for t in group)
        found.append(FailureGroup(kind, first.reason, [t.number for t in group], seconds, excerpt))
    return sorted(found, key=lambda g: -len(g.trials))


def _tail(path: Path) -> str:
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
