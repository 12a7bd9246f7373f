"""The range of operations that a model has seen, and how far another one lies outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from nas.kernels.roofline import amounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nas.kernels.op import Op

FADE = 0.35
"""Distance in logarithms at which a model's say has fallen to 1/e: a factor of 1.4."""


@final
@dataclass(frozen=True)
class Hull:
    """A box around logarithms of shape attributes, FLOPs and bytes.

    Args:
        low, high: shape (attributes + 2,).
    """

    low: NDArray[Any]
    high: NDArray[Any]

    @classmethod
    def around(cls, ops: Sequence[Op]) -> Self:
        """The smallest box around operations of one family."""
        at = _places(ops)
        return cls(at.min(axis=0), at.max(axis=0))

    def trust(self, ops: Sequence[Op]) -> NDArray[Any]:
        """Shape (n,): 1 inside, falling to 0 outside as exp(-distance / `FADE`)."""
        at = _places(ops)
        outside = np.maximum(self.low - at, 0) + np.maximum(at - self.high, 0)
        return np.asarray(np.exp(-np.linalg.norm(outside, axis=1) / FADE))


def _places(ops: Sequence[Op]) -> NDArray[Any]:
    shapes = np.log1p(np.array([op.shape for op in ops], dtype=float))
    of = amounts(ops)
    return np.column_stack([shapes, np.log1p(of[:, 0]), np.log(of[:, 1:].sum(axis=1))])
