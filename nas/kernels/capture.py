"""The operations of a module's forward pass, in order, with what each computes and moves.

Operations are seen as the module asks for them: a linear layer, an attention and a batch normalisation are
one operation each, as in a graph of ``torch.export`` before its decomposition. What has no family of its own
and is defined by other operations is taken apart; the rest is family ``other``, by its name.
"""

from __future__ import annotations

import copy
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.errors import must
from nas.kernels.families import (
    ATTENTION,
    DESCRIBED,
    IDENTITIES,
    described,
    free,
    name_of,
)
from nas.kernels.meta import shortcut
from nas.kernels.op import known_op

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import nn

    from nas.kernels.op import Op

BYTES: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Of a number, by dtype."""


@final
@dataclass(frozen=True, slots=True)
class Call:
    """One operation of a pass.

    Args:
        op: what it computes.
        inputs: positions of the calls that its activations come from, without views in between, each once;
            -1 for the inputs of the module. Parameters are not listed.
    """

    op: Op
    inputs: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Trace:
    """A forward pass.

    Args:
        calls: the operations in the order of execution.
        weight_bytes: bytes of parameters and buffers.
        activation_bytes: the most that the input and results occupy at any time, as eager PyTorch frees them.
        outputs: positions of the calls whose results the module gives.
        traced_on: ``meta`` where nothing was computed, else where the module had to be run.
        note: why it had to be run; empty on meta.
    """

    calls: tuple[Call, ...]
    weight_bytes: float
    activation_bytes: float
    outputs: tuple[int, ...]
    traced_on: str = "meta"
    note: str = ""

    @property
    def flops(self) -> float:
        """Floating-point operations, two per multiply-accumulate."""
        return sum(call.op.flops for call in self.calls)

    @property
    def macs(self) -> float:
        """Multiply-accumulates of convolutions, matrix products and attention."""
        return sum(call.op.flops for call in self.calls if call.op.family in PRODUCTS) / 2


PRODUCTS = frozenset({"conv", "linear", "bmm", "attention"})
"""Families whose arithmetic is multiply-accumulates."""


def peak_bytes(trace: Trace) -> float:
    """Bytes that must be there at the worst moment: all weights, and activations while they are in use."""
    return trace.weight_bytes + trace.activation_bytes


def capture(module: nn.Module, example: Tensor, *, dtype: str = "float32") -> Trace:
    """The operations of ``module(example)``.

    Nothing is computed where the module lets itself be traced on the meta device; one that looks at values
    is run where its weights are. All floating numbers count as ``dtype``, whatever the module's own is.

    Args:
        module: in evaluation mode, with weights or on the meta device; it is not changed.
        example: shape (batch, ...); its values matter only where the module looks at them.
        dtype: of weights and activations, as in `Op.dtype`.

    Raises:
        BadInput: the dtype is unknown.
        Exception: what the module raises for this input.
    """
    if dtype not in BYTES:
        raise must("dtype", f"be one of {', '.join(BYTES)}", dtype)
    devices = {t.device.type for t in tensors_of(module)} or {example.device.type}
    if devices == {"meta"}:
        return recorded(module, example.to("meta"), dtype)
    try:
        return recorded(_without_weights(module), example.to("meta"), dtype)
    except Exception as error:
        note = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return recorded(module, example.to(min(devices)), dtype, note)


def recorded(module: nn.Module, x: Tensor, dtype: str = "float32", note: str = "") -> Trace:
    """The trace of one run with these very weights and this input, both on the same device."""
    tensors = tensors_of(module)
    recorder = _Recorder(tensors, x, dtype)
    with _unfused_layers(), torch.inference_mode(), torch.random.fork_rng(devices=[]), recorder:
        outputs = recorder.sources(tree_leaves(module(x)))
    weights = sum(map(recorder.bytes_of, tensors))
    return Trace(tuple(recorder.calls), weights, recorder.peak_bytes, outputs, x.device.type, note)


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers; shared ones once."""
    return [*module.parameters(), *module.buffers()]


def _without_weights(module: nn.Module) -> nn.Module:
    """A copy on the meta device, for which no weight is copied."""
    twins: dict[int, Any] = {}
    for t in tensors_of(module):
        meta = t.detach().to("meta")
        twins[id(t)] = (
            torch.nn.Parameter(meta, t.requires_grad) if isinstance(t, torch.nn.Parameter) else meta
        )
    return copy.deepcopy(module, twins)


