"""The clock: how long a call takes, warmed up, repeated until its median rests, with its spread."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, final

import numpy as np

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WARM_SECONDS = 0.003
"""Warming up takes at least as long, for caches and code that is made at the first calls."""
LEAST_MS = 5e-5
"""Of what is timed by a difference; less cannot be told from nothing."""
READING_SECONDS = 5e-5
"""A reading of the clock spans at least this long, so that reading it costs nothing beside."""


@final
@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one call.

    Args:
        median_ms, p10_ms, p90_ms: over all readings.
        runs: calls that were timed.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int

    def less(self, floor_ms: float, calls: int) -> Timing:
        """Of one of ``calls`` equal parts, what is spent around them taken off; at least `LEAST_MS`."""

        def part(ms: float) -> float:
            return max(LEAST_MS, (ms - floor_ms) / calls)

        return Timing(part(self.median_ms), part(self.p10_ms), part(self.p90_ms), self.runs)


@final
@dataclass(frozen=True)
class Timer:
    """Times calls on a device that computes as it is called.

    Args:
        warmup: calls that are not timed, at least 1; more until `WARM_SECONDS` are spent.
        readings: of a block, at least 1; a fast call is repeated within one reading.
        tolerance: relative change of the median by a further block that counts as none, >= 0.
        seconds: after which no further block is begun, above 0.
        clock: gives seconds. `time.thread_time` leaves out what other programs take away from a call on the
            CPU that uses this thread alone; on a machine with nothing else to do both clocks agree.

    Raises:
        BadInput: a setting is out of range.
    """

    warmup: int = 3
    readings: int = 15
    tolerance: float = 0.02
    seconds: float = 0.04
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        for name, least in (("warmup", 1), ("readings", 1)):
            if getattr(self, name) < least:
                raise must(f"timer.{name}", f"be at least {least}", getattr(self, name))
        if not self.tolerance >= 0.0:
            raise must("timer.tolerance", "be at least 0", self.tolerance)
        if not self.seconds > 0.0:
            raise must("timer.seconds", "be above 0", self.seconds)

    def __call__(self, call: Callable[[], object]) -> Timing:
        """Time a call; nothing is collected meanwhile."""
        with no_collection():
            inner = max(1, ceil(READING_SECONDS / self._warmed(call)))
            found = self._readings(call, inner)
        p10, median, p90 = (1e3 * float(q) for q in np.quantile(found, (0.1, 0.5, 0.9)))
        return Timing(median, p10, p90, inner * len(found))

    def _warmed(self, call: Callable[[], object]) -> float:
        """Seconds that the last call took, roughly."""
        calls, begin = 0, self.clock()
        while True:
            start = self.clock()
            call()
            calls, stop = calls + 1, self.clock()
            if calls >= self.warmup and stop - begin >= WARM_SECONDS:
                return max(stop - start, 1e-9)

    def _readings(self, call: Callable[[], object], inner: int) -> list[float]:
        """Seconds of a call, each from one reading of the clock."""
        end = self.clock() + self.seconds
        found: list[float] = []
        median = float("inf")
        while True:
            for _ in range(self.readings):
                start = self.clock()
                for _ in range(inner):
                    call()
                stop = self.clock()
                found.append((stop - start) / inner)
                if stop > end and len(found) > 2:
                    return found
            before, median = median, float(np.median(found))
            if abs(median - before) <= self.tolerance * median or self.clock() > end:
                return found


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection inside, as in the standard library's ``timeit``."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
