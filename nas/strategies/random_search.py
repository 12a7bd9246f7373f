"""Random search: the baseline that every other strategy has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nas.proposal import Proposal, Trial
from nas.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from nas.objective import Objective
    from nas.space import Space


@final
class RandomSearch(Strategy):
    """Feasible architectures, drawn independently; learns nothing.

    Args:
        space: what is drawn from.
        objectives: every metric is asked for.
    """

    def __init__(self, space: Space, objectives: Sequence[Objective]) -> None:
        self._space = space
        self._metrics = tuple(o.metric for o in objectives)

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:  # noqa: ARG002 - draws are independent
        """Exactly ``n`` proposals."""
        return [Proposal(self._space.sample(rng), self._metrics) for _ in range(n)]

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Nothing is learnt."""
