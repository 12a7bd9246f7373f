"""The numeric key: what a candidate gives for canonical inputs under canonical weights, hashed."""

from __future__ import annotations

from functools import cache, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.architecture import digest
from nas.errors import BadInput, must
from nas.operators import UNKNOWN, Array
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nas.architecture import Architecture
    from nas.operators import Operator
    from nas.space import Graph, Space
    from nas.task import Task

COARSE_BITS = 12
"""Mantissa bits by which two inputs of an operation count as equal when its weights are drawn."""
ERROR = "error:"
"""How the keys of candidates begin that gave no finite numbers; they name the kind of error."""


# --- numbers as text ------------------------------------------------------------------------------------


def fingerprint(values: Array, mantissa_bits: int) -> bytes:
    """16 bytes of the sign, exponent and first mantissa bits of every number, and of the shape.

    Mantissas are rounded, not cut, so that numbers just below and at 1 count as equal; zeros have no sign.

    Args:
        values: finite float64, any shape.
        mantissa_bits: in [1, 52].

    Source: Gillard et al. 2023 (unified functional hashing), sec. 3; deviation: rounding.
    """
    drop = 52 - mantissa_bits
    bits = (np.ascontiguousarray(values, dtype=np.float64) + 0.0).view(np.int64)
    if drop:
        bits = (bits + (1 << (drop - 1))) >> drop
    return blake2b(repr(np.shape(values)).encode() + bits.tobytes(), digest_size=16).digest()


def key_of(run: Callable[[int], Sequence[Array]], *, mantissa_bits: int = 24, repeats: int = 1) -> str:
    """The key of anything that gives numbers.

    Args:
        run: of the repeat's number; gives float64 arrays, the same ones each time it is called.
        mantissa_bits: in [1, 52]; more tell more apart, and rounding errors too.
        repeats: canonical inputs.

    Returns:
        32 hexadecimal digits; ``error:<class>`` when a number is not finite or running raises.

    Raises:
        BadInput: two runs give different numbers.
    """
    collected = blake2b(digest_size=16)
    for repeat in range(repeats):
        try:
            arrays, again = run(repeat), run(repeat)
        except BadInput:
            raise
        except Exception as error:
            return f"{ERROR}{type(error).__name__}"
        if not _equal(arrays, again):
            raise must("a numeric key", "be of a function that repeats itself", "two different results")
        if not all(np.isfinite(x).all() for x in arrays):
            return f"{ERROR}not finite"
        for x in arrays:
            collected.update(fingerprint(x, mantissa_bits))
    return collected.hexdigest()


def _equal(first: Sequence[Array], second: Sequence[Array]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True)
    )


# --- canonical numbers ------------------------------------------------------------------------------------


@final
class Canon:
    """Canonical weights and inputs: standard normal numbers by what they are for.

    One array for each (kind of operation, shape, hash of the direction of the operation's inputs), so that
    isomorphic networks agree in whatever order they initialise, and operations on different inputs differ.

    Args:
        repeat: of the whole set.
    """

    def __init__(self, repeat: int) -> None:
        self._repeat = repeat
        self._drawn: dict[tuple[str, tuple[int, ...], bytes], Array] = {}

    def draw(self, kind: str, inputs: Sequence[Array], *shape: int) -> Array:
        """The array of that shape for a kind of operation on these inputs; read-only."""
        name = (kind, shape, b"".join(_coarse(x) for x in inputs))
        if name not in self._drawn:
            if len(self._drawn) > 10_000:
                self._drawn.clear()
            seed = blake2b(repr(name).encode(), digest_size=8).hexdigest()
            drawn = stream(self._repeat, "canonical", seed).standard_normal(shape)
            drawn.setflags(write=False)
            self._drawn[name] = drawn
        return self._drawn[name]


def _coarse(x: Array) -> bytes:
    """A few bits of an input's direction.

    They survive another order of addition; and a multiple of an input gets the same weights, since twice
    an input of a convolution is the same function as the sum of two convolutions.
    """
    flat = np.ravel(x)
    seen = _projection(flat.size) @ flat
    length = np.abs(seen).max(initial=0.0)
    return fingerprint(seen / length if length else seen, COARSE_BITS) + repr(np.shape(x)).encode()


@cache
def _projection(size: int) -> Array:
    """Shape (2, size): two random directions."""
    return stream(0, "canonical", "projection", size).standard_normal((2, size))


# --- by the graph -----------------------------------------------------------------------------------------


@final
class GraphRun:
    """Runs a graph whose operations can all be computed: quick, and no module is built.

    Args:
        operators: by name; those of a graph must have ``compute``.
    """

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        self._operators = operators
        self._canons: dict[int, Canon] = {}

    def can(self, graph: Graph) -> bool:
        """Whether every operation can be computed."""
        return all(self._operators.get(op, UNKNOWN).compute is not None for op, _ in graph)

    def __call__(self, graph: Graph, repeat: int) -> list[Array]:
        """The last node's value; nodes that it does not need are not run."""
        canon = self._canons.setdefault(repeat, Canon(repeat))
        live = _live(graph)
        values: list[Array | None] = []
        inputs = 0
        with np.errstate(all="ignore"):
            for i, (op, sources) in enumerate(graph):
                kind = f"{op} {inputs}" if op == "input" else op
                inputs += op == "input"
                values.append(self._value(canon, op, kind, [values[j] for j in sources]) if live[i] else None)
        assert values[-1] is not None
        return [values[-1]]

    def _value(self, canon: Canon, op: str, kind: str, read: Sequence[Any]) -> Array:
        compute = self._operators[op].compute
        assert compute is not None
        value: Array = compute(partial(canon.draw, kind, read), *read)
        return value


