"""A session of timings on this machine: watched for drift, kept row by row, continued where it was killed."""

from __future__ import annotations

import csv
import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.errors import NasError, Unsupported, must
from nas.kernels.op_table import SCHEMA, OpTable
from nas.kernels.timing import Timer, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nas.kernels.op import Op
    from nas.kernels.roofline import Rates
    from nas.kernels.runners import Run, Runner

HEADER, ROWS, NETS = "session.json", "session_ops.csv", "session_nets.csv"
_TIMES = ("median_ms", "p10_ms", "p90_ms")

log = logging.getLogger(__name__)


class Busy(NasError):
    """The machine is too busy, or its clock drifts too much, for timings to mean anything."""


@final
@dataclass(frozen=True)
class Patience:
    """What a session puts up with.

    Args:
        drift: the most that anchors may change from before a part of the work to after it, as a share, and
            half the share of the time in which the machine may do something else; above 0.
        tries: of a part, before the session gives up, at least 1.
        chunk: operations of a part, at least 1.
        wait: seconds before a part is tried again, at least 0.

    Raises:
        BadInput: a setting is out of range.
    """

    drift: float = 0.1
    tries: int = 3
    chunk: int = 100
    wait: float = 5.0

    def __post_init__(self) -> None:
        if not self.drift > 0.0:
            raise must("drift", "be above 0", self.drift)
        for name, least in (("tries", 1), ("chunk", 1), ("wait", 0)):
            if getattr(self, name) < least:
                raise must(name, f"be at least {least}", getattr(self, name))


