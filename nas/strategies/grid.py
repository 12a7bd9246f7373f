"""Grid search: every architecture once, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nas.architecture import Architecture
from nas.decision import Decision, Integer, Real
from nas.errors import must
from nas.proposal import Proposal, Trial
from nas.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from nas.decision import Value
    from nas.objective import Objective
    from nas.space import Space


@final
class Grid(Strategy):
    """Every feasible architecture once, the last decision fastest; then the search is finished.

    Only the first architecture that was not told yet is remembered, and the next is found from it, so a
    grid of any size costs nothing to begin, and to resume only a walk over what was told.

    Args:
        space: what is enumerated.
        objectives: every metric is asked for.
        points: values of a real decision, and the most of an integer one, spread evenly on its own scale
            with both ends; at least 2.

    Raises:
        BadInput: fewer than 2 points.
    """

    def __init__(self, space: Space, objectives: Sequence[Objective], points: int = 5) -> None:
        if points < 2:
            raise must("points", "be at least 2", points)
        self._space = space
        self._metrics = tuple(o.metric for o in objectives)
        self._values = {leaf.name: _values(leaf, points) for leaf in space.leaves}
        self._next: Architecture | None = self._first({})
        self._told: set[Architecture] = set()

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:  # noqa: ARG002 - the order is fixed
        """The next architectures that are neither told nor pending; none at the end of the grid."""
        known = self._told.union(p.candidate for p in pending if isinstance(p.candidate, Architecture))
        fresh: list[Proposal] = []
        for architecture in self._from(self._next):
            if len(fresh) == n:
                break
            if architecture not in known and self._space.feasible(architecture):
                fresh.append(Proposal(architecture, self._metrics))
        return fresh

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:  # noqa: ARG002 - draws nothing
        """Move on past what was told."""
        for trial in trials:
            if isinstance(trial.proposal.candidate, Architecture):
                self._told.add(trial.proposal.candidate)
        for architecture in self._from(self._next):
            self._next = architecture
            if architecture not in self._told and self._space.feasible(architecture):
                return
            self._told.discard(architecture)
        self._next = None

    def _from(self, architecture: Architecture | None) -> Iterator[Architecture]:
        while architecture is not None:
            yield architecture
            architecture = self._after(architecture)

    def _after(self, architecture: Architecture) -> Architecture | None:
        """The next point of the grid, as an odometer turns; None after the last."""
        names = list(architecture)
        for i in reversed(range(len(names))):
            values = self._values[names[i]]
            turned = values.index(architecture[names[i]]) + 1
            if turned < len(values):
                return self._first({**{n: architecture[n] for n in names[:i]}, names[i]: values[turned]})
        return None

    def _first(self, fixed: Mapping[str, Value]) -> Architecture:
        """The first point of the grid with some leading values fixed."""
        values: dict[str, Value] = {}
        for leaf in self._space.leaves:
            if self._space.active(leaf, values):
                values[leaf.name] = fixed[leaf.name] if leaf.name in fixed else self._values[leaf.name][0]
        return Architecture(values)


def _values(leaf: Decision, points: int) -> tuple[Value, ...]:
    """The values of a decision that lie on the grid."""
    if isinstance(leaf, Integer) and leaf.size > points:
        scale = Real(leaf.name, leaf.low, leaf.high, leaf.log)
        return tuple(dict.fromkeys(round(v) for v in _spread(scale, points)))
    if isinstance(leaf, Real) and leaf.size > 1:
        return tuple(dict.fromkeys(_spread(leaf, points)))
    return leaf.values


def _spread(leaf: Real, points: int) -> list[float]:
    return [float(leaf.at(i / (points - 1))) for i in range(points)]  # type: ignore[arg-type]
