"""What a backend makes of a trace: which operations become one kernel. The rules are data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, final

from nas.errors import unknown
from nas.kernels.dataflow import flow
from nas.kernels.op import REMEMBERED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.kernels.capture import Trace
    from nas.kernels.dataflow import Flow
    from nas.kernels.op import Op

FOLDER = Path(__file__).with_name("fusion")
_MINOR = frozenset({"pointwise", "copy", "batch_norm"})
"""Families that a kernel is not named for where it holds another."""


@final
class Kernel(NamedTuple):  # made by the hundred for each network: a tuple takes a fifth of the time
    """Operations that run as one.

    Args:
        op: the operation that it is named for.
        absorbed: the others, in order; batch normalisation folded into a convolution is among them.
        bytes: moved by the whole, without what stays inside it.
    """

    op: Op
    absorbed: tuple[Op, ...]
    bytes: float

    @property
    def flops(self) -> float:
        """Floating-point operations of the whole."""
        return self.op.flops + sum(op.flops for op in self.absorbed)


@final
@dataclass(frozen=True, slots=True)
class Rule:
    """Which operations a kernel takes up, one consumer after the other.

    Patterns are a family, as ``conv``, or a family and a name, as ``pointwise:relu``.

    Args:
        main: patterns of the first operation.
        then: steps, each the patterns of what may follow; a step is left out where nothing fits it.
        chain: whether the steps may follow each other in any order and number.
        shared: whether a result is taken up that other operations need, too; it is then written as well.
    """

    main: tuple[str, ...]
    then: tuple[tuple[str, ...], ...]
    chain: bool = False
    shared: bool = False

    def steps(self, family: str, name: str) -> tuple[int, ...]:
        """For each number of steps that are behind, the step that takes a kind up; -1 where none does."""
        fitting = [k for k, patterns in enumerate(self.then) if _fits(family, name, patterns)]
        return tuple(next((k for k in fitting if k >= behind), -1) for behind in range(len(self.then) + 1))


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """What a profile says of the operations of one family and name.

    Args:
        merged: whether they run once where they stand several times on the same input.
        apart: whether they are taken apart.
        rule: number of the rule of kernels that begin with one; None where it stays alone.
        steps: `Rule.steps` of each rule.
    """

    merged: bool
    apart: bool
    rule: int | None
    steps: tuple[tuple[int, ...], ...]


@final
class _Kinds(dict[tuple[str, str], Kind]):
    """Kinds by family and name, found when they are asked for the first time."""

    def __init__(self, profile: FusionProfile) -> None:
        self._profile = profile

    def __missing__(self, key: tuple[str, str]) -> Kind:
        found = self[key] = self._profile.kind(*key)
        return found


@final
@dataclass(frozen=True, slots=True)
class FusionProfile:
    """The rules of a backend.

    Args:
        name: ``eager``, ``inductor``, ``onnxruntime``, ``openvino``, ``executorch`` or ``tensorrt``.
        about: what they were taken from, and whether kernels were counted to check them.
        rules: of each first operation, the first that fits.
        merged: patterns of operations that run once where they stand several times on the same input.
        apart: families that it takes apart; ``attention`` into a product, a softmax and a product.
        everything: whether operations run whose results nobody reads.
    """

    name: str
    about: str
    rules: tuple[Rule, ...]
    merged: tuple[str, ...]
    apart: tuple[str, ...]
    everything: bool
    kinds: _Kinds = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", _Kinds(self))

    def kind(self, family: str, name: str) -> Kind:
        """What is said of a family and name; ``kinds`` remembers it."""
        rules = enumerate(self.rules)
        return Kind(
            _fits(family, name, self.merged),
            family in self.apart,
            next((number for number, rule in rules if _fits(family, name, rule.main)), None),
            tuple(rule.steps(family, name) for rule in self.rules),
        )

    @property
    def plain(self) -> bool:
        """Whether each operation is a kernel."""
        return self.everything and not (self.rules or self.merged or self.apart)

    @classmethod
    def load(cls, name: str) -> Self:
        """The profile of a backend.

        Raises:
            UnknownName: there is none of that name.
        """
        path = FOLDER / f"{name}.json"
        if name not in backends():
            raise unknown("backend", name, backends())
        data = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(
            Rule(
                tuple(rule["main"]),
                tuple(map(tuple, rule["then"])),
                chain=rule.get("chain", False),
                shared=rule.get("shared", False),
            )
            for rule in data["rules"]
        )
        return cls(
            name,
            data["about"],
            rules,
            tuple(data["merged"]),
            tuple(data["apart"]),
            everything=data["everything"],
        )


def backends() -> tuple[str, ...]:
    """Names of the backends that have a profile."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def fused(trace: Trace, profile: FusionProfile) -> tuple[Kernel, ...]:
    """The kernels that a backend runs for a trace, in the order of their first operations."""
    if profile.plain:
        return tuple([Kernel(call.op, (), call.op.bytes) for call in trace.calls])
    found = flow(trace, profile)
    ops, kinds, done = found.ops, found.kinds, found.done
    kernels = []
    for i, op in enumerate(ops):
        if done[i]:
            continue
        number = kinds[i].rule
        if number is None:
            kernels.append(Kernel(op, (), op.bytes))
            continue
        rule = profile.rules[number]
        group = _group(i, number, rule, found)
        kernels.append(_kernel(group, found) if rule.shared else _chain(*[ops[j] for j in group]))
    return tuple(kernels)


