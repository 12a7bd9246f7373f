"""Clock readings with the machine to themselves, whatever else an executor would run beside them."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, final

from nas.evaluator import joined
from nas.executor import Executor, Report, Unit
from nas.proposal import Failure, Proposal

if TYPE_CHECKING:
    from pathlib import Path

    from nas.evaluator import Evaluator


@final
class Alone(Executor):
    """An executor that takes clock readings one at a time, while nothing else runs.

    A proposal is evaluated in two parts: first the metrics that may share the machine; those in `timed`
    follow when nothing else is running or waiting to run. What is submitted while readings are taken waits
    until all of them are. A proposal without its readings counts as in flight, so that an asynchronous
    search with P places goes on in rounds of P.

    Args:
        executor: of several places.
        timed: metrics that are measured alone.
    """

    def __init__(self, executor: Executor, timed: frozenset[str]) -> None:
        self._inner, self._timed = executor, timed
        self.places = executor.places
        self._rest: dict[int, Proposal] = {}  # to be timed when the first part is there
        self._first: dict[int, Report] = {}
        self._held: deque[Unit] = deque()
        self._queue: deque[tuple[int, Proposal]] = deque()  # readings to take
        self._reading = False

    @property
    def busy(self) -> int:
        """Units of the executor, those that are held back, and readings that wait."""
        return self._inner.busy + len(self._held) + len(self._queue)

    def open(self, evaluator: Evaluator, seed: int, logs: Path | None) -> None:
        """Open the executor."""
        self._inner.open(evaluator, seed, logs)

    def submit(self, unit: Unit) -> None:
        """Take apart what may share the machine and what may not."""
        shared: list[tuple[int, Proposal]] = []
        for number, proposal in unit:
            timed = [m for m in proposal.metrics if m in self._timed]
            others = [m for m in proposal.metrics if m not in self._timed]
            if others and timed:
                self._rest[number] = proposal.asking(timed)
                shared.append((number, proposal.asking(others)))
            elif timed:
                self._queue.append((number, proposal))
            else:
                shared.append((number, proposal))
        if shared:
            self._held.append(shared)

    def wait(self) -> list[Report]:
        """The next whole reports."""
        while True:
            self._send()
            reports = [whole for report in self._inner.wait() if (whole := self._whole(report)) is not None]
            if reports:
                return reports

    def _send(self) -> None:
        """Send off the next reading, or else all that may run together."""
        if not self._inner.busy:
            self._reading = bool(self._queue) and (self._reading or not self._held)
        if self._reading:
            self._inner.submit([self._queue.popleft()])
        else:
            while self._held:
                self._inner.submit(self._held.popleft())

    def _whole(self, report: Report) -> Report | None:
        """The report of both parts; None when the second is still to come."""
        rest = self._rest.pop(report.number, None)
        if rest is not None and not isinstance(report.outcome, Failure):
            self._first[report.number] = report
            self._queue.append((report.number, rest))
            return None
        first = self._first.pop(report.number, None)
        return report if first is None else _together(first, report)

    def drop(self) -> None:
        """Forget what was not begun; what lacks only its reading is finished."""
        self._inner.drop()
        self._held.clear()
        self._queue = deque(one for one in self._queue if one[0] in self._first)

    def close(self) -> None:
        """Close the executor and forget what waits."""
        self._inner.close()
        self._held.clear()
        self._rest.clear()
        self._first.clear()
        self._queue.clear()


def _together(first: Report, second: Report) -> Report:
    """Both parts as one; the start is put so that the time from start to end is what both of them took."""
    return replace(
        second,
        outcome=joined(first.outcome, second.outcome),
        started=second.started - (first.ended - first.started),
        attempts=first.attempts + second.attempts - 1,
        lost_seconds=first.lost_seconds + second.lost_seconds,
    )
