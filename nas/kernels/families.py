"""Which family an operation of PyTorch belongs to, and its shape and arithmetic there."""

from __future__ import annotations

from functools import cache
from math import pow, prod
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Description: TypeAlias = "tuple[str, tuple[int, ...], float]"
"""Family, shape in the order of `nas.kernels.op.FAMILIES`, floating-point operations."""


def name_of(func: Any, args: Sequence[Any]) -> str:
    """The name of an operation, the same for all its variants: in place, with indices, of a device."""
    packet = func._overloadpacket
    if DESCRIBED.get(packet) is _attention:
        return "scaled_dot_product_attention"
    if DESCRIBED.get(packet) is _convolution:
        return f"conv{'_transpose' if args[6] else ''}{args[1].ndim - 2}d"
    name: str = packet.__name__
    return name.strip("_").removeprefix("native_").removesuffix("_with_indices")


def described(func: Any, args: Sequence[Any], result: Tensor) -> Description:
    """What an operation with these arguments and this first result is; ``other`` where nothing is known."""
    packet = func._overloadpacket
    describe = DESCRIBED.get(packet)
    if describe is not None:
        return describe(args, result)
    if packet in _COPIES or _makes(func):
        return "copy", (result.numel(),), 0.0
    if torch.Tag.pointwise in func.tags or packet in _POINTWISE:
        return _pointwise(args, result)
    if torch.Tag.reduction in func.tags:
        return _reduce(args, result)
    return "other", (result.numel(),), float(result.numel())


@cache
def free(func: Any) -> bool:
    """Whether an operation moves nothing: views, memory that nobody wrote, values handed to Python."""
    return bool(func.is_view) or func._overloadpacket in _FREE


