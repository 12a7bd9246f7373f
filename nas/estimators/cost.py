"""What a candidate costs whatever the machine: parameters, multiply-accumulates, bytes."""

from __future__ import annotations

import time
import weakref
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nas.architecture import Fixed
from nas.errors import NasError, must, unknown_metric
from nas.estimators.machine import no_collection
from nas.evaluator import Evaluator, seeded_module
from nas.proposal import Measurement, Outcome, Proposal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from nas.space import Space
    from nas.target import Target
    from nas.task import Task

_OF_WEIGHTS = frozenset({"params", "trainable_params", "model_bytes"})
_OF_FORWARD = frozenset({"macs", "activation_bytes"})
_ATTEMPTS = ("meta", "cpu")


@final
class CostEvaluator(Evaluator):
    """Counts a candidate's costs for one input.

    * ``params``, ``trainable_params``: numbers of parameters; shared ones count once.
    * ``model_bytes``: bytes of parameters and buffers, floating ones in the target's dtype.
    * ``macs``: multiply-accumulates of convolutions, matrix products and attention in a forward pass, half
      of what ``torch.utils.flop_counter`` counts. Element-wise operations, norms, pooling and look-ups are 0.
    * ``activation_bytes``: the most bytes that the input and the results of operations occupy at any time
      of a forward pass as eager PyTorch runs it, without gradients; not the workspaces inside operations.

    A module is built and run on the meta device, where nothing is computed; where its code does not allow
    that, it is built and run for real.

    Args:
        space, task: what is built, and what gives one input.
        target: whose dtype counts; float32 when None.

    Raises:
        BadInput: the task's example is no tensor.
    """

    metrics = _OF_WEIGHTS | _OF_FORWARD
    cheap = _OF_WEIGHTS | _OF_FORWARD

    def __init__(self, space: Space, task: Task, target: Target | None = None) -> None:
        self._space = space
        self._dtype = getattr(torch, "float32" if target is None else target.dtype)
        example = task.example(1)
        if not isinstance(example, torch.Tensor):
            raise must("the task's example", "be a tensor", type(example).__name__)
        self._example = example.to(self._dtype) if example.is_floating_point() else example

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Count each candidate; weights are of no account.

        Raises:
            UnknownMetric: a metric is not one of these.
            Exception: what the module raises when it is run for real.
        """
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        for metric in proposal.metrics:
            if metric not in self.metrics:
                raise unknown_metric(metric, self.metrics)
        start = time.perf_counter()
        # Building allocates so many objects that the collector would take a third of the time.
        with no_collection():
            values, device = self._counted(proposal, seed)
        seconds = time.perf_counter() - start
        return Measurement({m: values[m] for m in proposal.metrics}, seconds, notes={"counted_on": device})

    def _counted(self, proposal: Proposal, seed: int) -> tuple[Mapping[str, float], str]:
        # A fixed module comes with weights of its own, which the meta device would swallow.
        devices = _ATTEMPTS[1:] if isinstance(proposal.candidate, Fixed) else _ATTEMPTS
        for device in devices:
            try:
                return self._on(device, proposal, seed), device
            except NasError:
                raise
            except Exception:
                if device == devices[-1]:
                    raise
        raise AssertionError("one device returns or raises")

    def _on(self, device: str, proposal: Proposal, seed: int) -> Mapping[str, float]:
        with torch.device(device):
            module = seeded_module(self._space, proposal, seed).eval()
        if self._dtype is not torch.float32:
            module = module.to(self._dtype)
        values = weights_cost(module)
        if _OF_FORWARD.isdisjoint(proposal.metrics):
            return values
        return {**values, **forward_cost(module, self._example.to(device))}


def weights_cost(module: nn.Module) -> dict[str, float]:
    """``params``, ``trainable_params`` and ``model_bytes`` of a module."""
    parameters = list(module.parameters())
    tensors = [*parameters, *module.buffers()]
    return {
        "params": sum(p.numel() for p in parameters),
        "trainable_params": sum(p.numel() for p in parameters if p.requires_grad),
        "model_bytes": sum(t.numel() * t.element_size() for t in tensors),
    }


def forward_cost(module: nn.Module, x: Tensor) -> dict[str, float]:
    """``macs`` and ``activation_bytes`` of a module in evaluation mode, called with ``x``.

    Args:
        module: with its weights on the device of ``x``; the meta device will do.
        x: shape (1, ...) for the cost of one input.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    # The fused fast path of attention hides its matrix products from dispatch.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]), _Count(module, x) as count:
            module(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return {"macs": count.macs, "activation_bytes": count.peak_bytes}


@final
class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the multiply-accumulates of what is dispatched, and follows the memory of its results."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.peak_bytes = 0
        self._bytes = 0
        self._live: dict[int, weakref.ref[Any]] = {}
        self._kept = {_storage_key(t) for t in (*module.parameters(), *module.buffers())}
        self._follow(x)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and take note of it, or of its parts where it is a composite of others."""
        kwargs = kwargs or {}
        if func is _ATTENTION and _fusible(*args[:3]):
            return self.__torch_dispatch__(_FUSED_ATTENTION, types, args[:3])[0]
        result = _shortcut(func._overloadpacket, args)
        if result is None and _composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        if result is None:
            result = func(*args, **kwargs)
        macs = _MACS.get(func._overloadpacket)
        if macs is not None:
            self.macs += macs(args, result)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live or key in self._kept:
            return
        size = storage.nbytes()
        self._bytes += size
        self.peak_bytes = max(self.peak_bytes, self._bytes)

        def freed(_: Any) -> None:
            self._bytes -= size
            self._live.pop(key, None)

        self._live[key] = weakref.ref(storage, freed)


@cache
def _composite(operation: Any) -> bool:
    """Whether an operation is defined by others; one that is not may still have its own rule on a device."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd")


