"""Aging evolution (regularised evolution) for one objective."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, final

from nas.errors import must
from nas.proposal import Proposal, Trial
from nas.strategies.breeding import Breeding
from nas.strategies.ranking import Ranking, Record
from nas.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from nas.architecture import Architecture
    from nas.objective import Objective
    from nas.space import Space


@final
class AgingEvolution(Strategy):
    """Mutates the best of a random handful; the oldest member dies, however good it is.

    Source: Real et al. 2019, Algorithm 1. Deviations: feasible members beat infeasible ones, and less
    violating ones the more violating; failures never enter the population; parents may be crossed before
    mutation; a child is asked for as soon as there is a place, without waiting for its siblings.

    Args:
        space: what is searched.
        objectives: exactly one goal, and any bounds.
        population: living members, at least 2; so many random architectures begin the search.
        tournament: members drawn (with replacement) for each parent, the best of which is taken; >= 1.
        crossover: chance that a child has two parents, in [0, 1].
        mutation: as in `Breeding`; None changes one decision.

    Raises:
        BadInput: a setting is out of its range.
    """

    one_objective: ClassVar[bool] = True

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        population: int = 50,
        tournament: int = 10,
        crossover: float = 0.0,
        mutation: Mapping[str, Any] | None = None,
    ) -> None:
        if population < 2:
            raise must("population", "be at least 2", population)
        if tournament < 1:
            raise must("tournament", "be at least 1", tournament)
        self._space = space
        self._metrics = tuple(o.metric for o in objectives)
        self._ranking = Ranking(objectives)
        self._population: deque[Record] = deque(maxlen=population)
        self._size = population
        self._tournament = tournament
        self._breeding = Breeding(space, crossover, mutation)

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """Exactly ``n`` proposals: random ones until the population is full or on its way, then children."""
        members = list(self._population)
        founders = self._size - len(members) - len(pending) if members else n
        return [
            Proposal(self._space.sample(rng) if i < founders else self._child(members, rng), self._metrics)
            for i in range(n)
        ]

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:  # noqa: ARG002 - draws nothing
        """Whoever was measured is born; beyond the population's size the oldest die."""
        self._population.extend(r for r in self._ranking.records(trials) if r is not None)

    def _child(self, members: Sequence[Record], rng: np.random.Generator) -> Architecture:
        return self._breeding.child(lambda: self._parent(members, rng), rng)

    def _parent(self, members: Sequence[Record], rng: np.random.Generator) -> Architecture:
        drawn = rng.integers(len(members), size=self._tournament).tolist()
        best: Record = min((members[i] for i in drawn), key=lambda record: record.rank)
        return best.architecture
