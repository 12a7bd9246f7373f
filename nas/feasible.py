"""A space within bounds: architectures that meet them are sampled and bred without waiting for luck.

Where one architecture in a hundred thousand is fast enough, drawing until one is stalls. Here a draw that is
not walks to one that is, and goes on walking among those, so that it forgets where it came in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

from nas.errors import Infeasible
from nas.objective import violations
from nas.space import Space
from nas.variation import mutate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from torch import nn

    from nas.architecture import Architecture, Fixed
    from nas.decision import Value
    from nas.evaluator import Known
    from nas.objective import Objective
    from nas.operators import Operator
    from nas.space import Graph
    from nas.supernet import Supernet

WALKS = 10
"""Walks from new architectures before nothing is held to meet the bounds."""
MIXING = 3
"""Steps among feasible architectures for each decision, after a walk has reached them."""
REMEMBERED = 100_000
"""Architectures whose violation is kept."""


@final
class Within(Space):
    """A space whose feasible architectures are those that also meet bounds on cheap metrics.

    Everything but `feasible` and `repaired` is the space's own. A metric that cannot be told is left to the
    evaluation: its architecture counts as feasible.

    Args:
        space: which is bounded.
        objectives: those with a bound on a cheap metric count, others are passed over.
        known: the cheap metrics.
        baseline: the baseline's cheap metrics, for relative bounds; None passes those over.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        known: Known,
        baseline: Mapping[str, float] | None = None,
    ) -> None:
        self.space = space
        self.decisions = space.decisions
        self.bounded = tuple(bounded(objectives, known, baseline))
        self._metrics = [o.metric for o in self.bounded]
        self._known, self._baseline = known, baseline
        self._missed: dict[Architecture, float] = {}

    def miss(self, architecture: Architecture) -> float:
        """How far an architecture is beyond the bounds, as in `violations`; 0 where that cannot be told."""
        found = self._missed.get(architecture)
        if found is None:
            rows = self._known.values([architecture], self._metrics)
            told = all(math.isfinite(rows[0][m]) for m in self._metrics)
            found = float(violations(rows, self.bounded, self._baseline)[0]) if told else 0.0
            if len(self._missed) >= REMEMBERED:
                self._missed.clear()
            self._missed[architecture] = found
        return found

    @property
    def looked_at(self) -> int:
        """How many architectures' metrics were asked for, and are remembered."""
        return len(self._missed)

    def feasible(self, architecture: Architecture) -> bool:
        """Whether the space allows it and it meets every bound."""
        return self.space.feasible(architecture) and self.miss(architecture) == 0.0

    def redrawn(self, rng: np.random.Generator) -> Architecture | None:
        """A random architecture that walks to a feasible one, and on among those.

        Source: after the first feasible one, Metropolis et al. 1953 with a uniform target: a step to an
        infeasible one is not taken, so that in the long run all that can be reached are equally likely where
        mutation is symmetric.

        Raises:
            Infeasible: as `repaired`.
        """
        architecture = self.repaired(self.space.sample(rng), rng)
        for _ in range(MIXING * len(self.leaves)):
            other = mutate(self.space, architecture, rng)
            if self.miss(other) == 0.0:
                architecture = other
        return architecture

    def repaired(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """The first feasible architecture that a walk from this one reaches.

        Raises:
            Infeasible: nor did nine walks from random architectures reach any.
        """
        nearest = math.inf
        for _ in range(WALKS):
            architecture, miss = walk(self.space, architecture, self.miss, rng)
            if miss == 0.0 and self.feasible(architecture):
                return architecture
            nearest = min(nearest, miss)
            architecture = self.space.sample(rng)
        texts = ", ".join(f"{o.metric} {o.bound}" for o in self.bounded)
        raise Infeasible(
            f"an architecture must meet {texts}, got none in {WALKS} walks (the nearest misses by "
            f"{nearest:.2%}); loosen the bound or widen the space",
            "objectives",
        )

    def build(self, architecture: Architecture) -> nn.Module:
        """The space's own."""
        return self.space.build(architecture)

    def graph(self, architecture: Architecture) -> Graph | None:
        """The space's own."""
        return self.space.graph(architecture)

    @property
    def operators(self) -> Mapping[str, Operator]:
        """The space's own."""
        return self.space.operators

    def recipe(self, architecture: Architecture) -> Mapping[str, Value]:
        """The space's own."""
        return self.space.recipe(architecture)

    def supernet(self) -> Supernet | None:
        """The space's own."""
        return self.space.supernet()

    @property
    def parts(self) -> Mapping[str, Space]:
        """The space's own."""
        return self.space.parts


def bounded(
    objectives: Sequence[Objective], known: Known, baseline: Mapping[str, float] | None = None
) -> list[Objective]:
    """The objectives whose bound can be told of any architecture at little cost."""
    return [
        o
        for o in objectives
        if o.bound and o.metric in known.metrics and (not o.bound.relative or o.metric in (baseline or {}))
    ]


def walk(
    space: Space, start: Architecture, miss: Callable[[Architecture], float], rng: np.random.Generator
) -> tuple[Architecture, float]:
    """Random steps that never miss by more, until nothing is missed or nothing improves any more.

    Returns:
        The last architecture, which is the nearest one, and by how much it misses.
    """
    here, least, idle, patience = start, miss(start), 0, _patience(space)
    while least > 0.0 and idle < patience:
        other = mutate(space, here, rng)
        missed = miss(other)
        idle = 0 if missed < least else idle + 1
        if missed <= least:
            here, least = other, missed
    return here, least


def _patience(space: Space) -> int:
    """Steps without progress until almost every single change of one decision was tried."""
    changes = sum(min(leaf.size - 1, 20) for leaf in space.leaves)
    return int(min(max(4 * changes, 100), 4000))


def baseline_values(
    baseline: Architecture | Fixed | None, objectives: Sequence[Objective], known: Known
) -> Mapping[str, float]:
    """The cheap metrics of a baseline that bounds are relative to; none without one."""
    wanted = [o.metric for o in objectives if o.bound and o.bound.relative and o.metric in known.metrics]
    if baseline is None or not wanted:
        return {}
    values = known.values([baseline], wanted)[0]
    return {metric: value for metric, value in values.items() if math.isfinite(value)}
