"""What a backend makes of a trace: which operations become one kernel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, final

from nas.kernels.dataflow import flow
from nas.kernels.op import REMEMBERED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.kernels.capture import Trace
    from nas.kernels.dataflow import Flow
    from nas.kernels.fusion_profile import FusionProfile, Rule
    from nas.kernels.op import Op

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
