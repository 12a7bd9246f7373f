"""Which operations to time: those of real networks, others around them, and more where a model errs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import must
from nas.kernels.capture import BYTES
from nas.kernels.predictor import fit_op, held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from nas.kernels.op import Op
    from nas.kernels.op_table import OpTable

LEAST = 30
"""Different operations of a kind that a plan holds at least."""
HARD = frozenset({"conv", "linear", "bmm", "attention"})
"""Families that get most of a plan: their kernels are chosen among many."""
HARD_SHARE = 0.7
WRONG = 0.1
"""Relative error beyond which the surroundings of an operation are timed again."""
AROUND = (0.5, 1.2)
"""Factors of channels in those surroundings, as in Zhang et al. 2021, "nn-Meter", sec. 4.3."""
FILLER = (0.4, 2.0)
"""Factors of sizes in the filler."""


def drawn(seen: Iterable[Op], count: int, rng: np.random.Generator, filler: float = 0.3) -> list[Op]:
    """A plan of about ``count`` different operations.

    Args:
        seen: operations of networks, by which kinds are known; repeated ones count once.
        count: how many to time, at least 1; every kind gets `LEAST`, so that it may be more.
        rng: draws.
        filler: share of each kind that is changed in size, log-uniformly in `FILLER`, in [0, 1).

    Returns:
        Operations in random order.

    Raises:
        BadInput: nothing was seen, or a setting is out of range.
    """
    if count < 1 or not 0.0 <= filler < 1.0:
        raise must("count and filler", "be at least 1, and in [0, 1)", (count, filler))
    kinds: dict[tuple[str, str], list[Op]] = {}
    for op in dict.fromkeys(seen):
        kinds.setdefault((op.family, op.name), []).append(op)
    if not kinds:
        raise must("the operations seen", "be at least one", 0)
    plan: list[Op] = []
    for kind, size in _sizes(kinds, count).items():
        plan.extend(_of_kind(kinds[kind], size, rng, filler))
    return [plan[i] for i in rng.permutation(len(plan))]


def _sizes(kinds: Mapping[tuple[str, str], Sequence[Op]], count: int) -> dict[tuple[str, str], int]:
    """How many of each kind: by the root of how many were seen, the hard families together their share."""
    hard = {kind for kind in kinds if kind[0] in HARD}
    found = {}
    for group, share in (
        (hard, HARD_SHARE if len(hard) < len(kinds) else 1.0),
        (set(kinds) - hard, 1 - HARD_SHARE),
    ):
        weights = {kind: len(kinds[kind]) ** 0.5 for kind in kinds if kind in group}
        for kind, weight in weights.items():
            found[kind] = max(LEAST, round(count * share * weight / sum(weights.values())))
    return found


def _of_kind(ops: Sequence[Op], size: int, rng: np.random.Generator, filler: float) -> list[Op]:
    real = min(len(ops), max(1, round((1 - filler) * size)))
    found = dict.fromkeys(ops[i] for i in rng.permutation(len(ops))[:real])
    for _ in range(20 * size):
        if len(found) >= size:
            break
        found[resized(ops[int(rng.integers(len(ops)))], FILLER, rng)] = None
    return list(found)


def around(table: OpTable, seed: int, count: int, rng: np.random.Generator) -> list[Op]:
    """At most ``count`` operations near those that a model errs on by more than `WRONG`.

    Each model is fitted to a part of the table and asked for the rest.
    """
    worst: list[tuple[float, Op]] = []
    for rows in table.kinds().values():
        some = table.only(rows)
        out = held(some.ops, seed, 0.3)
        if not 10 <= (~out).sum() < len(out):
            continue
        rest = some.only(out)
        predicted, _ = fit_op(some.only(~out), seed).predict(rest.ops, table.rates)
        errors = np.abs(predicted / rest.median_ms - 1)
        worst.extend((float(e), op) for e, op in zip(errors, rest.ops, strict=True) if e > WRONG)
    worst.sort(key=lambda pair: -pair[0])
    found: dict[Op, None] = {}
    for i in range(3 * count if worst else 0):
        if len(found) >= count:
            break
        found[resized(worst[i % len(worst)][1], AROUND, rng)] = None
    return [op for op in found if op not in set(table.ops)]


def resized(op: Op, between: tuple[float, float], rng: np.random.Generator) -> Op:
    """The same kind of operation in other sizes, each changed by a log-uniform factor of its own."""

    def factor() -> float:
        return float(np.exp(rng.uniform(*np.log(between))))

    return _RESIZED.get(op.family, _scaled)(op, factor)


def _conv(op: Op, factor: Callable[[], float]) -> Op:
    batch, ins, outs, height, width, kernel, stride, padding, groups = op.shape
    axes = 1 if op.name == "conv1d" else 2
    if groups == 1:
        new_ins = _size(ins, factor()) if ins > 4 else ins  # images keep their channels
        new_outs, new_groups = _size(outs, factor()), 1
    else:
        each_in, each_out = ins // groups, outs // groups
        new_groups = _size(groups, factor())
        new_ins, new_outs = each_in * new_groups, each_out * new_groups
    plane = factor()
    high = _size(height, plane, kernel) if axes == 2 else height
    wide = _size(width, plane, kernel)
    out_high = (high + 2 * padding - kernel) // stride + 1 if axes == 2 else 1
    out = out_high * ((wide + 2 * padding - kernel) // stride + 1)
    weights = new_outs * (new_ins // new_groups) * kernel**axes
    biased = op.bytes_weight > outs * (ins // groups) * kernel**axes * BYTES[op.dtype]
    flops = 2.0 * batch * new_outs * out * (new_ins // new_groups) * kernel**axes
    shape = (batch, new_ins, new_outs, high, wide, kernel, stride, padding, new_groups)
    numbers = (batch * new_ins * high * wide, weights + new_outs * biased, batch * new_outs * out)
    return _made(op, shape, flops, numbers)


def _linear(op: Op, factor: Callable[[], float]) -> Op:
    rows, ins, outs = op.shape
    biased = op.bytes_weight > ins * outs * BYTES[op.dtype]
    rows = _size(rows, factor()) if rows > 1 else rows
    ins, outs = _size(ins, factor()), _size(outs, factor())
    numbers = (rows * ins, ins * outs + outs * biased, rows * outs)
    return _made(op, (rows, ins, outs), 2.0 * rows * ins * outs, numbers)


def _bmm(op: Op, factor: Callable[[], float]) -> Op:
    batch, m, n, k = (_size(size, factor()) if size > 1 else size for size in op.shape)
    numbers = (batch * (m * k + k * n), 0, batch * m * n)
    return _made(op, (batch, m, n, k), 2.0 * batch * m * n * k, numbers)


def _attention(op: Op, factor: Callable[[], float]) -> Op:
    batch, heads, queries, keys, size = op.shape
    same = queries == keys
    queries = _size(queries, factor())
    keys = queries if same else _size(keys, factor())
    heads = _size(heads, factor())
    numbers = (batch * heads * size * (queries + 2 * keys), 0, batch * heads * queries * size)
    flops = 4.0 * batch * heads * queries * keys * size
    return _made(op, (batch, heads, queries, keys, size), flops, numbers)


def _scaled(op: Op, factor: Callable[[], float]) -> Op:
    """The one size that everything else grows with, where there is one."""
    place = _GROWS.get(op.family)
    if place is None:
        return op
    old = op.shape[place]
    new = _size(old, factor() ** 2)
    ratio = new / old
    shape = tuple(new if i == place else size for i, size in enumerate(op.shape))
    # Of normalisations, parameters belong to channels; a row more needs no more of them.
    weights = op.bytes_weight * (ratio if op.family == "batch_norm" else 1.0)
    read = op.bytes_in
    if op.family == "pointwise" and op.shape[1] == 2 and read + op.bytes_weight < 2 * op.bytes_out:
        read -= op.bytes_out  # what is broadcast stays
        other = max(1, round(read / BYTES[op.dtype]))
        new = max(1, new // other) * other
        ratio, shape = new / old, (new, *op.shape[1:])
        return replace(op, shape=shape, flops=op.flops * ratio, bytes_in=read + op.bytes_out * ratio,
                       bytes_out=op.bytes_out * ratio)  # fmt: skip
    amounts = {name: getattr(op, name) * ratio for name in ("flops", "bytes_in", "bytes_out")}
    return replace(op, shape=shape, bytes_weight=weights, **amounts)


_GROWS: Mapping[str, int] = {
    "softmax": 0,
    "layer_norm": 0,
    "batch_norm": 1,
    "pointwise": 0,
    "pool": 1,
    "reduce": 0,
    "concat": 0,
    "copy": 0,
}
_RESIZED: Mapping[str, Callable[[Op, Callable[[], float]], Op]] = {
    "conv": _conv,
    "linear": _linear,
    "bmm": _bmm,
    "attention": _attention,
}


def _made(op: Op, shape: tuple[int, ...], flops: float, numbers: tuple[int, int, int]) -> Op:
    read, weights, written = (float(n * BYTES[op.dtype]) for n in numbers)
    return replace(op, shape=shape, flops=flops, bytes_in=read, bytes_weight=weights, bytes_out=written)


def _size(size: int, factor: float, least: int = 1) -> int:
    return max(least, round(size * factor))


def anchors(plan: Sequence[Op], count: int) -> list[Op]:
    """Operations that are timed again and again to see the clock drift: spread over the plan by their bytes.

    Args:
        plan: at least one.
        count: at most so many.
    """
    order = sorted(plan, key=lambda op: (op.flops + op.bytes, repr(op)))
    places: NDArray[Any] = np.linspace(0, len(order) - 1, min(count, len(order)) + 2)[1:-1]
    return [order[round(float(p))] for p in places]
