"""Straight-line programs of array functions: what they are, when they are valid, and what they compute.

The same functions run on numpy arrays and on torch tensors; ``xp`` is either module. A value has a shape of
its own, such as ``()`` or ``(d,)``, behind an axis of samples that every array has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np

from nas.errors import BadInput
from nas.space import Graph

if TYPE_CHECKING:
    from nas.architecture import Architecture
    from nas.space import Node

Shape: TypeAlias = tuple[int, ...]
Rule: TypeAlias = Callable[..., Shape]


class BadShape(BadInput):
    """A function cannot take operands of these shapes."""


# --- rules: the shape that comes out --------------------------------------------------------------------


def _elementwise(*shapes: Shape) -> Shape:
    """Equal shapes, or numbers beside them."""
    wide = {s for s in shapes if s}
    if len(wide) > 1:
        raise BadShape(f"shapes must be equal, got {sorted(wide)}")
    return wide.pop() if wide else ()


def _reduced(shape: Shape) -> Shape:
    """Without the last axis, which must be there."""
    if not shape:
        raise BadShape("a reduction must have an axis to reduce, got a number")
    return shape[:-1]


def _along(shape: Shape) -> Shape:
    """The same, with a last axis."""
    _reduced(shape)
    return shape


def _dot(a: Shape, b: Shape) -> Shape:
    if a != b or len(a) != 1:
        raise BadShape(f"dot must have two equal vectors, got {a} and {b}")
    return ()


def _matmul(a: Shape, b: Shape) -> Shape:
    if len(a) != 2 or len(b) != 1 or a[1] != b[0]:
        raise BadShape(f"matmul must have a matrix and a vector that fit, got {a} and {b}")
    return (a[0],)


def _outer(a: Shape, b: Shape) -> Shape:
    if len(a) != 1 or len(b) != 1:
        raise BadShape(f"outer must have two vectors, got {a} and {b}")
    return (*a, *b)


# --- functions ------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Function:
    """An array function.

    Args:
        arity: number of operands, 1 to 3.
        compute: of (xp, operands with their axis of samples).
        rule: shape of the result from the operands' shapes; raises `BadShape`.
        commutative, associative: as in `nas.operators.Operator`.
        neutral: the constant that changes nothing as an operand; None where there is none.
    """

    arity: int
    compute: Callable[..., Any]
    rule: Rule = _elementwise
    commutative: bool = False
    associative: bool = False
    neutral: float | None = None

    def apply(self, xp: Any, operands: Sequence[Any]) -> Any:
        """The function of operands whose axes are not aligned yet."""
        if self.rule is _elementwise and len(operands) > 1:
            operands = aligned(operands)
        return self.compute(xp, *operands)


def _log(xp: Any, a: Any) -> Any:
    return xp.log(xp.abs(a) + 1e-8)


def _div(xp: Any, a: Any, b: Any) -> Any:
    """Zero where the divisor is (almost) zero."""
    safe = xp.abs(b) > 1e-8
    return xp.where(safe, a / xp.where(safe, b, 1.0), 0.0)


def _norm(xp: Any, a: Any) -> Any:
    return xp.sqrt(xp.sum(a * a, -1))


def _std(xp: Any, a: Any) -> Any:
    centred = a - xp.mean(a, -1)[..., None]
    return xp.sqrt(xp.mean(centred * centred, -1))


def _cosine(xp: Any, a: Any, b: Any) -> Any:
    return _div(xp, xp.sum(a * b, -1), _norm(xp, a) * _norm(xp, b))


def _softmax(xp: Any, a: Any) -> Any:
    powers = xp.exp(a - xp.amax(a, -1)[..., None])
    return powers / xp.sum(powers, -1)[..., None]


def _clip(xp: Any, a: Any, low: Any, high: Any) -> Any:
    return xp.minimum(xp.maximum(a, low), high)


def _exp(xp: Any, a: Any) -> Any:
    """Of at most 30 in magnitude."""
    return xp.exp(xp.clip(a, -30.0, 30.0))


FUNCTIONS: Mapping[str, Function] = {
    "copy": Function(1, lambda _, a: a),
    "neg": Function(1, lambda _, a: -a),
    "abs": Function(1, lambda xp, a: xp.abs(a)),
    "sign": Function(1, lambda xp, a: xp.sign(a)),
    "square": Function(1, lambda _, a: a * a),
    "cube": Function(1, lambda _, a: a * a * a),
    "sqrt": Function(1, lambda xp, a: xp.sqrt(xp.abs(a))),
    "log": Function(1, _log),
    "exp": Function(1, _exp),
    "reciprocal": Function(1, lambda xp, a: _div(xp, xp.ones_like(a), a)),
    "tanh": Function(1, lambda xp, a: xp.tanh(a)),
    "sigmoid": Function(1, lambda xp, a: 0.5 + 0.5 * xp.tanh(0.5 * a)),
    "relu": Function(1, lambda xp, a: xp.maximum(a, 0.0 * a)),
    "sin": Function(1, lambda xp, a: xp.sin(a)),
    "cos": Function(1, lambda xp, a: xp.cos(a)),
    "heaviside": Function(1, lambda xp, a: xp.where(a > 0, 1.0, 0.0)),
    "add": Function(2, lambda _, a, b: a + b, commutative=True, associative=True, neutral=0.0),
    "sub": Function(2, lambda _, a, b: a - b),
    "mul": Function(2, lambda _, a, b: a * b, commutative=True, associative=True, neutral=1.0),
    "div": Function(2, _div),
    "maximum": Function(2, lambda xp, a, b: xp.maximum(a, b), commutative=True, associative=True),
    "minimum": Function(2, lambda xp, a, b: xp.minimum(a, b), commutative=True, associative=True),
    "hypot": Function(2, lambda xp, a, b: xp.sqrt(a * a + b * b), commutative=True),
    "greater": Function(2, lambda xp, a, b: xp.where(a > b, 1.0, 0.0)),
    "interpolate": Function(3, lambda _, a, b, t: a + (b - a) * t),
    "clip": Function(3, _clip),
    "select": Function(3, lambda xp, c, a, b: xp.where(c > 0, a, b)),
    "mean": Function(1, lambda xp, a: xp.mean(a, -1), _reduced),
    "total": Function(1, lambda xp, a: xp.sum(a, -1), _reduced),
    "norm": Function(1, _norm, _reduced),
    "std": Function(1, _std, _reduced),
    "largest": Function(1, lambda xp, a: xp.amax(a, -1), _reduced),
    "smallest": Function(1, lambda xp, a: xp.amin(a, -1), _reduced),
    "head": Function(1, lambda _, a: a[..., 0], _reduced),
    "last": Function(1, lambda _, a: a[..., -1], _reduced),
    "roll": Function(1, lambda xp, a: xp.roll(a, 1, -1), _along),
    "cumsum": Function(1, lambda xp, a: xp.cumsum(a, -1), _along),
    "normalise": Function(1, lambda xp, a: _div(xp, a, _norm(xp, a)[..., None]), _along),
    "softmax": Function(1, _softmax, _along),
    "dot": Function(2, lambda xp, a, b: xp.sum(a * b, -1), _dot, commutative=True),
    "cosine": Function(2, _cosine, _dot, commutative=True),
    "matmul": Function(2, lambda xp, a, b: xp.matmul(a, b[..., None])[..., 0], _matmul),
    "outer": Function(2, lambda _, a, b: a[..., :, None] * b[..., None, :], _outer),
}
"""By name. Every one gives finite numbers for moderate finite operands."""


# --- programs -------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Signature:
    """What programs of one kind read and give.

    Args:
        inputs: shape of each input variable; programs may overwrite them.
        constants: values that programs read and cannot change.
        outputs: shape that each output variable must have in the end; one that is no input begins as zeros.
        temporaries: further variables, which begin as the number 0.
    """

    inputs: Mapping[str, Shape]
    constants: Mapping[str, float | np.ndarray[Any, np.dtype[np.float64]]]
    outputs: Mapping[str, Shape]
    temporaries: Sequence[str] = ()

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """What can be assigned."""
        return tuple(dict.fromkeys((*self.inputs, *self.outputs, *self.temporaries)))

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """What can be read."""
        return (*self.variables, *self.constants)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every operand at the start."""
        numbers: dict[str, Shape] = dict.fromkeys(self.variables, ())
        constants: dict[str, Shape] = {name: np.shape(value) for name, value in self.constants.items()}
        return {**numbers, **self.outputs, **self.inputs, **constants}

    @cached_property
    def zeros(self) -> Mapping[str, str]:
        """Name of the constant that each variable begins as, but for the inputs."""
        return {n: zeros_name(self.shapes[n]) for n in self.variables if n not in self.inputs}