def _live(graph: Graph) -> list[bool]:
    live = [False] * len(graph)
    live[-1] = True
    for i in range(len(graph) - 1, -1, -1):
        if live[i]:
            for j in graph[i][1]:
                live[j] = True
    return live


# --- by the module ----------------------------------------------------------------------------------------


@final
class ModuleRun:
    """Builds a candidate's module, gives it canonical weights, and runs it in float64.

    Every layer's weights are drawn just before it first runs, from its type and its input, so that the
    order in which layers are declared, initialised or run does not matter. A weight that several layers
    share, or that its own layer does not run with, is drawn from the types of its owners. The module runs in
    training mode under one fixed torch seed, so that dropout and batch statistics are seen.

    Args:
        space: builds.
        task: its `Task.example` gives the inputs' shapes; their floats are replaced by canonical ones.
        batch_size: inputs of a run, at least 2.

    Source: Gillard et al. 2023 (unified functional hashing); canonical weights instead of a trained state
        are this toolkit's.
    """

    def __init__(self, space: Space, task: Task, batch_size: int = 8) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 2:
            raise must("batch_size", "be a whole number of at least 2", batch_size)
        self._space = space
        self._example = task.example(batch_size)
        self._canons: dict[int, Canon] = {}

    def __call__(self, architecture: Architecture, repeat: int) -> list[Array]:
        """Every float tensor of the output."""
        import torch

        canon = self._canons.setdefault(repeat, Canon(repeat))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(repeat)
            module = self._space.build(architecture).double().train()
            canonicalise(module, canon)
            torch.manual_seed(repeat)
            example = self._inputs(self._example, canon)
            output = module(*example) if isinstance(example, tuple) else module(example)
        return [t.double().numpy() for t in _floats(output)]

    def _inputs(self, example: Any, canon: Canon) -> Any:
        import torch

        if isinstance(example, torch.Tensor) and example.is_floating_point():
            return torch.tensor(canon.draw("example", (), *example.shape))
        if isinstance(example, tuple | list):
            return type(example)(self._inputs(e, canon) for e in example)
        if isinstance(example, dict):
            return {name: self._inputs(e, canon) for name, e in example.items()}
        return example


def canonicalise(module: Any, canon: Canon) -> None:
    """Give a module canonical weights: at once for shared ones, before its first run for each layer's own."""
    owners: dict[int, list[tuple[str, str]]] = {}
    weights: dict[int, Any] = {}
    layers = [m for _, m in module.named_modules()]
    for layer in layers:
        for name, weight in layer.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(weight), []).append((type(layer).__name__, name))
            weights[id(weight)] = weight
    for identity, weight in weights.items():
        _fill(weight, owners[identity], (), canon)
    for layer in layers:
        own = [
            (name, weight)
            for name, weight in layer.named_parameters(recurse=False)
            if len(owners[id(weight)]) == 1
        ]
        if own:
            _before_first_run(layer, own, canon)


def _before_first_run(layer: Any, own: Sequence[tuple[str, Any]], canon: Canon) -> None:
    def set_weights(layer: Any, args: tuple[Any, ...]) -> None:
        inputs = [t.detach().numpy() for t in _floats(args)]
        for name, weight in own:
            _fill(weight, [(type(layer).__name__, name)], inputs, canon)
        handle.remove()

    handle = layer.register_forward_pre_hook(set_weights)


def _fill(weight: Any, owners: Sequence[tuple[str, str]], inputs: Sequence[Array], canon: Canon) -> None:
    """Matrices and kernels by their fan-in; vectors near 1 where they scale, near 0 where they shift."""
    import torch

    drawn = canon.draw(repr(sorted(owners)), inputs, *weight.shape)
    if weight.ndim >= 2:
        drawn = drawn / max(1, weight[0].numel()) ** 0.5
    else:
        drawn = 0.1 * drawn + (1.0 if owners[0][1].endswith("weight") else 0.0)
    with torch.no_grad():
        weight.copy_(torch.tensor(drawn))


def _floats(value: Any) -> list[Any]:
    """Every float tensor inside tuples, lists and dicts, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [t for part in value for t in _floats(part)]
    return []


# --- of a space -------------------------------------------------------------------------------------------


@final
class Numeric:
    """Maps an architecture of a space to its numeric key and the training settings that it chooses.

    Args:
        space: whose graphs are run when all of their operations can be computed; its modules otherwise.
        run: of (architecture, repeat).
        mantissa_bits: in [1, 52].
        repeats: canonical inputs, at least 1.

    Raises:
        BadInput: a setting is out of its range, or a random architecture does not repeat itself.
    """

    def __init__(
        self,
        space: Space,
        run: Callable[[Architecture, int], Sequence[Array]],
        mantissa_bits: int = 24,
        repeats: int = 1,
    ) -> None:
        for name, value, high in (("mantissa_bits", mantissa_bits, 52), ("repeats", repeats, 1_000)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
                raise must(name, f"be a whole number in [1, {high}]", value)
        self._space, self._run = space, run
        self._bits, self._repeats = mantissa_bits, repeats
        self._key(space.sample(stream(0, "probe")))

    def __call__(self, architecture: Architecture) -> str:
        """32 hexadecimal digits, or ``error:<class>``, which names no function."""
        try:
            key = self._key(architecture)
        except BadInput:
            return f"{ERROR}not repeatable"
        recipe = self._space.recipe(architecture)
        return digest({"numbers": key, **recipe}) if recipe and not key.startswith(ERROR) else key

    def _key(self, architecture: Architecture) -> str:
        return key_of(
            lambda repeat: self._run(architecture, repeat), mantissa_bits=self._bits, repeats=self._repeats
        )
