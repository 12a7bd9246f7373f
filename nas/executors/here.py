"""One evaluation at a time, in this process."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, final

from nas.executor import Executor, Report, Unit, evaluate_unit

if TYPE_CHECKING:
    from pathlib import Path

    from nas.evaluator import Evaluator


@final
class Here(Executor):
    """One evaluation at a time, in this process; the only place for evaluators that train shared weights."""

    def __init__(self) -> None:
        self._queue: deque[Unit] = deque()

    @property
    def busy(self) -> int:
        """Units that wait."""
        return len(self._queue)

    def open(self, evaluator: Evaluator, seed: int, logs: Path | None) -> None:
        """Remember what to evaluate with."""
        self._evaluator, self._seed, self._logs = evaluator, seed, logs

    def submit(self, unit: Unit) -> None:
        """Queue a unit; it runs when it is waited for."""
        self._queue.append(unit)

    def wait(self) -> list[Report]:
        """Evaluate the oldest unit."""
        return evaluate_unit(self._evaluator, self._queue.popleft(), self._seed, self._logs)

    def drop(self) -> None:
        """Forget what was queued."""
        self._queue.clear()

    def close(self) -> None:
        """Forget what was queued."""
        self.drop()
