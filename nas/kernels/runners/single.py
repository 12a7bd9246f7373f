"""An operation alone: a call on random numbers that computes what an `Op` describes."""

from __future__ import annotations

from math import isclose, prod
from typing import TYPE_CHECKING, Any, final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from nas.errors import Unsupported
from nas.kernels.capture import BYTES
from nas.rng import derive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from nas.kernels.op import Op

SHORT_FLOPS = 2.0**22
"""Of what takes some tens of microseconds: of more, four copies are enough."""


@final
class Single:
    """A callable of one operation.

    Attributes:
        inputs: activations, in order.
        weights: parameters, in order.
        settings: what the call needs beside: integers by name.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        inputs: Sequence[Tensor],
        weights: Sequence[Tensor] = (),
        **settings: Any,
    ) -> None:
        self.call, self.inputs, self.weights, self.settings = call, list(inputs), list(weights), settings

    def __call__(self) -> Any:
        """Run it."""
        return self.call(*self.inputs, *self.weights, **self.settings)

    def moved(self, device: str) -> Single:
        """The same on a device."""
        inputs, weights = ([t.to(device) for t in some] for some in (self.inputs, self.weights))
        return Single(self.call, inputs, weights, **self.settings)


def single(op: Op, seed: int) -> Single:
    """A call that computes an operation.

    Args:
        op: where its description leaves a choice, as of how a plane is cut, the simplest is taken.
        seed: of inputs and weights, drawn from the normal distribution.

    Raises:
        Unsupported: the operation's kind is not among those that can be made from their description, or its
            sizes belong to a variant that is not, such as a dilated convolution.
    """
    make = _MAKERS.get(op.family)
    if make is None or op.dtype not in ("float32", "float16", "bfloat16"):
        raise _no(op)
    return make(op, _Draw(op, seed))


def copies(op: Op, cache: float, most: int) -> int:
    """How many copies to time in turn: many of a tiny operation, beside which all else weighs little.

    Together they fit half of the cache, as an operation alone does; so each finds its weights and inputs
    there as far as they fit, and whole networks that do not fit add what they fetch
    (`nas.kernels.composition`).

    Args:
        op: to be timed.
        cache: bytes of a core's own cache.
        most: of them, at least 1.
    """
    fitting = cache / 2 / max(op.bytes, 1.0)
    short = SHORT_FLOPS / max(op.flops, 1.0)
    return max(1, min(most, int(min(fitting, max(short, 4)))))


def _no(op: Op) -> Unsupported:
    return Unsupported(f"no single call is known for {op.dtype} {op.family}/{op.name} of {op.shape}")


@final
class _Draw:
    """Random tensors of an operation's dtype."""

    def __init__(self, op: Op, seed: int) -> None:
        self._dtype = getattr(torch, op.dtype)
        self._generator = torch.Generator().manual_seed(derive(seed, "op", repr(op)))

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(self._dtype)


def weights_of(op: Op) -> int:
    """Numbers among its parameters."""
    return round(op.bytes_weight / BYTES[op.dtype])


def read_by(op: Op) -> int:
    """Numbers among its activations."""
    return round(op.bytes_in / BYTES[op.dtype])


def written_by(op: Op) -> int:
    """Numbers of its result."""
    return round(op.bytes_out / BYTES[op.dtype])


