"""The largest and the smallest architecture of a space."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from nas.architecture import Architecture
from nas.decision import Integer, Real
from nas.rng import stream

if TYPE_CHECKING:
    from nas.decision import Decision, Value
    from nas.evaluator import Known
    from nas.space import Space

Size: TypeAlias = Callable[[Architecture], float]
"""What makes an architecture large."""

MOST_VALUES = 16
"""Values of a decision beyond which only its first and last are looked at."""
STARTS = 64
"""Feasible architectures to begin with where the extreme one is not feasible."""


def size_of(space: Space, known: Known | None, metric: str) -> Size:
    """A cheap metric where it is known, else the sum of the ranks of all active decisions.

    Ranks grow from 1 to 2 with `ordered` values, so that more active decisions are larger, too.
    """
    if known is not None and metric in known.metrics:
        cheap = known
        return lambda a: float(cheap.values([a], [metric])[0][metric])
    values = {leaf.name: ordered(leaf) for leaf in space.leaves}
    return lambda a: sum(1.0 + _rank(space.by_name[name], values[name], v) for name, v in a.items())


def ordered(leaf: Decision) -> tuple[Value, ...]:
    """The values from small to large: numbers by size, anything else as declared; a range by its ends."""
    if isinstance(leaf, Real):
        return (leaf.low, leaf.high)
    if isinstance(leaf, Integer) or numeric(leaf):
        return tuple(sorted(leaf.values))  # type: ignore[type-var]
    return leaf.values


def numeric(leaf: Decision) -> bool:
    """Whether a decision's values are numbers, and so have an order."""
    return isinstance(leaf, Real | Integer) or all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in leaf.values
    )


def largest(space: Space, size: Size) -> Architecture:
    """The largest architecture: each decision at its last `ordered` value, unless another makes it larger.

    From there, one decision after the other takes the value by which the size grows most, so an operation's
    or a stride's order is that of the metric, where it is known. In a space whose extreme architecture is
    not feasible this begins with the largest of 64 random ones instead; the result is always feasible.
    """
    return _end(space, size, 1)


def smallest(space: Space, size: Size) -> Architecture:
    """The same towards the other end."""
    return _end(space, size, -1)


def _end(space: Space, size: Size, sign: int) -> Architecture:
    def gain(a: Architecture) -> float:
        found = sign * size(a) if space.feasible(a) else math.nan
        return found if math.isfinite(found) else -math.inf

    choices = {leaf.name: ordered(leaf)[-1 if sign > 0 else 0] for leaf in space.leaves}
    if gain(space.architecture(choices)) == -math.inf:
        rng = stream(0, "extreme")
        start: Architecture = max([space.sample(rng) for _ in range(STARTS)], key=gain)
        choices |= start
    best = gain(space.architecture(choices))
    for leaf in space.leaves:
        for value in ordered(leaf) if leaf.size <= MOST_VALUES else (ordered(leaf)[0], ordered(leaf)[-1]):
            found = gain(space.architecture({**choices, leaf.name: value}))
            if found > best:
                choices[leaf.name], best = value, found
    return space.architecture(choices)


def _rank(leaf: Decision, values: tuple[Value, ...], value: Value) -> float:
    if isinstance(leaf, Real):
        return leaf.unit(value)  # type: ignore[arg-type]
    return values.index(value) / max(1, len(values) - 1)
