"""Monte Carlo tree search over the decision tree."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, final

import numpy as np

from nas.architecture import Architecture
from nas.errors import must
from nas.proposal import Proposal, Trial
from nas.strategies.decision_tree import Path, Walk
from nas.strategies.ranking import Ranking, Record
from nas.strategies.sorting import standing
from nas.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.objective import Objective
    from nas.space import Space

ATTEMPTS = 100
"""Ways down the tree that are tried for one proposal, until one ends at something feasible and new."""


@final
class Mcts(Strategy):
    """Goes down the tree of decisions where results are good or few, and draws the rest at random.

    Rewards are standings in [0, 1] among all that was told, so that the exploration constant means the same
    for every metric; failures stand last. Branches below which everything was told are closed; when the root
    is, the search is finished.

    Source: Negrinho & Gordon 2017 (DeepArchitect): UCT (Kocsis & Szepesvári 2006) on sequential assignment,
    numbers by bisection; Liu et al. 2020 (WU-UCT), eq. 4: proposals that are pending count as visits.
    Deviations: rewards are standings; the whole path of a trial enters the tree, not one level; what was
    told is not proposed again; several objectives by front.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
        exploration: c of UCT, the weight of the confidence bound against the mean reward, at least 0.

    Raises:
        BadInput: the constant is negative or not finite.
    """

    def __init__(self, space: Space, objectives: Sequence[Objective], exploration: float = 0.2) -> None:
        if not 0.0 <= exploration < math.inf:
            raise must("exploration", "be finite and at least 0", exploration)
        self._space = space
        self._metrics = tuple(o.metric for o in objectives)
        self._ranking = Ranking(objectives)
        self._c = exploration
        self._records: list[Record | None] = []
        self._known: set[Architecture] = set()
        self._node: dict[Path, int] = {}
        self._visits: list[int] = []  # at each node
        self._passed: tuple[list[int], list[int]] = ([], [])  # trial and node, for each node of each path
        self._closed: set[Path] = set()
        self._rewards: list[float] = []  # sum at each node

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """At most ``n`` new architectures; fewer where what is left is pending."""
        trip = _Trip(set(self._closed), Counter(), set(self._known))
        for proposal in pending:
            if isinstance(proposal.candidate, Architecture):
                trip.add(self._space, proposal.candidate)
        proposals: list[Proposal] = []
        while len(proposals) < n and (architecture := self._descend(trip, rng)) is not None:
            trip.add(self._space, architecture)
            proposals.append(Proposal(architecture, self._metrics))
        return proposals

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:  # noqa: ARG002 - draws nothing
        """Enter trials into the tree, and rank all of them anew."""
        for trial, record in zip(trials, self._ranking.records(trials), strict=True):
            architecture = trial.proposal.candidate
            if isinstance(architecture, Architecture):
                self._known.add(architecture)
                for path in _walked(self._space, architecture, self._closed):
                    self._enter(path)
                self._records.append(record)
        trial_of, node_of = self._passed
        if trial_of:
            rewards = standing(self._records)[trial_of]
            self._rewards = np.bincount(node_of, rewards, len(self._node)).tolist()

    def _enter(self, path: Path) -> None:
        node = self._node.setdefault(path, len(self._node))
        if node == len(self._visits):
            self._visits.append(0)
        self._visits[node] += 1
        self._passed[0].append(len(self._records))
        self._passed[1].append(node)

    def _descend(self, trip: _Trip, rng: np.random.Generator) -> Architecture | None:
        """Something feasible and new at the end of a way down; None where there is nothing left.

        What is infeasible counts as a visit of this asking, so that the next way leads elsewhere.
        """
        for _ in range(ATTEMPTS):
            if () in trip.closed:
                return None
            walk = Walk(self._space)
            while walk.branches and (not walk.path or self._passes(walk.path, trip)):
                walk.take(self._branch(walk, trip, rng))
            architecture = walk.complete(rng)
            if architecture not in trip.known and self._space.feasible(architecture):
                return architecture
            trip.add(self._space, architecture)
        return self._space.sample(rng)

    def _branch(self, walk: Walk, trip: _Trip, rng: np.random.Generator) -> int:
        """An open branch: one that nobody passed, else the one of the largest bound; ties at random."""
        here = walk.path
        paths = [(*here, branch) for branch in range(walk.branches)]
        open_ = [path for path in paths if path not in trip.closed]
        fresh = [path for path in open_ if not self._passes(path, trip)]
        if fresh:
            return fresh[int(rng.random() * len(fresh))][-1]
        total = self._passes(here, trip)
        bounds = [self._bound(path, total, trip) for path in open_]
        best = [path for path, bound in zip(open_, bounds, strict=True) if bound == max(bounds)]
        return best[int(rng.random() * len(best))][-1]

    def _bound(self, path: Path, total: int, trip: _Trip) -> float:
        """Mean reward and confidence."""
        return self._mean(path) + self._c * math.sqrt(2.0 * math.log(total) / self._passes(path, trip))

    def _mean(self, path: Path) -> float:
        """Of the rewards below a node; of the nearest node above where nothing below was told yet."""
        while path and path not in self._node:
            path = path[:-1]
        node = self._node.get(path)
        return 0.5 if node is None else self._rewards[node] / self._visits[node]

    def _passes(self, path: Path, trip: _Trip) -> int:
        """Visits of a node, those on their way included."""
        return trip.flying[path] + (self._visits[self._node[path]] if path in self._node else 0)


@final
class _Trip:
    """What an asking adds to the tree: visits that are on their way, and ends that they close."""

    def __init__(self, closed: set[Path], flying: Counter[Path], known: set[Architecture]) -> None:
        self.closed, self.flying, self.known = closed, flying, known

    def add(self, space: Space, architecture: Architecture) -> None:
        self.known.add(architecture)
        self.flying.update(_walked(space, architecture, self.closed))


def _walked(space: Space, architecture: Architecture, closed: set[Path]) -> list[Path]:
    """The nodes that an architecture passes, from the root on; those with nothing left below are closed."""
    walk, forks = Walk(space), list[int]()
    while walk.branches:
        forks.append(walk.branches)
        walk.take(walk.branch(architecture))
    path = walk.path
    if walk.exact:
        closed.add(path)
        for depth in range(len(path) - 1, -1, -1):
            if any((*path[:depth], branch) not in closed for branch in range(forks[depth])):
                break
            closed.add(path[:depth])
    return [path[:depth] for depth in range(len(path) + 1)]
