"""Keys by which answers are shared: two architectures with one key count as the same function."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypeAlias

from nas.architecture import Architecture, digest
from nas.errors import Incompatible, must, unknown
from nas.keys.numeric import ERROR, GraphRun, ModuleRun, Numeric
from nas.keys.structural import skip_collapse, structural
from nas.keys.symbolic import Symbolic
from nas.operators import BUILTIN
from nas.rng import stream
from nas.space import Adaptation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nas.operators import Operator
    from nas.space import Graph, Space
    from nas.task import Task

__all__ = ["ERROR", "KEYS", "Key", "create"]

Key: TypeAlias = "Callable[[Architecture], str]"


def create(name: str, space: Space, task: Task | None = None, **settings: object) -> Key:
    """The key function of that name.

    A joint space has one for each part, together: the parts that adapt a module, and those of which a named
    key says nothing, go by their architecture's own key.

    Args:
        name: among `KEYS`.
        space: of the architectures.
        task: gives the inputs of modules, where they have to be built.
        settings: of the numeric keys: ``mantissa_bits``, ``repeats`` and, for modules, ``batch_size``.

    Raises:
        BadInput: an unknown name or setting.
        Incompatible: the space offers nothing that such a key could be made of.
    """
    if name not in KEYS:
        raise unknown("key", name, KEYS)
    known = list(inspect.signature(KEYS[name]).parameters)[2:]
    for setting in settings:
        if setting not in known:
            raise unknown(f"setting of the key {name}", setting, known)
    if not space.parts:
        return KEYS[name](space, task, **settings)
    parts = {part: _part(name, s, task, settings) for part, s in space.parts.items()}
    return lambda a: _together({part: key(a.part(part)) for part, key in parts.items()})


def _part(name: str, space: Space, task: Task | None, settings: Mapping[str, object]) -> Key:
    if isinstance(space, Adaptation):
        return _exact
    try:
        return create(name, space, task, **settings)
    except Incompatible:
        return _exact


def _together(keys: Mapping[str, str]) -> str:
    """One key of all parts'; an error of one is an error of all."""
    error = next((key for key in keys.values() if key.startswith(ERROR)), None)
    return digest(keys) if error is None else error


def _exact(architecture: Architecture) -> str:
    return architecture.key


def operators_of(space: Space) -> Mapping[str, Operator]:
    """The built-in properties of operations, and over them what the space declares."""
    return {**BUILTIN, **space.operators}


def _architecture(space: Space, task: Task | None) -> Key:  # noqa: ARG001 - one signature for keys
    """Only exact repeats are equal."""
    return _exact


def _skip_collapse(space: Space, task: Task | None) -> Key:  # noqa: ARG001
    """Graphs of one form, identities left out."""
    return _of_graph("skip_collapse", space, skip_collapse)


def _structural(space: Space, task: Task | None) -> Key:  # noqa: ARG001
    """Graphs of one form, identities left out and zeros marked."""
    return _of_graph("structural", space, structural)


def _symbolic(space: Space, task: Task | None) -> Key:  # noqa: ARG001
    """Graphs of one value under the declared algebra."""
    return _of_graph("symbolic", space, Symbolic(operators_of(space)))


def _numeric(
    space: Space,
    task: Task | None,
    mantissa_bits: int = 24,
    repeats: int = 1,
    batch_size: int = 8,
) -> Key:
    """Equal numbers for canonical inputs: of the graph where it can be computed, else of the module."""
    run = GraphRun(operators_of(space))
    graph = space.graph(space.sample(stream(0, "probe")))
    if graph is None or not run.can(graph.checked()):
        return _numeric_module(space, task, mantissa_bits, repeats, batch_size)
    return Numeric(space, lambda a, repeat: run(_graph(space, a), repeat), mantissa_bits, repeats)


def _numeric_module(
    space: Space,
    task: Task | None,
    mantissa_bits: int = 24,
    repeats: int = 1,
    batch_size: int = 8,
) -> Key:
    """Equal numbers of the built module for canonical inputs."""
    if task is None:
        raise must("a numeric key", "have a task that gives the modules' inputs", None, "set task:")
    return Numeric(space, ModuleRun(space, task, batch_size), mantissa_bits, repeats)


def _functional(space: Space, task: Task | None) -> Key:
    """The default: symbolic where the space has graphs, exact elsewhere."""
    probe = space.sample(stream(0, "probe"))
    return _exact if space.graph(probe) is None else _symbolic(space, task)


KEYS: Mapping[str, Callable[..., Key]] = {
    "architecture": _architecture,
    "functional": _functional,
    "numeric": _numeric,
    "numeric_module": _numeric_module,
    "skip_collapse": _skip_collapse,
    "structural": _structural,
    "symbolic": _symbolic,
}
"""Makers of key functions by name."""


def _of_graph(name: str, space: Space, of: Callable[[Graph], str]) -> Key:
    if space.graph(space.sample(stream(0, "probe"))) is None:
        raise Incompatible(f"the key {name} needs a space with graph(); {type(space).__name__} has none")
    return lambda a: of(_graph(space, a))


def _graph(space: Space, architecture: Architecture) -> Graph:
    graph = space.graph(architecture)
    assert graph is not None
    return graph