def _storage_key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _fusible(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether attention on the meta device, which takes it apart, would be one operation elsewhere."""
    alike = query.ndim == 4 and query.shape[:2] == key.shape[:2] and query.shape[-1] == value.shape[-1]
    return alike and query.device.type == "meta"


def _shortcut(operation: Any, args: Sequence[Any]) -> Any:
    """The empty result of a frequent operation on the meta device; None where there is no shortcut.

    The device's own rules for these take up to a hundred times longer.
    """
    if operation not in _SHORTCUTS or args[0].device.type != "meta":
        return None
    if operation is _aten.batch_norm:
        training = args[5]
        return None if training else torch.empty_like(args[0])
    others = [a for a in args[1:] if isinstance(a, torch.Tensor)]
    if any(a.shape != args[0].shape or a.dtype != args[0].dtype for a in others):
        return None
    return torch.empty_like(args[0])


def _convolution(args: Sequence[Any], result: Any) -> int:
    x, weight = args[0], args[1]
    transposed = args[6]
    positions = x if transposed else result
    return int(positions.numel() * prod(weight.shape[1:]))


def _matrix(first: int) -> Callable[[Sequence[Any], Any], int]:
    """Of a product whose left factor, of shape (..., m, k), stands at ``first``."""
    return lambda args, result: int(result.numel() * args[first].shape[-1])


def _attention(args: Sequence[Any], result: Any) -> int:  # noqa: ARG001 - as the others
    query, key, value = args[:3]
    return int(query.numel() * key.shape[-2] + prod(query.shape[:-1]) * prod(value.shape[-2:]))


_aten = torch.ops.aten
_ATTENTION = _aten.scaled_dot_product_attention.default
_FUSED_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu.default
_SHORTCUTS = frozenset(
    {
        _aten.add,
        _aten.batch_norm,
        _aten.gelu,
        _aten.hardswish,
        _aten.hardtanh,
        _aten.mul,
        _aten.relu,
        _aten.silu,
    }
)
"""Batch normalisation, and operations whose result is like their tensors where those are alike."""

_MACS: Mapping[Any, Callable[[Sequence[Any], Any], int]] = {
    _aten.convolution: _convolution,
    _aten._convolution: _convolution,
    _aten.mm: _matrix(0),
    _aten.bmm: _matrix(0),
    _aten.mv: _matrix(0),
    _aten.dot: lambda args, _: int(args[0].numel()),
    _aten.addmm: _matrix(1),
    _aten.addmv: _matrix(1),
    _aten.baddbmm: _matrix(1),
    _aten._scaled_dot_product_flash_attention: _attention,
    _aten._scaled_dot_product_efficient_attention: _attention,
    _aten._scaled_dot_product_cudnn_attention: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_fused_attention_overrideable: _attention,
}
"""Multiply-accumulates by operation, from its arguments and its result."""