def _conv(op: Op, draw: _Draw) -> Single:
    batch, ins, outs, height, width, kernel, stride, padding, groups = op.shape
    axes = {"conv1d": 1, "conv2d": 2}.get(op.name, 0)
    plane = (height, width)[2 - axes :]
    out = [(side + 2 * padding - kernel) // stride + 1 for side in plane]
    flops = 2.0 * batch * outs * prod(out) * (ins // groups) * kernel**axes
    if not axes or (axes == 1 and height != 1) or not isclose(flops, op.flops):
        raise _no(op)
    weights = [draw(outs, ins // groups, *[kernel] * axes)]
    if weights_of(op) > weights[0].numel():
        weights.append(draw(outs))
    call = F.conv1d if axes == 1 else F.conv2d
    return Single(call, [draw(batch, ins, *plane)], weights, stride=stride, padding=padding, groups=groups)


def _linear(op: Op, draw: _Draw) -> Single:
    rows, ins, outs = op.shape
    weights = [draw(outs, ins)]
    if weights_of(op) > weights[0].numel():
        weights.append(draw(outs))
    return Single(F.linear, [draw(rows, ins)], weights)


def _bmm(op: Op, draw: _Draw) -> Single:
    batch, m, n, k = op.shape
    return Single(torch.bmm, [draw(batch, m, k), draw(batch, k, n)])


def _attention(op: Op, draw: _Draw) -> Single:
    batch, heads, queries, keys, size = op.shape
    at = [draw(batch, heads, length, size) for length in (queries, keys, keys)]
    return Single(F.scaled_dot_product_attention, at)


def _softmax(op: Op, draw: _Draw) -> Single:
    call = torch.log_softmax if op.name == "log_softmax" else torch.softmax
    return Single(call, [draw(*op.shape)], dim=-1)


def _layer_norm(op: Op, draw: _Draw) -> Single:
    rows, columns = op.shape
    if op.name != "layer_norm":
        raise _no(op)
    weights = [draw(columns) for _ in range(weights_of(op) // columns)]

    def call(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        return F.layer_norm(x, (columns,), weight, bias)

    return Single(call, [draw(rows, columns)], weights)


def _batch_norm(op: Op, draw: _Draw) -> Single:
    batch, channels, positions = op.shape
    weights = [draw(channels).abs() for _ in range(max(2, weights_of(op) // channels))]
    edge = round(positions**0.5)
    plane = (edge, edge) if edge * edge == positions else (positions, 1)
    return Single(F.batch_norm, [draw(batch, channels, *plane)], weights[:4])


def _pointwise(op: Op, draw: _Draw) -> Single:
    elements, inputs = op.shape
    call = _UNARY.get(op.name) if inputs == 1 else _BINARY.get(op.name)
    if call is None or inputs > 2:
        raise _no(op)
    if inputs == 1:
        return Single(call, [draw(elements)])
    other = read_by(op) + weights_of(op) - elements
    if other >= elements:
        return Single(call, [draw(elements), draw(elements)])
    if other < 1 or elements % other:
        raise _no(op)
    return Single(call, [draw(other, elements // other), draw(other, 1)])


def _pool(op: Op, draw: _Draw) -> Single:
    images, channels, height, width, kernel, stride = op.shape
    x = draw(images, channels, height, width)
    out = written_by(op) // (images * channels)
    if op.name == "adaptive_avg_pool2d":
        edge = round(out**0.5)
        return Single(F.adaptive_avg_pool2d, [x], output_size=(edge, edge))
    call: Any = {"max_pool2d": F.max_pool2d, "avg_pool2d": F.avg_pool2d}.get(op.name)
    for padding in range(kernel // 2 + 1):
        for ceil in (False, True):
            sides = [pooled(side, kernel, stride, padding, ceil=ceil) for side in (height, width)]
            if call is not None and prod(sides) == out:
                return Single(call, [x], kernel_size=kernel, stride=stride, padding=padding, ceil_mode=ceil)
    raise _no(op)


def pooled(side: int, kernel: int, stride: int, padding: int, *, ceil: bool) -> int:
    """The side of a pooled plane; a last window begins within the padded side."""
    found = (side + 2 * padding - kernel + (stride - 1 if ceil else 0)) // stride + 1
    return found - 1 if ceil and (found - 1) * stride >= side + padding else found


def _reduce(op: Op, draw: _Draw) -> Single:
    call: Any = {"mean": torch.mean, "sum": torch.sum, "amax": torch.amax}.get(op.name)
    if call is None:
        raise _no(op)
    return Single(call, [draw(*op.shape)], dim=1)


def _concat(op: Op, draw: _Draw) -> Single:
    elements, inputs = op.shape
    part = max(1, elements // inputs)
    sizes = [*[part] * (inputs - 1), max(1, elements - part * (inputs - 1))]

    def call(*parts: Tensor) -> Tensor:
        return torch.cat(parts)

    return Single(call, [draw(size) for size in sizes])


def _copy(op: Op, draw: _Draw) -> Single:
    if op.name != "clone":
        raise _no(op)
    return Single(torch.clone, [draw(*op.shape)])


def _embedding(op: Op, draw: _Draw) -> Single:
    rows, columns, vocabulary = op.shape
    weight = draw(vocabulary, columns)
    picked = torch.randint(vocabulary, (rows,), generator=torch.Generator().manual_seed(rows))
    return Single(F.embedding, [picked], [weight])


_MAKERS: Mapping[str, Callable[[Op, _Draw], Single]] = {
    "conv": _conv,
    "linear": _linear,
    "bmm": _bmm,
    "attention": _attention,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "pointwise": _pointwise,
    "pool": _pool,
    "reduce": _reduce,
    "concat": _concat,
    "copy": _copy,
    "embedding": _embedding,
}


def _relu6(x: Tensor) -> Tensor:
    return F.hardtanh(x, 0.0, 6.0)


_UNARY: Mapping[str, Callable[..., Any]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": _relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "exp": torch.exp,
    "neg": torch.neg,
    "sqrt": torch.sqrt,
    "add": lambda x: x + 1.5,
    "mul": lambda x: x * 1.5,
    "sub": lambda x: x - 1.5,
    "div": lambda x: x / 1.5,
}
_BINARY: Mapping[str, Callable[..., Any]] = {
    "add": torch.add,
    "mul": torch.mul,
    "sub": torch.sub,
    "div": torch.div,
    "maximum": torch.maximum,
}
