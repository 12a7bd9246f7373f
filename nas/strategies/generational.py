"""Evolution in generations: what NSGA-II, NSGA-III and the plus strategies share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np

from nas.architecture import Architecture
from nas.errors import must
from nas.proposal import Proposal, Trial
from nas.strategies.ranking import Ranking, Record
from nas.strategy import Strategy
from nas.variation import sample_alike

if TYPE_CHECKING:
    from nas.objective import Objective
    from nas.space import Space
    from nas.strategies.breeding import Breeding

Select: TypeAlias = Callable[[Sequence[Record], np.random.Generator], Record]
"""Draws a parent from the population, which stands as survival left it."""

Survive: TypeAlias = Callable[[Sequence[Record], int, np.random.Generator], Sequence[Record]]
"""At most so many of the distinct architectures given, offspring after the population."""


@final
class Generational(Strategy):
    """A population that brings forth a generation of offspring, and keeps the best of both.

    The search begins with random architectures until the population is measured, drawn by `sample_alike`
    so that they spread also where blocks repeat. A generation ends when its
    worth of offspring was measured, in whatever portions and order; a child that was told or is pending is
    mutated on; failures never enter; of an architecture measured twice only the latest record stays.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
        population: members that survive a generation, at least 1.
        offspring: measured in a generation, at least 1.
        breeding: makes children.
        select: draws their parents.
        survive: decides who stays.

    Raises:
        BadInput: a number is out of its range.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        population: int,
        offspring: int,
        breeding: Breeding,
        select: Select,
        survive: Survive,
    ) -> None:
        for name, value in (("population", population), ("offspring", offspring)):
            if value < 1:
                raise must(name, "be at least 1", value)
        self._space = space
        self._metrics = tuple(o.metric for o in objectives)
        self._ranking = Ranking(objectives)
        self._size, self._brood = population, offspring
        self._breeding, self._select, self._survive = breeding, select, survive
        self._population: Sequence[Record] = ()
        self._offspring: list[Record] = []
        self._seen: set[Architecture] = set()

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """Exactly ``n`` proposals: random ones during the first generation, then children."""
        taken = {p.candidate for p in pending if isinstance(p.candidate, Architecture)}
        proposals = []
        for _ in range(n):
            child = self._breeding.new(self._child(rng), lambda a: a in self._seen or a in taken, rng)
            taken.add(child)
            proposals.append(Proposal(child, self._metrics))
        return proposals

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Collect offspring; a generation's worth of them is followed by survival."""
        for trial in trials:
            if isinstance(trial.proposal.candidate, Architecture):
                self._seen.add(trial.proposal.candidate)
        self._offspring.extend(r for r in self._ranking.records(trials) if r is not None)
        if len(self._offspring) >= (self._brood if self._population else self._size):
            latest = {record.architecture: record for record in (*self._population, *self._offspring)}
            self._population = self._survive(list(latest.values()), self._size, rng)
            self._offspring = []

    def _child(self, rng: np.random.Generator) -> Architecture:
        if not self._population:
            return sample_alike(self._space, rng)
        return self._breeding.child(lambda: self._select(self._population, rng).architecture, rng)
