"""Straight-line programs of array functions, such as regression formulas and optimizer updates."""

from __future__ import annotations

import math
import re
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import nn

from nas.decision import Categorical, Repeat, When
from nas.errors import must, unknown
from nas.operators import Operator
from nas.program import FUNCTIONS, Function, Program, Programs, Signature, Statement, constants_of
from nas.rng import stream
from nas.space import Space
from nas.spaces.settings import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nas.architecture import Architecture
    from nas.operators import Array, Draw
    from nas.space import Graph
    from nas.task import Task

NUMBERS = ("0", "0.1", "0.5", "0.9", "0.99", "1", "2")
"""Constants of every program."""
HIDDEN = 6
"""Rows of the constant matrix of regression programs."""
CANONICAL = 16
"""Samples of a canonical input."""


def regression(width: int, temporaries: int) -> Signature:
    """Formulas ``y`` of a vector ``x``, with a constant vector ``w`` and a constant matrix ``A``."""
    rng = stream(0, "program", "constants", width)
    numbers = {name: float(name) for name in NUMBERS}
    arrays = {"w": rng.standard_normal(width), "A": rng.standard_normal((HIDDEN, width)) / math.sqrt(width)}
    return Signature({"x": (width,)}, {**numbers, **arrays}, {"y": ()}, _names(temporaries))


def optimizer(width: int, temporaries: int) -> Signature:
    """Updates ``u`` of weights from the gradient ``g`` and the kept vectors ``m`` and ``v``."""
    shape = (width,)
    numbers = {name: float(name) for name in NUMBERS}
    kept = {"m": shape, "v": shape}
    return Signature({"g": shape, **kept}, numbers, {"u": shape, **kept}, _names(temporaries))


INTERFACES: Mapping[str, Callable[[int, int], Signature]] = {"regression": regression, "optimizer": optimizer}
"""Kinds of programs by name."""


@final
class ProgramSpace(Space, Programs):
    """Programs of at most ``length`` statements ``variable = function(operands)``.

    A statement has a place whether it is used or not, and reads and assigns variables by name. So the
    mutations of such programs are the ones of every space: a place comes into use (insert, anywhere between
    others), goes out of use (delete), or changes a function, an operand or the variable it assigns (alter).
    Only programs that execute on shapes are feasible.

    Source: Chen et al. 2023 (symbolic discovery of optimization algorithms), sec. 2; Real et al. 2020
    (AutoML-Zero). Deviation: numbers are constants by name, none of which mutates by a factor.

    Args:
        task: its input shape, flattened, gives the width unless that is given.
        interface: ``regression`` or ``optimizer``: what programs read and give.
        width: of vectors; 4 without a task.
        length: places for statements, in [1, 64].
        functions: names among `nas.program.FUNCTIONS`; None for all of them.
        temporaries: variables besides inputs and outputs, in [0, 16].

    Raises:
        BadInput: a setting is out of its range.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        interface: str = "regression",
        width: int | None = None,
        length: int = 8,
        functions: Sequence[str] | None = None,
        temporaries: int = 3,
    ) -> None:
        if interface not in INTERFACES:
            raise unknown("interface", interface, INTERFACES)
        shape = () if task is None else task.input_shape or ()
        self.width = whole("width", (math.prod(shape) if shape else 4) if width is None else width, 2, 65_536)
        self.interface = INTERFACES[interface](self.width, whole("temporaries", temporaries, 0, 16))
        self.functions = _functions(functions)
        self.decisions = (Repeat("step", whole("length", length, 1, 64), _statement(self)),)
        self._steps = [f"step.{i}" for i in range(length)]

    def program(self, architecture: Architecture) -> Program:
        """The statements that are in use."""
        statements = []
        for step in self._steps:
            if architecture[f"{step}.used"]:
                function = architecture[f"{step}.function"]
                operands = tuple([architecture[f"{step}.{o}"] for o in "abc"[: FUNCTIONS[function].arity]])
                statements.append(Statement(function, architecture[f"{step}.to"], operands))
        return Program(self.interface, tuple(statements))

    def from_text(self, text: str) -> Architecture:
        """The architecture of a program's text, one statement a line, in the first places.

        Raises:
            BadInput: a line has another form, a name is unknown, or there are more lines than places.
        """
        choices: dict[str, Any] = {f"{step}.used": False for step in self._steps}
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > len(self._steps):
            raise must("a program", f"have at most {len(self._steps)} statements", len(lines))
        for step, line in zip(self._steps, lines, strict=False):
            match = re.fullmatch(r"\s*(\S+)\s*=\s*(\w+)\(([^()]*)\)\s*", line)
            if match is None:
                raise must("a statement", "read 'variable = function(operand, …)'", line)
            operands = [name.strip() for name in match[3].split(",")]
            taken = dict(zip([f"{step}.{o}" for o in "abc"], operands, strict=False))
            choices.update(
                {f"{step}.used": True, f"{step}.to": match[1], f"{step}.function": match[2], **taken}
            )
            if match[2] in FUNCTIONS and FUNCTIONS[match[2]].arity != len(operands):
                raise must(match[2], f"take {FUNCTIONS[match[2]].arity} operands", line)
        return self.architecture(choices)

    def feasible(self, architecture: Architecture) -> bool:
        """Whether the program executes on shapes."""
        return self.program(architecture).valid

    def graph(self, architecture: Architecture) -> Graph:
        """The dataflow of the program."""
        return self.program(architecture).graph()

    @cached_property
    def operators(self) -> Mapping[str, Operator]:
        """The functions' properties, and how to compute them on canonical inputs."""
        leaves = {f"input {n}": _input(shape) for n, shape in self.interface.inputs.items()}
        values = {f"constant {n}": _constant(v) for n, v in constants_of(self.interface).items()}
        functions = {name: _operator(function) for name, function in FUNCTIONS.items()}
        return {**leaves, **values, **functions, "output": Operator(compute=partial(_output, self.interface))}

    def build(self, architecture: Architecture) -> nn.Module:
        """The program as a module without weights.

        It takes one tensor for each input, of shape (batch, …), whose further axes are flattened and must
        have the input's size, and gives the one output, or a tuple of all.
        """
        return ProgramModule(self.program(architecture))


