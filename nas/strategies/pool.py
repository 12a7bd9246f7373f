"""Search of a pool: metrics of all its architectures first, then the objective of those that rank best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

import numpy as np

from nas.architecture import Architecture
from nas.errors import must
from nas.proposal import Proposal, Trial
from nas.strategies.ranking import Ranking
from nas.strategy import Strategy
from nas.surrogates.scores import told_nothing
from nas.table import SUFFIX, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nas.decision import Value
    from nas.evaluator import Known
    from nas.objective import Objective
    from nas.space import Space

Given: TypeAlias = "int | str | Sequence[Mapping[str, Value]]"
"""What a pool can be given as: a number, ``all``, a table's file, or choices."""

LARGEST = 1_000_000
"""Architectures that ``all`` enumerates at most."""
DRAWS = 20
"""Draws for each architecture of a sampled pool, so that a small space gives all that it has."""


class Policy(Protocol):
    """Which architectures of a pool to ask for next."""

    def begin(self, metrics: NDArray[np.float64], rng: np.random.Generator) -> None:
        """Take the metrics of the pool, shape (n, m), NaN where missing; called once."""

    def tell(self, told: Sequence[tuple[int, float | None]], rng: np.random.Generator) -> None:
        """Learn the gains of rows, the larger the better; None for a failure or a broken bound."""

    def order(self) -> Sequence[int]:
        """Rows, best first; those that were told are passed over. Changes nothing."""


@final
class PoolSearch(Strategy):
    """Asks for the metrics of a pool, once each, and then for the objective of what a policy ranks best.

    Metrics that are `known` are taken for nothing and unrecorded; all others are asked through the evaluator,
    one proposal an architecture. Architectures of which no metric is finite come last. When the whole pool
    was asked for, the search is finished.

    Args:
        space: what the pool belongs to.
        objectives: one to minimise or maximise, and bounds.
        policy: who ranks.
        metrics: names of the metrics that the policy ranks by; their signs do not matter to it.
        pool: a number of architectures to sample, distinct; ``all`` to enumerate the space; a file made by
            ``nas data import`` whose rows are the pool; or a list of choices.
        known: the cheap metrics; None for none.

    Raises:
        BadInput: there are no metrics or one repeats, or the pool is empty or not of the space.
    """

    one_objective = True

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        policy: Policy,
        metrics: Sequence[str],
        pool: Given,
        known: Known | None,
    ) -> None:
        if isinstance(metrics, str) or not metrics or len(set(metrics)) != len(metrics):
            raise must("metrics", "name at least one metric, each once", metrics)
        self._space, self._policy = space, policy
        self._names = tuple(metrics)
        self._wanted = tuple(o.metric for o in objectives)
        self._ranking = Ranking(objectives)
        self._known = known
        free = frozenset() if known is None else known.metrics
        self._asked = tuple(m for m in self._names if m not in free)
        self._given = pool
        self._pool: list[Architecture] = [] if isinstance(pool, int) else _listed(space, pool)
        if isinstance(pool, bool) or (isinstance(pool, int) and pool < 1):
            raise must("pool", "be at least 1", pool)
        self._rows: dict[Architecture, int] = {}
        self._metrics = np.zeros((0, 0))
        self._unscored: set[int] = set()
        self._queried: set[int] = set()
        self._early: list[tuple[int, float | None]] = []
        self._begun = False

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:  # noqa: ARG002 - the order was made in tell
        """Metrics of the architectures that lack them, then objectives in the policy's order."""
        out = {(p.candidate, p.metrics) for p in pending}
        wanted = self._wanted if self._begun else self._asked
        fresh = (Proposal(self._pool[row], wanted) for row in self._next())
        return list(islice((p for p in fresh if (p.candidate, p.metrics) not in out), n))

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Fill in metrics; rank when they are complete; learn from objectives.

        Trials of architectures outside the pool, such as the baseline's, only set what bounds refer to.
        """
        if not self._rows:
            self._draw(rng)
        told: list[tuple[int, float | None]] = []
        for trial, record in zip(trials, self._ranking.records(trials), strict=True):
            row = self._row(trial.proposal.candidate)
            if row is None:
                continue
            self._score(row, trial)
            if set(self._wanted) <= set(trial.proposal.metrics):
                gain = None if record is None or record.violation > 0 else -record.costs[0]
                told.append((row, gain))
        self._queried.update(row for row, _ in told)
        self._early += told
        if not self._unscored and not self._begun:
            self._begun = True
            self._policy.begin(self._metrics, rng)
        if self._begun and self._early:
            self._policy.tell(self._early, rng)
            self._early = []

    def _next(self) -> Sequence[int]:
        """Rows in the order of asking."""
        if not self._begun:
            return sorted(self._unscored)
        ordered = [row for row in self._policy.order() if row not in self._queried]
        blank = told_nothing(self._metrics)
        return sorted(ordered, key=lambda row: bool(blank[row]))

    def _row(self, candidate: object) -> int | None:
        return self._rows.get(candidate) if isinstance(candidate, Architecture) else None

    def _score(self, row: int, trial: Trial) -> None:
        """Take over metrics that a trial has; whoever was asked for all of them is scored."""
        for column, name in enumerate(self._names):
            if name in trial.values:
                self._metrics[row, column] = trial.values[name]
        if set(self._asked) <= set(trial.proposal.metrics):
            self._unscored.discard(row)

    def _draw(self, rng: np.random.Generator) -> None:
        if isinstance(self._given, int):
            drawn = (self._space.sample(rng) for _ in range(DRAWS * self._given))
            found: dict[Architecture, None] = {}
            for architecture in drawn:
                found[architecture] = None
                if len(found) == self._given:
                    break
            self._pool = list(found)
        self._rows = {architecture: row for row, architecture in enumerate(self._pool)}
        self._metrics = np.full((len(self._pool), len(self._names)), math.nan)
        self._unscored = set(range(len(self._pool))) if self._asked else set()
        self._look_up([m for m in self._names if m not in self._asked])

    def _look_up(self, free: Sequence[str]) -> None:
        """Fill in known metrics: all of a row at once, or one by one where one of them is missing."""
        if self._known is None or not free:
            return
        columns = [self._names.index(m) for m in free]
        for row, values in enumerate(self._known.values(self._pool, free)):
            self._metrics[row, columns] = [values[m] for m in free]
            if not np.isfinite(self._metrics[row, columns]).any():
                for column, name in zip(columns, free, strict=True):
                    self._metrics[row, column] = self._known.values([self._pool[row]], [name])[0][name]


def _listed(space: Space, given: str | Sequence[Mapping[str, Value]]) -> list[Architecture]:
    """The architectures of a pool that is not drawn, each once."""
    if given == "all":
        if space.size > LARGEST:
            raise must("pool", f"be a number in a space above {LARGEST:,} architectures", given)
        return list(space.enumerate())
    if isinstance(given, str):
        if not given.endswith(SUFFIX):
            raise must("pool", f"be a number, 'all', a file *{SUFFIX} or a list of choices", given)
        table = Table.open(given)
        return [space.architecture(table.choices(row)) for row in range(table.size)]
    if not isinstance(given, Sequence) or not given:
        raise must("pool", f"be a number, 'all', a file *{SUFFIX} or a list of choices", given)
    listed: Sequence[Any] = given
    return list(dict.fromkeys(space.architecture(choices) for choices in listed))
