"""Sequential model-based optimisation with a linear model of the choices."""

from __future__ import annotations

from itertools import pairwise, starmap
from typing import TYPE_CHECKING, Any, final
from zlib import crc32

import numpy as np
from sklearn.linear_model import Ridge

from nas.architecture import Architecture
from nas.decision import Integer, Real
from nas.encoding import Encoder
from nas.errors import must
from nas.proposal import Proposal, Trial
from nas.strategies.ranking import Ranking, Record
from nas.strategies.sorting import standing
from nas.strategy import Strategy
from nas.variation import mutate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nas.objective import Objective
    from nas.space import Space

BUCKETS = 1024
"""Columns that pairs of successive choices are hashed into."""
PARENTS = 10
"""Best architectures so far whose mutants are candidates."""
ATTEMPTS = 10
"""Random architectures drawn to find a new one, before a known one is proposed again."""


@final
class Smbo(Strategy):
    """Fits a linear model to what was told, and proposes the candidates that it likes best.

    Source: Negrinho & Gordon 2017 (DeepArchitect): ridge regression on n-grams of the choices, the best of
    random candidates by its prediction, a random one with probability ε. Deviations: single choices as
    `Encoder` gives them and hashed pairs of successive ones, no longer n-grams; standings instead of
    values are predicted, which need no scale and give failures (last) and several objectives a place; half
    of the candidates are mutants of the ten best; all proposals of one asking share one set of candidates.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
        initial: random architectures that begin the search, at least 2.
        candidates: drawn at each asking, at least 2.
        epsilon: chance of a random proposal instead of the best candidate, in [0, 1].
        penalty: of the ridge regression, above 0.
        refit: trials between two fits, at least 1.

    Raises:
        BadInput: a setting is out of its range.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        initial: int = 10,
        candidates: int = 128,
        epsilon: float = 0.1,
        penalty: float = 1.0,
        refit: int = 1,
    ) -> None:
        for name, value, least in (
            ("initial", initial, 2),
            ("candidates", candidates, 2),
            ("refit", refit, 1),
        ):
            if value < least:
                raise must(name, f"be at least {least}", value)
        if not 0.0 <= epsilon <= 1.0:
            raise must("epsilon", "lie in [0, 1]", epsilon)
        if not penalty > 0.0:
            raise must("penalty", "be above 0", penalty)
        self._space = space
        self._metrics = tuple(o.metric for o in objectives)
        self._ranking = Ranking(objectives)
        self._features = Features(space)
        self._initial, self._candidates, self._refit = initial, candidates, refit
        self._epsilon, self._penalty = epsilon, penalty
        self._known: set[Architecture] = set()
        self._told: list[tuple[Architecture, Record | None]] = []
        self._rows: list[NDArray[np.float64]] = []
        self._model: Ridge | None = None
        self._parents: list[Architecture] = []

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """Exactly ``n`` proposals: random ones until the model stands, then the best candidates."""
        taken = self._known | {p.candidate for p in pending if isinstance(p.candidate, Architecture)}
        ranked = iter(self._ranked(taken, rng))
        proposals = []
        for _ in range(n):
            best = None if rng.random() < self._epsilon else next((a for a in ranked if a not in taken), None)
            architecture = self._drawn(taken, rng) if best is None else best
            taken.add(architecture)
            proposals.append(Proposal(architecture, self._metrics))
        return proposals

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:  # noqa: ARG002 - draws nothing
        """Remember; fit again when it is time."""
        before = len(self._told)
        for trial, record in zip(trials, self._ranking.records(trials), strict=True):
            if isinstance(trial.proposal.candidate, Architecture):
                self._known.add(trial.proposal.candidate)
                self._told.append((trial.proposal.candidate, record))
        if len(self._told) >= self._initial and len(self._told) // self._refit > before // self._refit:
            self._fit()

    def _fit(self) -> None:
        self._rows.extend(self._features.encode([a for a, _ in self._told[len(self._rows) :]]))
        good = standing([record for _, record in self._told])
        self._model = Ridge(self._penalty).fit(np.array(self._rows), good)
        self._parents = [self._told[i][0] for i in np.argsort(-good, kind="stable")[:PARENTS]]

    def _ranked(self, taken: set[Architecture], rng: np.random.Generator) -> list[Architecture]:
        """New candidates, best first by the model; none before the first fit."""
        if self._model is None:
            return []
        drawn = [self._candidate(i, rng) for i in range(self._candidates)]
        fresh = [a for a in dict.fromkeys(drawn) if a not in taken]
        if not fresh:
            return []
        predicted = self._model.predict(self._features.encode(fresh))
        return [fresh[i] for i in np.argsort(-predicted, kind="stable")]

    def _candidate(self, i: int, rng: np.random.Generator) -> Architecture:
        if i % 2:
            return self._space.sample(rng)
        return mutate(self._space, self._parents[int(rng.random() * len(self._parents))], rng)

    def _drawn(self, taken: set[Architecture], rng: np.random.Generator) -> Architecture:
        for _ in range(ATTEMPTS):
            architecture = self._space.sample(rng)
            if architecture not in taken:
                break
        return architecture


@final
class Features:
    """Columns of an architecture for a linear model: `Encoder`'s, then pairs of successive choices.

    A choice is an active decision with its option, or with the eighth of its range in which a number lies;
    pairs are hashed into 1,024 columns, equal in every process.

    Args:
        space: of the architectures.
    """

    def __init__(self, space: Space) -> None:
        self._encoder = Encoder(space)
        self._scales = {
            leaf.name: leaf if isinstance(leaf, Real) else Real(leaf.name, leaf.low, leaf.high, leaf.log)
            for leaf in space.leaves
            if isinstance(leaf, Integer | Real)
        }
        self._column: dict[tuple[str, str], int] = {}

    def encode(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Shape (n, encoder's width + 1,024); counts in the hashed columns."""
        hashed = np.zeros((len(architectures), BUCKETS))
        for row, architecture in zip(hashed, architectures, strict=True):
            for pair in pairwise(["", *starmap(self._choice, architecture.items())]):
                row[self._bucket(pair)] += 1.0
        return np.hstack([self._encoder.encode(architectures), hashed])

    def _choice(self, name: str, value: Any) -> str:
        scale = self._scales.get(name)
        return f"{name}={value}" if scale is None else f"{name} {min(int(8 * scale.unit(value)), 7)}"

    def _bucket(self, pair: tuple[str, str]) -> int:
        if pair not in self._column:
            self._column[pair] = crc32("\n".join(pair).encode()) % BUCKETS
        return self._column[pair]
