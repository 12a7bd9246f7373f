"""Work that waits for a worker, and what becomes of it when its worker dies or breaks a limit."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from nas.errors import must
from nas.executor import Report, Unit, failed, log_file

if TYPE_CHECKING:
    from pathlib import Path

    from nas.proposal import FailureKind


@final
@dataclass(slots=True)
class Work:
    """A unit on its way, and what was lost on it; `deaths` are the attempts that count as its own fault."""

    unit: Unit
    attempts: int = 1
    deaths: int = 0
    lost_seconds: float = 0.0


@final
class Attempts:
    """The units that wait, and the rules by which one is tried again.

    A worker's death is tried again so many times, then it is a failure. A broken limit is one at once: it
    would be broken again. What a worker took with it that went for other reasons counts towards nothing. Of
    several proposals that were evaluated together, each is then tried on its own.

    Args:
        retries: how often an evaluation whose worker died is tried again, at least 0.
        seconds: longest that an evaluation may take.
        memory_gb: most resident memory (10⁹ bytes) that its worker may have.

    Raises:
        BadInput: a setting is out of its range.
    """

    def __init__(self, retries: int, seconds: float | None, memory_gb: float | None) -> None:
        if retries < 0:
            raise must("retries", "be at least 0", retries)
        for name, limit in (("seconds", seconds), ("memory_gb", memory_gb)):
            if limit is not None and not limit > 0:
                raise must(name, "be a positive number", limit)
        self.retries, self.seconds, self.memory_gb = retries, seconds, memory_gb
        self.waiting: deque[Work] = deque()
        self.logs: Path | None = None

    def due(self, work: Work, began: float) -> float:
        """When (Unix seconds) the time of what began then is over: several proposals have that of all."""
        return began + (float("inf") if self.seconds is None else self.seconds * len(work.unit))

    def patience(self, running: list[tuple[Work, float]]) -> float | None:
        """Seconds until the first of these is overdue; None when none ever is."""
        if self.seconds is None or not running:
            return None
        return max(0.0, min(self.due(work, began) for work, began in running) - time.time())

    def too_long(self, work: Work, began: float) -> list[Report]:
        """What becomes of work that took longer than it may."""
        return self._ended(work, began, "timeout", f"took longer than {self.seconds:g} s")

    def too_large(self, work: Work, began: float) -> list[Report]:
        """What becomes of work that needed more memory than it may."""
        return self._ended(work, began, "memory", f"needed more than {self.memory_gb:g} GB")

    def died(self, work: Work, began: float, reason: str) -> list[Report]:
        """What becomes of work whose worker died, perhaps of it."""
        work.deaths += 1
        if len(work.unit) == 1 and work.deaths <= self.retries:
            self._again(work, began, f"killed: {reason}")
            return []
        last = f", the last of {work.attempts} attempts" if len(work.unit) == 1 else ""
        return self._ended(work, began, "killed", f"{reason}{last}", reason)

    def taken(self, work: Work, began: float, reason: str) -> None:
        """Try again what was lost through no fault of its own."""
        self._again(work, began, f"lost: {reason}")

    def _again(self, work: Work, began: float, text: str) -> None:
        self._note(work, text)
        work.attempts += 1
        work.lost_seconds += time.time() - began
        self.waiting.appendleft(work)

    def _ended(
        self, work: Work, began: float, kind: FailureKind, reason: str, noted: str = ""
    ) -> list[Report]:
        """A failure, or one attempt of its own for each of several proposals."""
        self._note(work, f"{kind}: {noted or reason}")
        if len(work.unit) > 1:
            share = (work.lost_seconds + time.time() - began) / len(work.unit)
            alone = [Work([one], work.attempts + 1, work.deaths, share) for one in reversed(work.unit)]
            self.waiting.extendleft(alone)
            return []
        ((number, _),) = work.unit
        return [failed(number, kind, reason, began, work.attempts, work.lost_seconds)]

    def _note(self, work: Work, text: str) -> None:
        """Add a line to the logs of evaluations that left no traceback."""
        if self.logs is not None:
            for number, _ in work.unit:
                with log_file(self.logs, number).open("a", encoding="utf-8") as file:
                    file.write(f"{text}, attempt {work.attempts}\n")
