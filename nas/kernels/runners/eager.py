"""PyTorch as it runs by itself: one thread of the CPU, or a CUDA device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from nas.errors import must
from nas.kernels.runners.ceilings import cache_bytes
from nas.kernels.runners.single import copies, single
from nas.kernels.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from nas.kernels.op import Op
    from nas.kernels.runners import Run
    from nas.kernels.timing import Timer

MOST = 8
"""Copies of an operation."""
FLUSH_BYTES = 256 * 2**20
"""Written before each reading on CUDA, so that an operation does not find its inputs in the cache."""


def runner(device: str) -> EagerCpu | EagerCuda:
    """The runner of a device.

    Raises:
        BadInput: it is neither the CPU nor a CUDA device that is here.
    """
    if device == "cpu":
        return EagerCpu()
    if not device.startswith("cuda") or not torch.cuda.is_available():
        raise must("device", "be cpu, or a CUDA device of this machine", device)
    return EagerCuda(device)


@final
class EagerCpu:
    """One thread of this machine; set `torch.set_num_threads` to 1 around it."""

    name = "eager"

    def __init__(self) -> None:
        self.versions = {"torch": torch.__version__}
        self._cache = cache_bytes()

    def op(self, op: Op, seed: int, timer: Timer) -> Timing:
        """Time copies of an operation in turn."""
        calls = [single(op, seed + i) for i in range(copies(op, self._cache, MOST))]

        def run() -> None:
            for call in calls:
                call()

        with torch.inference_mode():
            return timer(run).less(0.0, len(calls))

    def prepared(self, module: nn.Module, example: Tensor) -> Run:
        """The module on this input."""

        def run() -> object:
            with torch.inference_mode():
                return module(example)

        return run


@final
class EagerCuda:
    """A CUDA device, read by its own events; the cache is cold.

    Args:
        device: torch device.
    """

    name = "eager"

    def __init__(self, device: str) -> None:
        self._device = device
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
        self.versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}

    def op(self, op: Op, seed: int, timer: Timer) -> Timing:
        """Time an operation; writing over the cache is enqueued before, which hides the launch."""
        call = single(op, seed).moved(self._device)
        with torch.inference_mode():
            return self._timed(call, timer)

    def prepared(self, module: nn.Module, example: Tensor) -> Run:
        """The module and its input on the device."""
        placed, x = module.to(self._device), example.to(self._device)

        def run() -> object:
            with torch.inference_mode():
                y = placed(x)
            torch.cuda.synchronize(self._device)
            return y

        return run

    def _timed(self, call: Callable[[], object], timer: Timer) -> Timing:
        for _ in range(timer.warmup):
            call()
        events: list[list[Any]] = []
        event: Any = torch.cuda.Event
        for _ in range(2 * timer.readings):
            pair: list[Any] = [event(enable_timing=True) for _ in range(2)]
            self._flush.zero_()
            pair[0].record()
            call()
            pair[1].record()
            events.append(pair)
        torch.cuda.synchronize(self._device)
        ms = [start.elapsed_time(stop) for start, stop in events]
        p10, median, p90 = (float(q) for q in np.quantile(ms, (0.1, 0.5, 0.9)))
        return Timing(median, p10, p90, len(ms))
