"""Batch norms' statistics, estimated again for one network."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch.nn.modules import batchnorm, instancenorm

from nas.errors import must
from nas.rng import derive, stream
from nas.task import placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from nas.task import Task

Tracking: TypeAlias = batchnorm._BatchNorm | instancenorm._InstanceNorm
"""Norms that may keep running statistics of what they have seen in training."""


def calibrate(module: nn.Module, task: Task, samples: int, *, seed: int, replicate: int = 0) -> None:
    """Estimate all running statistics of a module again, from training data, in place.

    Statistics are the plain mean over batches, as with ``momentum=None``. Only the norms are in training
    mode meanwhile, so that dropout leaves the activations as they will be. A module whose norms keep no
    statistics is left as it is.

    Args:
        module: on its device; in evaluation mode afterwards.
        task: its training split, in batches of the task's size.
        samples: how many of them, at least 2; which ones derives from (seed, replicate) alone.
        seed, replicate: of the proposal.

    Raises:
        BadInput: the task's batches hold a single sample, of which there is no variance.

    Source: Guo et al. 2020 (single path one-shot), sec. 3.4; Yu & Huang 2019 (universally slimmable), sec.
        4.2. Deviation: a fixed random subset, the same for all candidates.
    """
    norms = [m for m in module.modules() if isinstance(m, Tracking) and m.running_mean is not None]
    module.eval()
    if not norms:
        return
    if task.batch_size < 2:
        remedy = "batch norms cannot be calibrated on single samples; set calibration: 0"
        raise must("the task's batch_size", "be at least 2", task.batch_size, remedy)
    chosen = stream(seed, "calibration", replicate).choice(task.count("train"), samples, replace=False)
    with _averaging(norms), torch.no_grad(), torch.random.fork_rng(devices=[]):
        order = derive(seed, "calibration", replicate)
        torch.default_generator.manual_seed(order)  # transforms of a user's data may draw from it
        for batch in task.batches("train", seed=order, samples=sorted(chosen.tolist())):
            task.forward(module, placed(batch, module))


@contextmanager
def _averaging(norms: Sequence[Tracking]) -> Iterator[None]:
    """Norms that begin anew and average over all batches; their momentum is put back."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
