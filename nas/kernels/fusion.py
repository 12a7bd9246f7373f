"""What a backend makes of a trace: which operations become one kernel. The rules are data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self, final

from nas.errors import unknown
from nas.kernels.capture import Call
from nas.kernels.op import Op

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nas.kernels.capture import Trace

FOLDER = Path(__file__).with_name("fusion")
_MINOR = frozenset({"pointwise", "copy", "batch_norm"})
"""Families that a kernel is not named for where it holds another."""


@final
@dataclass(frozen=True, slots=True)
class Kernel:
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
        return tuple(Kernel(call.op, (), call.op.bytes) for call in trace.calls)
    calls, outputs = _merged(trace, profile.merged)
    if not profile.everything:
        calls = _needed(calls, outputs)
    if "attention" in profile.apart:
        calls, outputs = _apart(calls, outputs)
    readers = _readers(calls, outputs)
    taken: set[int] = set()
    kernels = []
    for i, call in enumerate(calls):
        if call is None or i in taken:
            continue
        rule = next((r for r in profile.rules if _fits(call.op, r.main)), None)
        group = [i] if rule is None else _group(i, rule, calls, readers, taken)
        taken.update(group)
        kernels.append(_kernel(group, calls, readers))
    return tuple(kernels)


def _group(
    first: int, rule: Rule, calls: Sequence[Call | None], readers: Sequence[Sequence[int]], taken: set[int]
) -> list[int]:
    """Positions of what one kernel takes up, each reading the one before."""
    group = [first]
    steps = list(rule.then)
    while steps:
        after = readers[group[-1]]
        free = [
            i
            for i in after
            if i not in taken and (len(after) == 1 or (rule.shared and _ready(i, group, calls)))
        ]
        match = next(((k, i) for k, step in enumerate(steps) for i in free if _fits_at(calls, i, step)), None)
        if match is None:
            break
        k, i = match
        group.append(i)
        if not rule.chain:
            steps = steps[k + 1 :]
    return group


def _ready(i: int, group: Sequence[int], calls: Sequence[Call | None]) -> bool:
    """Whether nothing that an operation reads from outside waits for the group itself."""
    waiting, seen = [i], set(group)
    while waiting:
        call = calls[waiting.pop()]
        inputs = () if call is None else call.inputs
        for j in inputs:
            if j in group and call is not calls[i]:
                return False
            if j > group[0] and j not in seen:
                seen.add(j)
                waiting.append(j)
    return True


def _kernel(group: Sequence[int], calls: Sequence[Call | None], readers: Sequence[Sequence[int]]) -> Kernel:
    ops = [call.op for i in group if (call := calls[i]) is not None]
    if len(ops) == 1:
        return Kernel(ops[0], (), ops[0].bytes)
    moved = sum(op.bytes for op in ops)
    for i, op in zip(group, ops, strict=True):
        inside = [j for j in readers[i] if j in group]
        moved -= op.bytes_out * len(inside)
        if inside and len(inside) == len(readers[i]):
            moved -= op.bytes_out  # nobody else reads it, so it is never written
    main = next((k for k, op in enumerate(ops) if op.family not in _MINOR), 0)
    least = max(ops[0].bytes_in, ops[-1].bytes_out)
    return Kernel(ops[main], (*ops[:main], *ops[main + 1 :]), max(moved, least))


def _needed(calls: Sequence[Call | None], outputs: Sequence[int]) -> list[Call | None]:
    """The calls that outputs depend on; None stands where the others were."""
    needed = set(outputs)
    for i in range(len(calls) - 1, -1, -1):
        call = calls[i]
        if i in needed and call is not None:
            needed.update(call.inputs)
    return [call if i in needed else None for i, call in enumerate(calls)]


def _apart(calls: Sequence[Call | None], outputs: Sequence[int]) -> tuple[list[Call | None], tuple[int, ...]]:
    """The calls with each attention as the operations of its formula, and where the outputs are then."""
    found: list[Call | None] = []
    place = {-1: -1}
    for i, call in enumerate(calls):
        inputs = () if call is None else tuple(place[j] for j in call.inputs)
        if call is None:
            found.append(None)
        elif call.op.family == "attention":
            for part in _of_attention(call.op):
                found.append(Call(part, inputs))
                inputs = (len(found) - 1,)
        else:
            found.append(Call(call.op, inputs))
        place[i] = len(found) - 1
    return found, tuple(place[i] for i in outputs)


def _of_attention(op: Op) -> tuple[Op, Op, Op]:
    """Scores, their softmax and the weighted sum of values."""
    batch, heads, queries, keys, size = op.shape
    scores = batch * heads * queries * keys
    width = op.bytes_out / max(batch * heads * queries * size, 1)
    value = min(op.bytes_in, batch * heads * keys * size * width)
    matrix = scores * width
    first = Op(
        "bmm",
        "bmm",
        (batch * heads, queries, keys, size),
        op.dtype,
        op.flops / 2,
        op.bytes_in - value,
        0,
        matrix,
    )
    soft = Op("softmax", "softmax", (scores // max(keys, 1), keys), op.dtype, 5.0 * scores, matrix, 0, matrix)
    last = Op(
        "bmm",
        "bmm",
        (batch * heads, queries, size, keys),
        op.dtype,
        op.flops / 2,
        matrix + value,
        0,
        op.bytes_out,
    )
    return first, soft, last


def _merged(trace: Trace, patterns: tuple[str, ...]) -> tuple[list[Call | None], tuple[int, ...]]:
    """The calls, None where one repeats another, whose readers then read that; and the outputs."""
    kept: list[Call | None] = []
    place: dict[int, int] = {-1: -1}
    seen: dict[Call, int] = {}
    for i, call in enumerate(trace.calls):
        moved = Call(call.op, tuple(dict.fromkeys(place[j] for j in call.inputs)))
        place[i] = i
        if _fits(call.op, patterns) and _whole(moved, kept):
            place[i] = seen.setdefault(moved, i)
        kept.append(moved if place[i] == i else None)
    return kept, tuple(place[i] for i in trace.outputs)


def _whole(call: Call, calls: Sequence[Call | None]) -> bool:
    """Whether it reads one whole result: of two parts of one, the trace does not say which is read."""
    if len(call.inputs) != 1 or call.op.bytes_weight:
        return False
    source = calls[call.inputs[0]] if call.inputs[0] >= 0 else None
    return source is not None and source.op.bytes_out == call.op.bytes_in


def _readers(calls: Sequence[Call | None], outputs: Iterable[int]) -> list[list[int]]:
    """Who reads each result; the caller, who reads outputs, stands for a call that does not exist."""
    readers: list[list[int]] = [[] for _ in calls]
    for i, call in enumerate(calls):
        for source in () if call is None else call.inputs:
            if source >= 0:
                readers[source].append(i)
    for i in outputs:
        if i >= 0:
            readers[i].append(len(calls))
    return readers


def _fits_at(calls: Sequence[Call | None], i: int, patterns: tuple[str, ...]) -> bool:
    call = calls[i] if i < len(calls) else None
    return call is not None and _fits(call.op, patterns)


def _fits(op: Op, patterns: tuple[str, ...]) -> bool:
    return _named(op.family, op.name, patterns)


@cache
def _named(family: str, name: str, patterns: tuple[str, ...]) -> bool:
    return family in patterns or f"{family}:{name}" in patterns