@cache
def _makes(func: Any) -> bool:
    """Whether an operation makes a tensor out of numbers."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "BackendSelect")


def _convolution(args: Sequence[Any], result: Tensor) -> Description:
    transposed = bool(args[6])
    return _conv(args[0], args[1], result, (args[3], args[4], int(args[8])), transposed=transposed)


def _conv2d(args: Sequence[Any], result: Tensor) -> Description:
    stride, padding, groups = _given(args, 3, 1), _given(args, 4, 0), _given(args, 6, 1)
    return _conv(args[0], args[1], result, (stride, padding, groups), transposed=False)


def _conv(
    x: Tensor, weight: Tensor, result: Tensor, settings: tuple[Any, Any, int], *, transposed: bool
) -> Description:
    stride, padding, groups = settings
    axes = weight.ndim - 2
    batch = 1 if x.ndim == axes + 1 else x.shape[0]
    height, width = _plane(x.shape[-axes:])
    positions = x if transposed else result
    shape = (
        *(batch, x.shape[-axes - 1], result.shape[-axes - 1], height, width),
        *(_mean(weight.shape[2:]), _mean(_each(stride)), _mean(_each(padding)), groups),
    )
    return "conv", shape, 2.0 * positions.numel() * prod(weight.shape[1:])


def _linear(args: Sequence[Any], result: Tensor) -> Description:
    outs, ins = args[1].shape if args[1].ndim == 2 else (1, args[1].shape[0])
    return _rows_by_features(result, ins, outs)


def _addmm(args: Sequence[Any], result: Tensor) -> Description:
    return _mm(args[1:], result)


def _mm(args: Sequence[Any], result: Tensor) -> Description:
    ins = args[0].shape[-1]
    return _rows_by_features(result, ins, result.shape[-1] if result.ndim == 2 else 1)


def _rows_by_features(result: Tensor, ins: int, outs: int) -> Description:
    rows = result.numel() // max(outs, 1)
    return "linear", (rows, ins, outs), 2.0 * rows * ins * outs


def _bmm(args: Sequence[Any], result: Tensor) -> Description:
    batch, m, n = result.shape
    k = args[0].shape[-1]
    return "bmm", (batch, m, n, k), 2.0 * batch * m * n * k


def _baddbmm(args: Sequence[Any], result: Tensor) -> Description:
    return _bmm(args[1:], result)


def _attention(args: Sequence[Any], result: Tensor) -> Description:  # noqa: ARG001 - as the others
    query, key, value = args[:3]
    batch, heads, queries, size = query.shape
    macs = query.numel() * key.shape[-2] + prod(query.shape[:-1]) * prod(value.shape[-2:])
    return "attention", (batch, heads, queries, key.shape[-2], size), 2.0 * macs


def _softmax(args: Sequence[Any], result: Tensor) -> Description:
    columns = result.shape[args[1]] if result.ndim else 1
    return "softmax", _by_columns(result, columns), 5.0 * result.numel()


def _layer_norm(args: Sequence[Any], result: Tensor) -> Description:
    columns = prod(args[1])
    return "layer_norm", _by_columns(result, columns), 8.0 * result.numel()


def _group_norm(args: Sequence[Any], result: Tensor) -> Description:
    batch, groups = args[3], args[6]
    return "layer_norm", (batch * groups, result.numel() // max(batch * groups, 1)), 8.0 * result.numel()


def _batch_norm(args: Sequence[Any], result: Tensor) -> Description:  # noqa: ARG001 - as the others
    batch, channels = result.shape[:2]
    return "batch_norm", (batch, channels, prod(result.shape[2:])), 2.0 * result.numel()


def _pointwise(args: Sequence[Any], result: Tensor) -> Description:
    inputs = sum(isinstance(a, Tensor) for a in args)
    return "pointwise", (result.numel(), inputs), float(result.numel())


def _pool(args: Sequence[Any], result: Tensor) -> Description:
    kernel = args[1]
    stride = _given(args, 2, None) or kernel
    return _pooled(args[0], result, _each(kernel), _each(stride))


def _adaptive_pool(args: Sequence[Any], result: Tensor) -> Description:
    x, axes = args[0], len(_each(args[1]))
    ratios = [-(-i // max(o, 1)) for i, o in zip(x.shape[-axes:], result.shape[-axes:], strict=True)]
    return _pooled(x, result, ratios, ratios)


def _pooled(x: Tensor, result: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Description:
    axes = len(kernel)
    height, width = _plane(x.shape[-axes:])
    channels = x.shape[-axes - 1]
    shape = (prod(x.shape[: -axes - 1]), channels, height, width, _mean(kernel), _mean(stride))
    window = prod(kernel) if axes > 1 else kernel[0] ** max(1, x.ndim - 2)
    return "pool", shape, float(result.numel() * window)


def _reduce(args: Sequence[Any], result: Tensor) -> Description:
    elements = args[0].numel()
    rows = max(result.numel(), 1)
    return "reduce", (rows, elements // rows), float(elements)


def _concat(args: Sequence[Any], result: Tensor) -> Description:
    return "concat", (result.numel(), len(args[0])), 0.0


def _resize(args: Sequence[Any], result: Tensor) -> Description:
    return "resize", (args[0].numel(), result.numel()), float(result.numel())


def _embedding(args: Sequence[Any], result: Tensor) -> Description:
    vocabulary, columns = args[0].shape
    return "embedding", (result.numel() // max(columns, 1), columns, vocabulary), 0.0


def _given(args: Sequence[Any], place: int, default: Any) -> Any:
    """A positional argument that the dispatcher leaves out where it has its default."""
    return args[place] if len(args) > place else default


def _each(value: Any) -> Sequence[int]:
    return value if isinstance(value, list | tuple | torch.Size) else (value,)


def _mean(sizes: Sequence[int]) -> int:
    """Geometric mean, rounded."""
    if len(sizes) == 1 or (sizes[0] == sizes[-1] and len(sizes) == 2):
        return int(sizes[0])
    return round(pow(prod(sizes), 1.0 / len(sizes)))


def _plane(sizes: Sequence[int]) -> tuple[int, int]:
    """Height and width: a sequence has height 1, and a volume's depth counts as height."""
    return prod(sizes[:-1]), sizes[-1]


def _by_columns(result: Tensor, columns: int) -> tuple[int, int]:
    return result.numel() // max(columns, 1), columns


_aten = torch.ops.aten

ATTENTION = _aten.scaled_dot_product_attention.default

