"""Local search with restarts: hill climbing for one objective, Pareto local search for several."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nas.architecture import Architecture
from nas.decision import Integer, Real
from nas.proposal import Proposal, Trial
from nas.strategies.ranking import Ranking, Record
from nas.strategy import Strategy
from nas.variation import neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from nas.objective import Objective
    from nas.space import Space

STEPS = (0.1, 0.03, 0.01, 0.003)
"""Steps of numbers, as shares of their ranges, from the first of a climb to the last."""
ATTEMPTS = 100
"""Random starts drawn to find one that was not told, before a known one is proposed again."""


@final
class LocalSearch(Strategy):
    """Explores the neighbours of a non-dominated member in random order, and moves on when it is dominated.

    A climb keeps an archive of what no other of its records dominates. With one objective that is the
    incumbent alone, so the search moves on the first improvement. When every member's neighbours are
    known, numbers take smaller steps, from a tenth down to 0.003 of their ranges; then a new climb
    starts from a random architecture with an empty archive. Neighbours that were told in an earlier climb
    are taken from memory, not proposed again.

    Source: White et al. 2021 (local search for NAS, Algorithm 1) for one objective; Paquete et al. 2004
    (Pareto local search) for several. Deviations: first instead of best improvement; a member that is
    dominated while it is explored is left at once; violated bounds count before objectives; steps shrink.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
    """

    def __init__(self, space: Space, objectives: Sequence[Objective]) -> None:
        self._space = space
        self._metrics = tuple(o.metric for o in objectives)
        self._ranking = Ranking(objectives)
        self._told: dict[Architecture, Record | None] = {}
        self._archive: list[Record] = []
        self._explored: set[Architecture] = set()
        self._steps = STEPS if any(isinstance(leaf, Integer | Real) for leaf in space.leaves) else STEPS[:1]
        self._step = 0
        self._current: Record | None = None
        self._queue: list[Architecture] = []

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """The next neighbours that are neither told nor pending, or ``n`` random starts of a new climb."""
        if self._current is None:
            return [Proposal(self._start(rng), self._metrics) for _ in range(n)]
        waiting = {p.candidate for p in pending if isinstance(p.candidate, Architecture)}
        fresh = [a for a in self._queue if a not in waiting]
        return [Proposal(a, self._metrics) for a in fresh[:n]]

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Admit what no member dominates; then go on exploring, elsewhere if need be."""
        for trial, record in zip(trials, self._ranking.records(trials), strict=True):
            if isinstance(trial.proposal.candidate, Architecture):
                self._told[trial.proposal.candidate] = record
                self._admit(record)
        self._queue = [a for a in self._queue if a not in self._told]
        while self._current not in self._archive or not self._queue:
            if not self._explore(rng):
                return

    def _explore(self, rng: np.random.Generator) -> bool:
        """Turn to the next unexplored member; False when there is none at any step: the climb is over."""
        rest = self._unexplored()
        if not rest:
            self._archive, self._current, self._queue = [], None, []
            self._explored, self._step = set(), 0
            return False
        self._current = rest[int(rng.random() * len(rest))]
        self._explored.add(self._current.architecture)
        step = self._steps[self._step]
        near = list(neighbours(self._space, self._current.architecture, rng, step))
        self._queue = []
        for i in rng.permutation(len(near)):
            if near[i] in self._told:
                self._admit(self._told[near[i]])
            else:
                self._queue.append(near[i])
        return True

    def _unexplored(self) -> list[Record]:
        """Members whose neighbours are to be looked at; where there are none, all at the next step."""
        rest = [record for record in self._archive if record.architecture not in self._explored]
        if rest or not self._archive or self._step + 1 == len(self._steps):
            return rest
        self._step += 1
        self._explored = set()
        return list(self._archive)

    def _admit(self, record: Record | None) -> None:
        """Take a record into the archive unless a member is as good, and drop those it dominates."""
        if record is None or any(
            member.dominates(record) or member.rank == record.rank for member in self._archive
        ):
            return
        self._archive = [member for member in self._archive if not record.dominates(member)] + [record]

    def _start(self, rng: np.random.Generator) -> Architecture:
        for _ in range(ATTEMPTS):
            start = self._space.sample(rng)
            if start not in self._told:
                break
        return start