@final
class ProgramModule(nn.Module):
    """A program on tensors."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self._names = tuple(constants_of(program.signature))
        for i, value in enumerate(constants_of(program.signature).values()):
            self.register_buffer(f"constant_{i}", torch.tensor(value, dtype=torch.get_default_dtype()))

    def forward(self, *inputs: torch.Tensor) -> Any:
        """One tensor of shape (batch, *output), or a tuple of several."""
        signature = self.program.signature
        batch = len(inputs[0])
        shaped = {
            name: x.reshape(batch, *shape)
            for (name, shape), x in zip(signature.inputs.items(), inputs, strict=True)
        }
        constants = {name: self.get_buffer(f"constant_{i}") for i, name in enumerate(self._names)}
        outputs = self.program.run(torch, shaped, constants)
        full = [outputs[n].expand(batch, *shape) for n, shape in signature.outputs.items()]
        return full[0] if len(full) == 1 else tuple(full)


def _names(temporaries: int) -> tuple[str, ...]:
    return tuple(f"t{i}" for i in range(temporaries))


def _functions(names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(FUNCTIONS)
    if isinstance(names, str) or not names:
        raise must("functions", "list at least one name", names)
    for name in names:
        if name not in FUNCTIONS:
            raise unknown("function", name, FUNCTIONS)
    return tuple(dict.fromkeys(names))


def _statement(space: ProgramSpace) -> tuple[Categorical, ...]:
    variables, operands = space.interface.variables, space.interface.operands
    used = When("used", (True,))

    def operand(name: str, position: int) -> list[Categorical]:
        taking = tuple(f for f in space.functions if FUNCTIONS[f].arity > position)
        return [Categorical(name, operands, when=When("function", taking))] if taking else []

    return (
        Categorical("used", (False, True)),
        Categorical("function", space.functions, when=used),
        Categorical("to", variables, when=used),
        *operand("a", 0),
        *operand("b", 1),
        *operand("c", 2),
    )


def _operator(function: Function) -> Operator:
    def compute(draw: Draw, *read: Array) -> Any:  # noqa: ARG001 - no weights
        return function.apply(np, read)

    return Operator(
        commutative=function.commutative,
        associative=function.associative,
        identity=None if function.neutral is None else f"constant {function.neutral:g}",
        compute=compute,
    )


def _input(shape: tuple[int, ...]) -> Operator:
    return Operator(compute=lambda draw: draw(CANONICAL, *shape))


def _constant(value: Array) -> Operator:
    return Operator(compute=lambda draw: value)  # noqa: ARG005 - nothing is drawn


def _output(signature: Signature, draw: Draw, *values: Array) -> Array:  # noqa: ARG001 - no weights
    full = [
        np.broadcast_to(v, (CANONICAL, *shape)).ravel()
        for v, shape in zip(values, signature.outputs.values(), strict=True)
    ]
    return np.concatenate(full)
