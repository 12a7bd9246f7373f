"""A space as a tree: its decisions are taken one after the other, numbers by halving their range."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, final

from nas.decision import Categorical, Integer, Real

if TYPE_CHECKING:
    import numpy as np

    from nas.architecture import Architecture
    from nas.decision import Decision, Value
    from nas.space import Space

HALVINGS = 5
"""Times that the range of a real decision is halved; within the last of them its value is drawn."""

Path: TypeAlias = tuple[int, ...]
"""The branches from the root to a node, which name it."""


@final
class Walk:
    """A way down the tree: which branches there are, and what was chosen so far.

    A categorical decision branches into its options, in order. The range of a number is halved on its own
    scale (0 is the lower half): an integer's until one value is left, a real's five times.
    Inactive decisions, and those of one value, are passed over.

    Source: Negrinho & Gordon 2017 (sequential assignment of hyperparameters; bisection of ordered ones).

    Args:
        space: whose tree it is.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._values: dict[str, Value] = {}
        self._ranges: dict[str, Real] = {}
        self._left = list(reversed(space.leaves))
        self._half: Decision | None = None  # the number that is being narrowed
        self._halvings = 0
        self.path: Path = ()
        self._settle()

    @property
    def decision(self) -> Decision | None:
        """The decision that branches here, numbers with what is left of their range; None at the end."""
        return self._half

    @property
    def branches(self) -> int:
        """Number of branches; 0 at the end."""
        here = self._half
        return 0 if here is None else len(here.options) if isinstance(here, Categorical) else 2

    @property
    def exact(self) -> bool:
        """Whether what was chosen leaves nothing to be drawn."""
        return self._half is None and not self._ranges

    def take(self, branch: int) -> None:
        """Go down a branch, at least 0 and below `branches`."""
        here = self._half
        assert here is not None
        self.path = (*self.path, branch)
        if isinstance(here, Categorical):
            self._values[here.name] = here.options[branch]
            self._half = None
        elif isinstance(here, Integer):
            self._half = Integer(here.name, *_halves(here)[branch], here.log)
        elif isinstance(here, Real):
            middle: Any = here.at(0.5)
            low, high = ((here.low, middle), (middle, here.high))[branch]
            self._half = Real(here.name, low, high, here.log)
            self._halvings += 1
        self._settle()

    def branch(self, architecture: Architecture) -> int:
        """The branch in which an architecture lies."""
        here = self._half
        assert here is not None
        value = architecture[here.name]
        if isinstance(here, Categorical):
            return here.index[value]
        if isinstance(here, Integer):
            return int(value > _halves(here)[0][1])
        assert isinstance(here, Real)
        middle: Any = here.at(0.5)
        return int(value > middle)

    def complete(self, rng: np.random.Generator) -> Architecture:
        """An architecture below: what is not chosen is drawn, feasible or not."""
        values = {**self._values, **{name: leaf.sample(rng) for name, leaf in self._ranges.items()}}
        if self._half is not None:
            values[self._half.name] = self._half.sample(rng)
        return self._space.complete(values, rng)

    def _settle(self) -> None:
        """Take what leaves no choice, up to the next decision that branches."""
        while True:
            here = self._half
            if here is None:
                if not self._left:
                    return
                leaf = self._left.pop()
                if self._space.active(leaf, self._values):
                    self._half, self._halvings = leaf, 0
            elif here.size == 1:
                self._values[here.name] = here.values[0]
                self._half = None
            elif isinstance(here, Real) and self._halvings == HALVINGS:
                self._ranges[here.name] = here
                self._half = None
            else:
                return


def _halves(leaf: Integer) -> tuple[tuple[int, int], tuple[int, int]]:
    """The lower and the upper half of a range of at least two integers."""
    middle = math.isqrt(leaf.low * leaf.high) if leaf.log else (leaf.low + leaf.high) // 2
    middle = min(middle, leaf.high - 1)
    return (leaf.low, middle), (middle + 1, leaf.high)
