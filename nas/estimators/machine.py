"""How an evaluation uses the machine: its device, its CPU threads."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """``count`` threads inside, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def settled(threads: int) -> Iterator[None]:
    """The set number of CPU threads, and cuDNN's repeatable algorithms."""
    with torch_threads(threads), torch.backends.cudnn.flags(benchmark=False, deterministic=True):
        yield


def on_device(module: nn.Module, device: str) -> nn.Module:
    """The module on its device, on GPUs with channels last."""
    if device == "cpu":
        return module
    moved: Any = module.to(device)
    return cast("nn.Module", moved.to(memory_format=torch.channels_last))


def checked_device(name: str, device: str) -> torch.device:
    """The device called ``device``.

    Raises:
        BadInput: it is neither the CPU nor a CUDA device of this machine.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise must(name, "be a torch device such as 'cpu' or 'cuda:0'", device) from None
    if found.type not in ("cpu", "cuda"):
        raise must(name, "be the CPU or a CUDA device", device)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise must(name, "be a device of this machine", device, f"it has {torch.cuda.device_count()} of CUDA")
    return found


def checked_threads(name: str, threads: int) -> int:
    """The number of CPU threads.

    Raises:
        BadInput: it is no whole number of at least 1.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise must(name, "be a whole number of at least 1", threads)
    return threads
