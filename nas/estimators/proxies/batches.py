"""The first batches of a task, read once for all modules that are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch

from nas.estimators.proxies.undefined import Undefined

if TYPE_CHECKING:
    from nas.task import Batch, Task


@final
class Batches:
    """The first batches of a task, read when they are wanted and kept for every module after.

    Args:
        task: whose training split is read.
        seed: of its order.
        batch_size: samples a batch; None for the task's own.
    """

    def __init__(self, task: Task, seed: int, batch_size: int | None) -> None:
        self._known: list[Batch] = []
        with torch.random.fork_rng(devices=[]):
            self._rest = iter(task.batches("train", seed=seed, batch_size=batch_size))

    def __getitem__(self, i: int) -> Batch:
        while len(self._known) <= i:
            with torch.random.fork_rng(devices=[]):
                batch = next(self._rest, None)
            if batch is None:
                raise Undefined(f"batches must be {i + 1} or more, got {len(self._known)}; lower batch_size")
            self._known.append(batch)
        return self._known[i]
