"""Architectures as vectors and back: the only encoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.decision import Categorical, Decision, Integer, Real
from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nas.architecture import Architecture
    from nas.space import Space


@final
class Encoder:
    """A one-to-one map between a space's architectures and points of the unit cube.

    A categorical decision takes one column per option (one-hot), a number one column in [0, 1] on its own
    scale, and every conditional decision one more column: 1 where it is active. Columns of inactive
    decisions are 0.

    Args:
        space: its plain decisions fix the columns, in order.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.columns: tuple[str, ...] = tuple(name for leaf in space.leaves for name in _columns(leaf))
        self._slices: list[tuple[Decision, slice]] = []
        start = 0
        for leaf in space.leaves:
            width = len(_columns(leaf))
            self._slices.append((leaf, slice(start, start + width)))
            start += width

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.columns)

    @property
    def categorical(self) -> NDArray[np.bool_]:
        """Shape (width,): whether a column holds only 0 and 1."""
        return np.array(
            [
                isinstance(leaf, Categorical) or (leaf.conditions != () and i == 0)
                for leaf, columns in self._slices
                for i in range(columns.stop - columns.start)
            ],
            dtype=np.bool_,
        )

    def encode(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Shape (n, width), values in [0, 1]."""
        out = np.zeros((len(architectures), self.width))
        for row, architecture in zip(out, architectures, strict=True):
            for leaf, columns in self._slices:
                if leaf.name in architecture:
                    row[columns] = _encode(leaf, architecture[leaf.name])
        return out

    def decode(self, vector: NDArray[np.float64]) -> Architecture:
        """The architecture nearest to a vector of shape (width,), decision by decision.

        Raises:
            BadInput: the vector has another shape or is not finite.
        """
        vector = np.asarray(vector, dtype=np.float64)
        if vector.shape != (self.width,) or not np.isfinite(vector).all():
            raise must("vector", f"be finite with shape ({self.width},)", vector.tolist())
        return self.space.architecture(
            {leaf.name: _decode(leaf, vector[columns]) for leaf, columns in self._slices}
        )


def _columns(leaf: Decision) -> list[str]:
    active = [f"{leaf.name}?"] if leaf.conditions else []
    if isinstance(leaf, Categorical):
        return active + [f"{leaf.name}={option}" for option in leaf.options]
    return [*active, leaf.name]


def _encode(leaf: Decision, value: Any) -> list[float]:
    active = [1.0] if leaf.conditions else []
    if isinstance(leaf, Categorical):
        hot = [0.0] * len(leaf.options)
        hot[leaf.index[value]] = 1.0
        return active + hot
    if isinstance(leaf, Real):
        return [*active, leaf.unit(value)]
    assert isinstance(leaf, Integer)
    return [*active, _integer_unit(leaf, value)]


def _decode(leaf: Decision, columns: NDArray[np.float64]) -> Any:
    body = columns[1:] if leaf.conditions else columns
    if isinstance(leaf, Categorical):
        return leaf.options[int(np.argmax(body))]
    if isinstance(leaf, Real):
        return leaf.at(float(body[0]))
    assert isinstance(leaf, Integer)
    u = min(max(float(body[0]), 0.0), 1.0)
    if leaf.log:
        value = math.exp(math.log(leaf.low) + u * (math.log(leaf.high) - math.log(leaf.low)))
    else:
        value = leaf.low + u * (leaf.high - leaf.low)
    return min(max(round(value), leaf.low), leaf.high)


def _integer_unit(leaf: Integer, value: int) -> float:
    if leaf.low == leaf.high:
        return 0.0
    if leaf.log:
        return (math.log(value) - math.log(leaf.low)) / (math.log(leaf.high) - math.log(leaf.low))
    return (value - leaf.low) / (leaf.high - leaf.low)