@final
class Session:
    """Timings of operations and networks by one runner, in a folder.

    Operations are timed in parts; a few anchors are timed before and after each. Where anchors drift, or the
    process does not get its processor, the part is dropped and tried again. What is kept is scaled to the
    speed that the anchors had at first.

    Args:
        folder: made where it is not there; a session of the same settings in it is continued.
        runner: times.
        rates: of the machine.
        settings: JSON values that must be equal to be continued: device, dtype, backend, seed, …
        anchors: operations to watch, at least one.
        timer: of operations.
        patience: with the machine.
        clocks: give seconds that passed, and seconds that this process computed.

    Raises:
        BadInput: the folder holds a session of other settings, another schema version, or no session.

    Attributes:
        skipped: kinds that the runner does not time, and why.
        repeated: parts that were timed again.
        shares: of the time that this process had its processor, by part.
    """

    def __init__(
        self,
        folder: Path,
        runner: Runner,
        rates: Rates,
        settings: Mapping[str, Any],
        anchors: Sequence[Op],
        timer: Timer | None = None,
        patience: Patience | None = None,
        clocks: tuple[Callable[[], float], Callable[[], float]] = (time.perf_counter, time.process_time),
    ) -> None:
        if not anchors:
            raise must("anchors", "be at least one", 0)
        self.folder, self.runner, self.rates = folder, runner, rates
        self.timer, self.patience = timer or Timer(), patience or Patience()
        self.skipped: dict[str, str] = {}
        self._anchors, self._clocks = tuple(anchors), clocks
        self.repeated, self.shares = 0, [1.0]
        folder.mkdir(parents=True, exist_ok=True)
        self._reference = self._opened({"schema": SCHEMA, **settings})
        self._rows = _read(folder / ROWS)
        self._nets = _read(folder / NETS)

    def _opened(self, settings: Mapping[str, Any]) -> list[float]:
        """What the anchors took at first; noted beside the settings."""
        path = self.folder / HEADER
        if not path.exists():
            reference = self._anchor_ms()
            data = {"settings": settings, "anchors_ms": reference}
            path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
            return reference
        data = json.loads(path.read_text(encoding="utf-8"))
        for name, value in settings.items():
            if data["settings"].get(name) != value:
                remedy = "continue with those settings, or choose another folder"
                raise must(f"{path}: {name}", f"be {value!r}", data["settings"].get(name), remedy)
        found: list[float] = data["anchors_ms"]
        return found

    # --- operations -------------------------------------------------------------------------------

    def time_ops(self, plan: Sequence[Op], part: str, tell: Callable[[int, int], None]) -> None:
        """Time what is not timed yet; rows are on disk after every chunk.

        Args:
            plan: operations.
            part: name that their rows carry.
            tell: called with how many are done and how many there are.

        Raises:
            Busy: the machine did not come to rest.
        """
        done = {row["op"] for row in self._rows if row["part"] == part}
        left = [op for op in plan if _text(op) not in done]
        for start in range(0, len(left), self.patience.chunk):
            tell(len(plan) - len(left) + start, len(plan))
            some = left[start : start + self.patience.chunk]
            found, speed = self._undisturbed(lambda some=some: [self._one(op) for op in some])  # type: ignore[misc]
            rows = [
                {"part": part, "op": _text(op), "speed": speed, **_times(timing, speed)}
                for op, timing in zip(some, found, strict=True)
                if timing is not None
            ]
            self._rows += _append(self.folder / ROWS, rows)
        tell(len(plan), len(plan))

    def _one(self, op: Op) -> Timing | None:
        """None where nothing can time it; why is remembered."""
        try:
            return self.runner.op(op, 0, self.timer)
        except Unsupported as error:
            self.skipped.setdefault(f"{op.family}/{op.name}", str(error))
            return None

    def table(self, part: str | None = None, *, device: str, dtype: str, notes: Mapping[str, Any]) -> OpTable:
        """The rows so far, of one part or of all."""
        rows = [row for row in self._rows if part in (None, row["part"])]
        columns = {name: np.array([float(row[name]) for row in rows]) for name in _TIMES}
        ops = tuple(_op(row["op"]) for row in rows)
        return OpTable(
            device, dtype, self.runner.name, "warm" if device_is_cpu(device) else "cold", self.rates, ops,
            **columns, position=np.zeros(len(rows)), notes=notes,
        )  # fmt: skip

    # --- networks ---------------------------------------------------------------------------------

    def time_nets(
        self, nets: Mapping[str, Run], passes: int, timer: Timer, tell: Callable[[int, int], None]
    ) -> dict[str, Timing]:
        """Time networks in turn, several times over, and give the medians over passes.

        Raises:
            Busy: the machine did not come to rest.
        """
        for number in range(passes):
            tell(number, passes)
            known = {row["net"] for row in self._nets if int(row["pass"]) == number}
            left = [name for name in nets if name not in known]
            if not left:
                continue
            found, speed = self._undisturbed(lambda left=left: [timer(nets[name]) for name in left])  # type: ignore[misc]
            rows = [
                {"pass": number, "net": name, "speed": speed, **_times(timing, speed)}
                for name, timing in zip(left, found, strict=True)
            ]
            self._nets += _append(self.folder / NETS, rows)
        tell(passes, passes)
        return {name: self._net(name) for name in nets}

    def _net(self, name: str) -> Timing:
        rows = [row for row in self._nets if row["net"] == name]
        ms = {column: float(np.median([float(row[column]) for row in rows])) for column in _TIMES}
        return Timing(**ms, runs=len(rows))

    # --- the machine ------------------------------------------------------------------------------

    def _undisturbed(self, work: Callable[[], list[Any]]) -> tuple[list[Any], float]:
        """What a part of the work gives, and how many times slower than at first the machine was."""
        before = self._speeds()
        reason = ""
        for attempt in range(self.patience.tries):
            if attempt:
                log.warning("%s; this part is timed again", reason)
                self.repeated += 1
                time.sleep(self.patience.wait)
                before = self._speeds()
            begin = [clock() for clock in self._clocks]
            found = work()
            wall, cpu = (clock() - start for clock, start in zip(self._clocks, begin, strict=True))
            share = cpu / max(wall, 1e-9)
            after = self._speeds()
            reason = self._complaint(before, after, share)
            if not reason:
                self.shares.append(share)
                return found, float(np.median(np.sqrt(before * after)))
        raise Busy(
            f"{reason}, in {self.patience.tries} tries; stop other programs and run the same command "
            f"again, which goes on from what is in {self.folder}, or allow more with --max-drift"
        )

    def _complaint(self, before: np.ndarray, after: np.ndarray, share: float) -> str:
        """What is wrong with the machine; nothing when empty."""
        drift = float(np.exp(np.abs(np.median(np.log(after / before)))) - 1)
        if drift > self.patience.drift:
            return f"the machine drifts: anchors changed by {drift:.0%}, more than {self.patience.drift:.0%}"
        if share < 1 - 2 * self.patience.drift:
            return f"the machine is busy: this process got its processor for {max(share, 0):.0%} of the time"
        return ""

    def _speeds(self) -> np.ndarray:
        """Times of the anchors as shares of what they were at first, shape (anchors,)."""
        return np.asarray(np.array(self._anchor_ms()) / np.array(self._reference))

    def _anchor_ms(self) -> list[float]:
        """Of each anchor, the lesser of two medians, between which all others were timed."""
        both = [[self.runner.op(op, 0, self.timer).median_ms for op in self._anchors] for _ in range(2)]
        return [min(pair) for pair in zip(*both, strict=True)]


def device_is_cpu(device: str) -> bool:
    """Whether a device's name is not one of CUDA's."""
    return not device.startswith("cuda")


def _times(timing: Timing, speed: float) -> dict[str, float]:
    return {name: getattr(timing, name) / speed for name in _TIMES}


def _text(op: Op) -> str:
    """An operation in one cell."""
    amounts = (op.flops, op.bytes_in, op.bytes_weight, op.bytes_out)
    return json.dumps([op.family, op.name, list(op.shape), op.dtype, *amounts])


def _op(text: str) -> Op:
    from nas.kernels.op import Op

    family, name, shape, dtype, *amounts = json.loads(text)
    return Op(family, name, tuple(shape), dtype, *amounts)


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Write rows at the end of a file, and give them as they would be read."""
    if not rows:
        return []
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)
    return [{name: str(value) for name, value in row.items()} for row in rows]


def _read(path: Path) -> list[dict[str, str]]:
    """Rows; a last line that a kill cut off is left out, and removed."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return list(csv.DictReader(whole.splitlines()))
