"""The operations of a trace that a backend runs, and who reads the result of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, final

from nas.kernels.op import Op

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.kernels.capture import Trace
    from nas.kernels.fusion_profile import FusionProfile, Kind


@final
@dataclass(slots=True)
class Flow:
    """Operations in the order of execution, one a position.

    Args:
        ops: what they compute.
        kinds: what the backend's rules say of each.
        inputs: positions that each reads, each once; -1 for the inputs of the module.
        readers: positions that read each, in order; the caller, who reads outputs, is behind the last one.
        done: 1 for those that need no kernel of their own (any more), and for the caller.
    """

    ops: list[Op]
    kinds: list[Kind]
    inputs: list[tuple[int, ...]]
    readers: list[list[int]]
    done: bytearray


def flow(trace: Trace, profile: FusionProfile) -> Flow:
    """A trace before kernels: what a backend merges stands once, and what nobody reads is left out."""
    ops, inputs = [call.op for call in trace.calls], [call.inputs for call in trace.calls]
    outputs, table = list(trace.outputs), profile.kinds
    kinds = [table[op.family, op.name] for op in ops]
    if True in [kind.apart for kind in kinds]:
        ops, inputs, outputs = _apart(ops, inputs, outputs, kinds)
        kinds = [table[op.family, op.name] for op in ops]
    readers: list[list[int]] = [[] for _ in ops]
    for i, sources in enumerate(inputs):
        for j in sources:
            if j >= 0:
                readers[j].append(i)
    found = Flow(ops, kinds, inputs, readers, bytearray(len(ops)) + b"\1")
    place = _merge(found)
    for i in outputs:
        if i >= 0:
            readers[place.get(i, i)].append(len(ops))
    if not profile.everything and not all(readers):
        _leave_out(found)
    return found


def _merge(found: Flow) -> dict[int, int]:
    """Let who reads a repeated operation read the first one; gives where those are that stand no more."""
    place: dict[int, int] = {}
    seen: dict[tuple[Op, int], int] = {}
    for i, kind in enumerate(found.kinds):
        if not kind.merged or len(found.inputs[i]) != 1:
            continue
        op, source = found.ops[i], found.inputs[i][0]
        # Of what reads a part of a result, the trace does not say which part; the same may be another one.
        if source < 0 or op.bytes_weight or found.ops[source].bytes_out != op.bytes_in:
            continue
        first = seen.setdefault((op, source), i)
        if first == i:
            continue
        place[i], found.done[i], found.inputs[i] = first, 1, ()
        found.readers[source].remove(i)
        for reader in found.readers[i]:
            found.inputs[reader] = tuple(dict.fromkeys([place.get(j, j) for j in found.inputs[reader]]))
        found.readers[first] = sorted({*found.readers[first], *found.readers[i]})
        found.readers[i] = []
    return place


def _leave_out(found: Flow) -> None:
    """Mark what no output depends on; it reads nothing then."""
    for i in range(len(found.ops) - 1, -1, -1):
        if not found.readers[i]:
            found.done[i] = 1
            for j in found.inputs[i]:
                if j >= 0:
                    found.readers[j].remove(i)


def _apart(
    calls: Sequence[Op], sources: Sequence[tuple[int, ...]], outputs: Sequence[int], kinds: Sequence[Kind]
) -> tuple[list[Op], list[tuple[int, ...]], list[int]]:
    """Operations, inputs and outputs with each attention as the operations of its formula."""
    ops: list[Op] = []
    inputs: list[tuple[int, ...]] = []
    place = [*range(len(calls)), -1]  # the last one, at -1, is the input
    for i, op in enumerate(calls):
        read = tuple([place[j] for j in sources[i]])
        for part in _of_attention(op) if kinds[i].apart else (op,):
            ops.append(part)
            inputs.append(read)
            read = (len(ops) - 1,)
        place[i] = len(ops) - 1
    return ops, inputs, [place[i] for i in outputs]


@lru_cache(maxsize=1000)
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
