"""How an evaluation uses the machine: its device, its CPU threads, undisturbed or not."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Iterator


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
def no_collection() -> Iterator[None]:
    """No garbage collection inside, as in the standard library's ``timeit``."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


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
