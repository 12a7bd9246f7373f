"""Members of a front by the clock, here or packed for another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nas.errors import must
from nas.estimators.machine import torch_threads
from nas.evaluator import seeded_module
from nas.kernels.capture import capture
from nas.kernels.runners import runner
from nas.kernels.timing import Timer
from nas.profiling.pack import Item
from nas.proposal import Proposal
from nas.target import ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.front import Member
    from nas.parts import Parts

REPEATS = 5
"""Times that each member is timed, in turn with the others."""


def items(parts: Parts, members: Sequence[Member]) -> list[Item]:
    """Members with seeded weights, which make no difference to their time, and the task's inputs.

    Raises:
        BadInput: there is none, or no task says what inputs are.
    """
    if not members:
        raise must("the front", "have a member to measure", "none")
    if parts.task is None:
        raise must("the run", "have a task, so that example inputs are known", None)
    example = parts.task.example(parts.target.batch_size)
    found = []
    for member in members:
        proposal = Proposal(member.candidate, ("latency_ms",))
        module = seeded_module(parts.space, proposal, parts.search.seed).eval()
        trace = capture(module, example, dtype=parts.target.dtype)
        found.append(Item(f"trial_{member.trial:04d}", module, example, trace))
    return found


def measured_again(parts: Parts, members: Sequence[Member], timer: Timer | None = None) -> list[float]:
    """Milliseconds of each member on this machine by the target's backend: the median of five repeats.

    Raises:
        BadInput: as `items`, or the target is another machine.
        Unsupported: a member cannot be brought to the backend.
    """
    target = parts.target
    if target.device == ELSEWHERE:
        remedy = "write a folder to be measured there: nas front RUN --measure --pack DIR"
        raise must("target", "be this machine to be measured", target.name, remedy)
    timer = timer or Timer(warmup=3, readings=10, seconds=0.3)
    by, kind = runner(target.backend, target.device), getattr(torch, target.dtype)
    with torch_threads(target.threads):
        runs = [by.prepared(i.module.to(kind), i.example.to(kind)) for i in items(parts, members)]
        found = [[timer(run).median_ms for run in runs] for _ in range(REPEATS)]
    return [float(ms) for ms in np.median(found, axis=0)]
