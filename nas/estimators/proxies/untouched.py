"""Put a module and torch's generators back as they were."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Afterwards the module is as before: values, ``.grad``, ``requires_grad``, modes, hooks, attributes.

    The state that is kept is each submodule's own attributes and dictionaries, and the values of all
    parameters and buffers. Torch's global generators, also those of the module's CUDA devices, are put back.
    """
    tensors = [*module.parameters(), *module.buffers()]
    cuda = sorted({t.device for t in tensors if t.is_cuda}, key=str)
    attributes = [(m, dict(vars(m)), _dictionaries(m)) for m in module.modules()]
    values = [(t, t.detach().clone(), t.requires_grad, _gradient(t)) for t in tensors]
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        for owner, before, dictionaries in attributes:
            _refill(vars(owner), before)
            for dictionary, content in dictionaries:
                _refill(dictionary, content)
        for tensor, value, wanted, gradient in values:
            _restore(tensor, value, wanted, gradient)


def _dictionaries(module: nn.Module) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    """Hooks, parameters, buffers and submodules, each with its content."""
    return [(held, dict(held)) for held in vars(module).values() if isinstance(held, dict)]


def _refill(dictionary: dict[Any, Any], content: dict[Any, Any]) -> None:
    # The very same dictionary, since handles of hooks refer to it.
    dictionary.clear()
    dictionary.update(content)


def _gradient(tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    if not tensor.is_leaf or tensor.grad is None:
        return None
    return tensor.grad, tensor.grad.detach().clone()


def _restore(tensor: Tensor, value: Tensor, wanted: bool, gradient: Any) -> None:  # noqa: FBT001
    with torch.no_grad():
        if tensor.data.dtype != value.dtype or tensor.shape != value.shape or tensor.device != value.device:
            tensor.data = value
        elif not torch.equal(tensor, value):
            tensor.copy_(value)
    if tensor.is_leaf:
        tensor.requires_grad_(wanted)
        tensor.grad = None if gradient is None else gradient[0]
        if gradient is not None:
            with torch.no_grad():
                tensor.grad.copy_(gradient[1])  # type: ignore[union-attr]