def _group(first: int, number: int, rule: Rule, of: Flow) -> list[int]:
    """Positions of what one kernel takes up, each reading the one before; they are done then."""
    group, behind, last = [first], 0, first
    readers, kinds, done = of.readers, of.kinds, of.done
    while True:
        free = readers[last]
        if len(free) > 1:
            free = [i for i in free if rule.shared and _ready(i, group, of)]
        step = -1
        for i in free:
            k = -1 if done[i] else kinds[i].steps[number][behind]
            if k >= 0 and (step < 0 or k < step):
                step, last = k, i
        if step < 0:
            return group
        group.append(last)
        done[last] = 1
        behind = 0 if rule.chain else step + 1


def _ready(i: int, group: Sequence[int], of: Flow) -> bool:
    """Whether an operation is left, and nothing that it reads from outside waits for the group itself."""
    if of.done[i]:
        return False
    waiting, seen = [i], set(group)
    while waiting:
        reader = waiting.pop()
        for j in of.inputs[reader]:
            if j in group and reader != i:
                return False
            if j > group[0] and j not in seen:
                seen.add(j)
                waiting.append(j)
    return True


def _kernel(group: Sequence[int], of: Flow) -> Kernel:
    ops = [of.ops[i] for i in group]
    kept = 0.0
    for i, op in zip(group, ops[:-1], strict=False):
        inside = sum(j in group for j in of.readers[i])
        # What is read inside is not read anew, and what nobody else reads is not written either.
        kept += op.bytes_out * (inside + (inside == len(of.readers[i])))
    return _named(kept, *ops)


@lru_cache(maxsize=REMEMBERED)
def _chain(*ops: Op) -> Kernel:
    """Of operations whose results nobody reads but the next one."""
    return _named(2 * sum([op.bytes_out for op in ops[:-1]]), *ops)


def _named(kept: float, *ops: Op) -> Kernel:
    """With so many bytes that stay inside."""
    main = next((op for op in ops if op.family not in _MINOR), ops[0])
    at = ops.index(main)
    moved = max(sum([op.bytes for op in ops]) - kept, ops[0].bytes_in, ops[-1].bytes_out)
    return Kernel(main, ops[:at] + ops[at + 1 :], moved)


def _fits(family: str, name: str, patterns: tuple[str, ...]) -> bool:
    return family in patterns or f"{family}:{name}" in patterns
