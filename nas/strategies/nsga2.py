"""NSGA-II for several objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from nas.architecture import Architecture
from nas.errors import must
from nas.proposal import Proposal, Trial
from nas.strategies.ranking import Ranking, Record
from nas.strategy import Strategy
from nas.variation import crossover, mutate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nas.objective import Objective
    from nas.space import Space

ATTEMPTS = 10
"""Mutations of a child that was seen before, one upon the other, until it is proposed all the same."""


@final
class Nsga2(Strategy):
    """Keeps the best fronts and, within the last one that fits, the least crowded members.

    Source: Deb et al. 2002, secs. III and VI-A (constrained dominance, Definition 1). Deviations: a
    generation ends when its worth of offspring was measured, in whatever portions and order; every child
    is mutated in exactly one decision; a child that was told or is pending is mutated on; of two members
    with equal rank and crowding the earlier one wins the tournament; failures never enter;
    of an architecture measured twice only the latest record stays.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
        population: members that survive a generation, at least 2; so many random architectures begin.
        tournament: members drawn (with replacement) for each parent, the best of which is taken; >= 1.
        crossover: chance that a child has two parents, in [0, 1].

    Raises:
        BadInput: a setting is out of its range.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        population: int = 50,
        tournament: int = 2,
        crossover: float = 0.9,
    ) -> None:
        if population < 2:
            raise must("population", "be at least 2", population)
        if tournament < 1:
            raise must("tournament", "be at least 1", tournament)
        if not 0.0 <= crossover <= 1.0:
            raise must("crossover", "lie in [0, 1]", crossover)
        self._space = space
        self._metrics = tuple(o.metric for o in objectives)
        self._ranking = Ranking(objectives)
        self._size = population
        self._tournament = tournament
        self._crossover = crossover
        self._population: list[Record] = []  # best first
        self._offspring: list[Record] = []
        self._seen: set[Architecture] = set()

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """Exactly ``n`` proposals: random ones during the first generation, then children."""
        taken = {p.candidate for p in pending if isinstance(p.candidate, Architecture)}
        proposals = []
        for _ in range(n):
            child = self._unseen(self._child(rng), taken, rng)
            taken.add(child)
            proposals.append(Proposal(child, self._metrics))
        return proposals

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:  # noqa: ARG002 - draws nothing
        """Collect offspring; a generation's worth of them is followed by survival."""
        for trial in trials:
            if isinstance(trial.proposal.candidate, Architecture):
                self._seen.add(trial.proposal.candidate)
        self._offspring.extend(r for r in self._ranking.records(trials) if r is not None)
        if len(self._offspring) >= self._size:
            latest = {record.architecture: record for record in (*self._population, *self._offspring)}
            self._population = survivors(list(latest.values()), self._size)
            self._offspring = []

    def _child(self, rng: np.random.Generator) -> Architecture:
        if not self._population:
            return self._space.sample(rng)
        child = self._parent(rng)
        if rng.random() < self._crossover:
            child = crossover(self._space, child, self._parent(rng), rng)
        return mutate(self._space, child, rng)

    def _parent(self, rng: np.random.Generator) -> Architecture:
        """The winner of a tournament: the smallest place, as the population is sorted."""
        places = (int(rng.random() * len(self._population)) for _ in range(self._tournament))
        return self._population[min(places)].architecture

    def _unseen(
        self, child: Architecture, taken: set[Architecture], rng: np.random.Generator
    ) -> Architecture:
        for _ in range(ATTEMPTS):
            if child not in self._seen and child not in taken:
                break
            child = mutate(self._space, child, rng)
        return child


def survivors(records: Sequence[Record], size: int) -> list[Record]:
    """At most ``size`` records, best first: by front, then by crowding distance, then in the given order.

    Source: Deb et al. 2002, secs. III-A to III-C.
    """
    kept: list[Record] = []
    for front in _fronts(records, size):
        distance = get_crowding_function("cd").do(np.array([records[i].costs for i in front]))
        kept.extend(records[front[i]] for i in np.argsort(-distance, kind="stable").tolist())
    return kept[:size]


def _fronts(records: Sequence[Record], size: int) -> Iterator[list[int]]:
    """Positions front by front, until ``size`` are reached; each amount of violation is a front of its own.

    Records of equal violation are told apart by their objectives.
    """
    violation = np.array([record.violation for record in records])
    reached = 0
    for level in np.unique(violation):
        members = np.flatnonzero(violation == level).tolist()
        costs = np.array([records[i].costs for i in members])
        for front in NonDominatedSorting().do(costs, n_stop_if_ranked=size - reached):
            yield [members[i] for i in front]
            reached += len(front)
        if reached >= size:
            return
