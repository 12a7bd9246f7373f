"""Latency by the clock: a candidate's forward pass on the machine that the search runs on."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, cast, final

import numpy as np
import torch

from nas.errors import must
from nas.estimators.machine import checked_device, torch_threads
from nas.evaluator import Evaluator, check_measured, seeded_module
from nas.kernels.runners import runner
from nas.kernels.timing import no_collection
from nas.proposal import Measurement, Outcome, Proposal
from nas.target import ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from nas.space import Space
    from nas.target import Target
    from nas.task import Task

BLOCK_SECONDS = 0.02
"""A block of runs lasts at least this long, so that fast models are timed often enough."""


@final
class LatencyMeasured(Evaluator):
    """Times forward passes on the target and gives ``latency_ms``, the median of a batch's milliseconds.

    ``latency_ms_low`` and ``latency_ms_high`` are the tenth and the ninetieth percentile of the runs. A bound
    on ``latency_ms`` is a bound on the latter (`nas.objective.cautious`), so that what keeps it once does so
    when it is measured again.

    Runs are timed in blocks until a further block moves the median by less than ``tolerance``, or until
    ``blocks`` blocks or ``seconds`` seconds are spent; at least one run is timed. A measurement's notes hold
    ``p10_ms``, ``p90_ms``, ``spread`` (their distance as a share of the median) and ``runs``. To measure
    again, evaluate again: nothing is kept.

    Args:
        space, task: what is built, and what gives its inputs.
        target: device, dtype, batch size, threads and backend: ``eager``, where images are channels-last on
            CUDA, or one that models are exported to, ``onnxruntime`` or ``openvino``, on one thread.
        runs: timed runs a block, at least 1; more where they take less than 20 ms together.
        warmup: runs that are not timed, at least 0.
        tolerance: relative change of the median that counts as none, >= 0.
        blocks: most blocks, at least 1.
        seconds: time after which no further run is begun, above 0.

    Raises:
        BadInput: a setting is out of range, the target's device is not on this machine, or its backend is
            not installed.
        UnknownName: nothing here runs the target's backend.
    """

    metrics = frozenset({"latency_ms", "latency_ms_low", "latency_ms_high"})
    measured = metrics

    def __init__(
        self,
        space: Space,
        task: Task,
        target: Target,
        runs: int = 30,
        warmup: int = 5,
        tolerance: float = 0.02,
        blocks: int = 5,
        seconds: float = 2.0,
    ) -> None:
        for name, value, least in (("runs", runs, 1), ("warmup", warmup, 0), ("blocks", blocks, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise must(name, f"be a whole number of at least {least}", value)
        if not tolerance >= 0.0:
            raise must("tolerance", "be at least 0", tolerance)
        if not seconds > 0.0:
            raise must("seconds", "be above 0", seconds)
        _check_here(target)
        self._space, self._task, self._target = space, task, target
        self._by = None if target.backend == "eager" else runner(target.backend, target.device)
        self._runs, self._warmup = runs, warmup
        self._tolerance, self._blocks, self._seconds = tolerance, blocks, seconds

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Build each candidate with seeded weights and time it."""
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        check_measured(proposal.metrics, self.metrics)
        start = time.perf_counter()
        run = self._ready(seeded_module(self._space, proposal, seed).eval())
        with torch.random.fork_rng(devices=[]), torch_threads(self._target.threads), no_collection():
            times_ms = 1e3 * self._timed(run)
        p10, median, p90 = (float(q) for q in np.quantile(times_ms, (0.1, 0.5, 0.9)))
        notes = {"p10_ms": p10, "p90_ms": p90, "spread": (p90 - p10) / median, "runs": len(times_ms)}
        values = {"latency_ms": median, "latency_ms_low": p10, "latency_ms_high": p90}
        seconds = time.perf_counter() - start
        return Measurement({m: values[m] for m in proposal.metrics}, seconds, notes=notes)

    def _ready(self, module: nn.Module) -> Callable[[], object]:
        x = self._inputs()
        if self._by is not None:
            return self._by.prepared(module.to(getattr(torch, self._target.dtype)), x)
        placed = self._placed(module)
        return lambda: placed(x)

    def _placed(self, module: nn.Module) -> nn.Module:
        moved: Any = module.to(self._target.device, getattr(torch, self._target.dtype))
        if self._target.device != "cpu":
            moved = moved.to(memory_format=torch.channels_last)
        return cast("nn.Module", moved)

    def _inputs(self) -> Tensor:
        x = self._task.example(self._target.batch_size)
        if not isinstance(x, torch.Tensor):
            raise must("the task's example", "be a tensor", type(x).__name__)
        x = x.to(self._target.device)
        if x.is_floating_point():
            x = x.to(getattr(torch, self._target.dtype))
        if x.ndim == 4 and self._target.device != "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        return x

    def _timed(self, run: Callable[[], object]) -> np.ndarray:
        """Seconds of each timed run."""
        wait = _waiter(self._target.device)
        end = time.perf_counter() + self._seconds
        times: list[float] = []
        median = float("inf")
        with torch.inference_mode():
            for _ in range(self._warmup):
                run()
            for _ in range(self._blocks):
                times.extend(self._block(run, wait, end))
                before, median = median, float(np.median(times))
                if abs(median - before) <= self._tolerance * median or time.perf_counter() > end:
                    break
        return np.array(times)

    def _block(self, run: Callable[[], object], wait: Callable[[], None], end: float) -> Iterator[float]:
        stop = begin = time.perf_counter()
        runs = 0
        while (runs < self._runs or stop < begin + BLOCK_SECONDS) and (stop <= end or not runs):
            wait()
            start = time.perf_counter()
            run()
            wait()
            stop = time.perf_counter()
            runs += 1
            yield stop - start


def _check_here(target: Target) -> None:
    """Refuse a target that is another machine, or a dtype that eager PyTorch does not run."""
    remedy = "use target host for this machine, or latency_predicted"
    if target.device == ELSEWHERE:
        raise must("target", "be this machine to be measured", target.name, remedy)
    device = checked_device("target.device", target.device)
    if target.gpu and device.type == "cuda":
        found = torch.cuda.get_device_name(device)
        if re.search(rf"\b{re.escape(target.gpu)}\b", found) is None:
            raise must("target.device", f"be a {target.gpu} to measure {target.name}", found, remedy)
    if target.dtype == "int8":
        raise must("target.dtype", "be a floating one to be measured in PyTorch", target.dtype, remedy)


def _waiter(device: str) -> Callable[[], None]:
    """What waits until a device has done its work; nothing for the CPU, which computes as it is called."""
    if device == "cpu":
        return lambda: None
    return lambda: torch.cuda.synchronize(device)
