"""Results of frequent operations on the meta device, whose own rules take up to a hundred times longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def shortcut(packet: Any, args: Sequence[Any]) -> Tensor | None:
    """The empty result of an operation; None where its own rule must be asked, as for wrong arguments."""
    rule = _RULES.get(packet)
    if rule is None or args[0].device.type != "meta":
        return None
    return rule(args)


def _alike(args: Sequence[Any]) -> Tensor | None:
    """Of operations whose result is like their tensors, where those are alike."""
    first: Tensor = args[0]
    for other in args[1:]:
        if isinstance(other, Tensor) and (other.shape != first.shape or other.dtype != first.dtype):
            return None
    return _like(first)


def _like(x: Tensor) -> Tensor:
    if x.is_contiguous():
        return torch.empty(x.shape, dtype=x.dtype, device="meta")
    return torch.empty_like(x)


def _batch_norm(args: Sequence[Any]) -> Tensor | None:
    x, weight, training = args[0], args[1], args[5]
    if training or x.ndim < 2 or (weight is not None and weight.numel() != x.shape[1]):
        return None
    return _like(x)


def _linear(args: Sequence[Any]) -> Tensor | None:
    x, weight = args[0], args[1]
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        return None
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device="meta")


def _conv2d(args: Sequence[Any]) -> Tensor | None:
    x, weight, groups = args[0], args[1], args[6] if len(args) > 6 else 1
    settings = [args[i] if len(args) > i else d for i, d in ((3, (1, 1)), (4, (0, 0)), (5, (1, 1)))]
    if x.ndim != 4 or x.shape[1] != weight.shape[1] * groups or not x.is_contiguous():
        return None
    if any(isinstance(s, str) or len(s) != 2 for s in settings):
        return None
    strides, paddings, dilations = settings
    sides = [
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(x.shape[2:], weight.shape[2:], strides, paddings, dilations, strict=True)
    ]
    if min(sides) < 1:
        return None
    return torch.empty((x.shape[0], weight.shape[0], *sides), dtype=x.dtype, device="meta")


def _attention(args: Sequence[Any]) -> Tensor | None:
    """By the CPU's own operation, whose result lies in memory as it does there."""
    output: Tensor = _aten._scaled_dot_product_flash_attention_for_cpu.default(*args[:3])[0]
    return output


_aten = torch.ops.aten

_RULES: Mapping[Any, Callable[[Sequence[Any]], Tensor | None]] = {
    **dict.fromkeys(
        (
            _aten.add, _aten.gelu, _aten.hardswish, _aten.hardtanh, _aten.mul, _aten.relu, _aten.sigmoid,
            _aten.silu,
        ),
        _alike,
    ),
    _aten.batch_norm: _batch_norm,
    _aten.conv2d: _conv2d,
    _aten.linear: _linear,
    _aten.scaled_dot_product_attention: _attention,
}  # fmt: skip