@contextmanager
def _unfused_layers() -> Iterator[None]:
    """The fast path of a transformer's layers hides its matrix products from dispatch: it is off inside."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@final
class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down what is dispatched, and follows the memory of its results."""

    def __init__(self, weights: Sequence[Tensor], x: Tensor, dtype: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.peak_bytes = 0
        self._dtype, self._width = dtype, BYTES[dtype]
        self._bytes = 0
        self._live: dict[int, weakref.ref[Any]] = {}
        self._source: dict[int, int] = {}
        self._kept = set(map(_storage_key, weights))
        self._follow(x, -1)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and take note of it, or of its parts where it is a composite of others."""
        kwargs = kwargs or {}
        if func in IDENTITIES and not args[2]:
            return args[0]
        if not _is_whole(func, args) and _composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        return self._run(func, args, kwargs)

    def bytes_of(self, tensor: Tensor) -> int:
        """Bytes behind a tensor, in the dtype that counts; what is broadcast is there once."""
        size = tensor.element_size()
        numbers = min(tensor.numel(), tensor.untyped_storage().nbytes() // size)
        return numbers * (self._width if tensor.is_floating_point() else size)

    def sources(self, values: Iterable[Any]) -> tuple[int, ...]:
        """The calls that wrote these tensors last, each once; -1 for the input."""
        keys = [_storage_key(v) for v in values if isinstance(v, Tensor)]
        return tuple(dict.fromkeys(self._source[key] for key in keys if key in self._source))

    def _run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        inputs = [] if free(func) else [(t, _storage_key(t)) for t in _flat((*args, *kwargs.values()))]
        # Asked before the operation, which may write over what it reads.
        sources = self.sources([t for t, _ in inputs])
        result = shortcut(func._overloadpacket, args)
        if result is None:
            result = func(*args, **kwargs)
        results = [result] if isinstance(result, Tensor) else list(_flat((result,)))
        call = None
        if not free(func) and (results or inputs):
            call = len(self.calls)
            self.calls.append(Call(self._op(func, args, inputs, results), sources))
        for tensor in results:
            self._follow(tensor, call)
        return result

    def _op(
        self, func: Any, args: Sequence[Any], inputs: list[tuple[Tensor, int]], results: list[Tensor]
    ) -> Op:
        family, shape, flops = described(func, args, results[0] if results else inputs[0][0])
        read = weights = 0
        for tensor, key in inputs:
            if key in self._kept:
                weights += self.bytes_of(tensor)
            else:
                read += self.bytes_of(tensor)
        written = sum(map(self.bytes_of, results))
        if family == "copy":  # of what is indexed, only a part is read
            read = min(read, written)
        if family == "embedding":
            weights = written
        return known_op(family, name_of(func, args), shape, self._dtype, flops, read, weights, written)

    def _follow(self, tensor: Tensor, call: int | None) -> None:
        """Count a result's memory until it is freed, and remember which call wrote it."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._kept:
            return
        if call is not None:
            self._source[key] = call
        if key in self._live:
            return
        size = self._storage_bytes(tensor)
        self._bytes += size
        self.peak_bytes = max(self.peak_bytes, self._bytes)

        def freed(_: Any) -> None:
            self._bytes -= size
            self._live.pop(key, None)
            self._source.pop(key, None)

        self._live[key] = weakref.ref(storage, freed)

    def _storage_bytes(self, tensor: Tensor) -> int:
        size, stored = tensor.element_size(), tensor.untyped_storage().nbytes()
        return stored // size * self._width if tensor.is_floating_point() else stored


def _flat(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among values and in their lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _flat(value)


def _is_whole(func: Any, args: Sequence[Any]) -> bool:
    """Whether a call is recorded as one operation, even if others define it."""
    return _fusible(*args[:3]) if func is ATTENTION else func._overloadpacket in DESCRIBED


@cache
def _composite(operation: Any) -> bool:
    """Whether an operation is defined by others; one that is not may still have its own rule on a device."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd")


def _storage_key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _fusible(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether attention is one operation; of unlike widths, heads or axes, PyTorch takes it apart."""
    return query.ndim == 4 and query.shape[:2] == key.shape[:2] and query.shape[-1] == value.shape[-1]