IDENTITIES = frozenset({_aten.dropout.default, _aten.feature_dropout.default, _aten.alpha_dropout.default})
"""Of (x, share, training): nothing is done outside training."""

DESCRIBED: Mapping[Any, Callable[[Sequence[Any], Tensor], Description]] = {
    _aten.conv2d: _conv2d,
    _aten.convolution: _convolution,
    _aten._convolution: _convolution,
    _aten.linear: _linear,
    _aten.mm: _mm,
    _aten.mv: _mm,
    _aten.dot: lambda args, _: ("linear", (1, args[0].numel(), 1), 2.0 * args[0].numel()),
    _aten.addmm: _addmm,
    _aten.addmv: _addmm,
    _aten.bmm: _bmm,
    _aten.baddbmm: _baddbmm,
    _aten.scaled_dot_product_attention: _attention,
    _aten._scaled_dot_product_flash_attention: _attention,
    _aten._scaled_dot_product_efficient_attention: _attention,
    _aten._scaled_dot_product_cudnn_attention: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_fused_attention_overrideable: _attention,
    _aten._softmax: _softmax,
    _aten._log_softmax: _softmax,
    _aten._safe_softmax: _softmax,
    _aten.native_layer_norm: _layer_norm,
    _aten._fused_rms_norm: _layer_norm,
    _aten.native_group_norm: _group_norm,
    _aten.batch_norm: _batch_norm,
    _aten.native_batch_norm: _batch_norm,
    _aten.max_pool1d: _pool,
    _aten.max_pool2d: _pool,
    _aten.max_pool3d: _pool,
    _aten.max_pool2d_with_indices: _pool,
    _aten.max_pool3d_with_indices: _pool,
    _aten.avg_pool1d: _pool,
    _aten.avg_pool2d: _pool,
    _aten.avg_pool3d: _pool,
    _aten._adaptive_avg_pool2d: _adaptive_pool,
    _aten._adaptive_avg_pool3d: _adaptive_pool,
    _aten.adaptive_max_pool2d: _adaptive_pool,
    _aten.adaptive_max_pool3d: _adaptive_pool,
    _aten.cat: _concat,
    _aten.stack: _concat,
    _aten.upsample_nearest1d: _resize,
    _aten.upsample_nearest2d: _resize,
    _aten.upsample_nearest3d: _resize,
    _aten.upsample_linear1d: _resize,
    _aten.upsample_bilinear2d: _resize,
    _aten.upsample_bicubic2d: _resize,
    _aten.upsample_trilinear3d: _resize,
    _aten._upsample_nearest_exact2d: _resize,
    _aten._upsample_bilinear2d_aa: _resize,
    _aten.embedding: _embedding,
}
"""Operations that are recorded as a whole, even those that PyTorch defines by others."""

_POINTWISE = frozenset(
    {_aten.hardswish, _aten.hardswish_, _aten._prelu_kernel, _aten.glu, _aten.div, _aten.rsub}
)
"""Element by element, though PyTorch's tags do not say so."""

_COPIES = frozenset(
    getattr(_aten, name)
    for name in [
        "_to_copy",
        "arange",
        "clone",
        "constant_pad_nd",
        "copy",
        "copy_",
        "eye",
        "fill",
        "fill_",
        "flip",
        "full",
        "full_like",
        "gather",
        "index",
        "index_select",
        "masked_fill",
        "new_full",
        "new_ones",
        "new_zeros",
        "ones",
        "ones_like",
        "pixel_shuffle",
        "pixel_unshuffle",
        "reflection_pad1d",
        "reflection_pad2d",
        "repeat",
        "replication_pad1d",
        "replication_pad2d",
        "roll",
        "scalar_tensor",
        "slice_scatter",
        "tril",
        "triu",
        "zero",
        "zero_",
        "zeros",
        "zeros_like",
        "channel_shuffle",
        "native_channel_shuffle",
    ]
)

_FREE = frozenset(
    getattr(_aten, name)
    for name in [
        "_local_scalar_dense",
        "_unsafe_view",
        "empty",
        "empty_like",
        "empty_permuted",
        "empty_strided",
        "is_same_size",
        "new_empty",
        "new_empty_strided",
        "resize_",
        "set_",
    ]
)
