"""Where evaluations run. An executor takes units of proposals and gives back their reports as they end."""

from __future__ import annotations

import contextlib
import io
import logging
import platform
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, final

from nas.errors import Diverged, must
from nas.proposal import Failure, FailureKind, Outcome, Proposal

if TYPE_CHECKING:
    from pathlib import Path

    from nas.evaluator import Evaluator


@final
@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one proposal and where and when it was found (Unix seconds)."""

    number: int
    outcome: Outcome
    host: str
    device: str
    started: float
    ended: float
    attempts: int = 1
    lost_seconds: float = 0.0


Unit = Sequence[tuple[int, Proposal]]
"""Numbered proposals that are evaluated together."""


class Executor(ABC):
    """Runs evaluations.

    Attributes:
        places: evaluations that run at once.
    """

    places: int = 1

    @property
    @abstractmethod
    def busy(self) -> int:
        """Units that were submitted and are not yet wholly reported."""

    def check(self, evaluator: Evaluator) -> None:  # noqa: B027 - a hook
        """Refuse an evaluator that cannot be run here; asked before anything runs.

        Raises:
            BadInput: with the reason.
        """

    @abstractmethod
    def open(self, evaluator: Evaluator, seed: int, logs: Path | None) -> None:
        """Make ready to evaluate with this evaluator; logs of evaluations go to that folder."""

    @abstractmethod
    def submit(self, unit: Unit) -> None:
        """Take a unit to be evaluated."""

    @abstractmethod
    def wait(self) -> list[Report]:
        """At least one report, once an evaluation has ended; units may be reported in parts."""

    @abstractmethod
    def drop(self) -> None:
        """Forget what was submitted and does not run yet."""

    @abstractmethod
    def close(self) -> None:
        """Let go of workers; what still runs is lost."""


def evaluate_unit(evaluator: Evaluator, unit: Unit, seed: int, logs: Path | None) -> list[Report]:
    """Evaluate numbered proposals together; they share the time that it took evenly.

    If that raises, each is evaluated on its own, so that the rest survive; where evaluating trains, all of
    them fail, since a second attempt would not start where the first one did.

    Raises:
        BadInput: the evaluator does not give one outcome a proposal.
    """
    started = time.time()
    try:
        with _logged(logs, unit[0][0]):
            outcomes = evaluator.evaluate([proposal for _, proposal in unit], seed=seed)
    except (Exception, SystemExit) as error:
        if len(unit) > 1 and evaluator.pure:
            return [report for one in unit for report in evaluate_unit(evaluator, [one], seed, logs)]
        share = (time.time() - started) / len(unit)
        outcomes = [_failure(error, share, logs, number) for number, _ in unit]
    if len(outcomes) != len(unit):
        raise must(f"{type(evaluator).__name__}.evaluate", f"give {len(unit)} outcomes", len(outcomes))
    host, share = platform.node(), (time.time() - started) / len(unit)
    return [
        Report(number, outcome, host, "cpu", started + i * share, started + (i + 1) * share)
        for i, ((number, _), outcome) in enumerate(zip(unit, outcomes, strict=True))
    ]


def failed(
    number: int, kind: FailureKind, reason: str, started: float, attempts: int, lost_seconds: float
) -> Report:
    """The report of an evaluation that could not report itself, and ends now."""
    ended = time.time()
    outcome = Failure(kind, reason, ended - started)
    return Report(number, outcome, platform.node(), "cpu", started, ended, attempts, lost_seconds)


def log_file(logs: Path, number: int) -> Path:
    """Where the log of a trial is."""
    return logs / f"{number:06d}.log"


def _failure(error: BaseException, seconds: float, logs: Path | None, number: int) -> Failure:
    trace = "".join(traceback.format_exception(error))
    if logs is not None:
        with log_file(logs, number).open("a", encoding="utf-8") as file:
            file.write(trace)
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0]
    named = first if isinstance(error, Diverged) else f"{type(error).__name__}: {first}"
    return Failure(_kind(error), named, seconds, trace)


def _kind(error: BaseException) -> FailureKind:
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "memory"
    return "error"


@contextlib.contextmanager
def _logged(logs: Path | None, number: int) -> Iterator[None]:
    """Send log records and prints of an evaluation to its own file, made when the first text comes."""
    if logs is None:
        yield
        return
    handler = logging.FileHandler(log_file(logs, number), delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.setLevel(logging.INFO)
    everything, own = logging.getLogger(), logging.getLogger("nas")
    level = own.level
    everything.addHandler(handler)
    own.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        with _Printed(log_file(logs, number)) as printed, contextlib.redirect_stdout(printed):
            yield
    finally:
        everything.removeHandler(handler)
        own.setLevel(level)
        handler.close()


class _Printed(io.TextIOBase):
    """Standard output that opens its file at the first text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Append to the file, line by line, in order with the log records."""
        if not text:
            return 0
        if self._file is None:
            self._file = self._path.open("a", buffering=1, encoding="utf-8")
        return self._file.write(text)

    def flush(self) -> None:
        """Bring half a line to the file."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()