@final
@dataclass(frozen=True)
class Statement:
    """``to = function(operands)``."""

    function: str
    to: str
    operands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.to} = {self.function}({', '.join(self.operands)})"


@final
@dataclass(frozen=True)
class Program:
    """Statements in order.

    Args:
        signature: whose operands they read and whose variables they assign.
        statements: each with as many operands as its function takes.
    """

    signature: Signature
    statements: tuple[Statement, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.statements))

    def check(self) -> None:
        """Execute on shapes alone.

        Raises:
            BadShape: a function cannot take its operands, or an output ends with another shape.
        """
        shapes = dict(self.signature.shapes)
        for s in self.statements:
            shapes[s.to] = FUNCTIONS[s.function].rule(*[shapes[name] for name in s.operands])
        for name, shape in self.signature.outputs.items():
            if shapes[name] != shape:
                raise BadShape(f"{name} must have shape {shape} in the end, got {shapes[name]}")

    @property
    def valid(self) -> bool:
        """Whether `check` passes."""
        try:
            self.check()
        except BadShape:
            return False
        return True

    @cached_property
    def live(self) -> tuple[Statement, ...]:
        """The statements that outputs depend on."""
        needed = set(self.signature.outputs)
        kept: list[Statement] = []
        for s in reversed(self.statements):
            if s.to in needed:
                needed.discard(s.to)
                needed.update(s.operands)
                kept.append(s)
        return tuple(reversed(kept))

    def graph(self) -> Graph:
        """The dataflow; its last node ``output`` reads the outputs in order.

        An input is an op of its own, ``input <name>``, and so is a constant, ``constant <name>``: which of
        them a program reads tells programs apart, not where. What begins as zeros is such a constant.
        """
        nodes: list[Node] = []
        places: dict[str, int] = {}

        def place(name: str) -> int:
            if name not in places:
                places[name] = len(nodes)
                nodes.append((self._leaf(name), ()))
            return places[name]

        for s in self.live:
            read = tuple([place(name) for name in s.operands])
            if s.function == "copy":
                places[s.to] = read[0]
            else:
                places[s.to] = len(nodes)
                nodes.append((s.function, read))
        outputs = tuple([place(name) for name in self.signature.outputs])
        return Graph((*nodes, ("output", outputs)))

    def _leaf(self, name: str) -> str:
        if name in self.signature.inputs:
            return f"input {name}"
        return f"constant {self.signature.zeros.get(name, name)}"

    def run(self, xp: Any, inputs: Mapping[str, Any], constants: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs for some samples.

        Args:
            xp: ``numpy`` or ``torch``.
            inputs: arrays of shape (samples, *shape) for every input of the signature.
            constants: as from `constants`, for ``xp``.

        Returns:
            Arrays of shape (samples or 1, *shape); numbers may overflow.
        """
        values = {**constants, **{n: constants[zeros] for n, zeros in self.signature.zeros.items()}, **inputs}
        for s in self.live:
            values[s.to] = FUNCTIONS[s.function].apply(xp, [values[name] for name in s.operands])
        return {name: values[name] for name in self.signature.outputs}


def aligned(arrays: Sequence[Any]) -> list[Any]:
    """Arrays with trailing axes of length 1, so that numbers broadcast against vectors and matrices."""
    axes = max(a.ndim for a in arrays)
    return [a.reshape(a.shape + (1,) * (axes - a.ndim)) if a.ndim < axes else a for a in arrays]


def constants_of(signature: Signature) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Constants and zeros by name, as numpy arrays of shape (1, *shape)."""
    zeros = {zeros_name(shape): np.zeros(shape) for shape in ((), *signature.outputs.values())}
    return {n: np.asarray(value, float)[None] for n, value in {**zeros, **signature.constants}.items()}


def zeros_name(shape: Shape) -> str:
    """``0`` for the number, ``0 (4,)`` for zeros of a shape."""
    return f"0 {shape}" if shape else "0"


class Programs(ABC):
    """What a space is besides, when its architectures are programs of one signature.

    Attributes:
        interface: what every program reads and gives.
    """

    interface: Signature

    @abstractmethod
    def program(self, architecture: Architecture) -> Program:
        """The chosen program."""
