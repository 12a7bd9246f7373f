"""A wrapper that lets any strategy begin with what an earlier run found."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, final

from nas.architecture import Architecture
from nas.errors import BadInput
from nas.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from nas.objective import Objective
    from nas.proposal import Proposal, Trial
    from nas.space import Space


@final
class WarmStart(Strategy):
    """Tells a strategy the trials of an earlier run before it is asked for the first time.

    They are told in their batches, as failures or measurements, under numbers below 0, so that none is taken
    for a trial of the present run; where a bound is relative, right after the present run's baseline, to
    which it refers. The earlier baseline is a trial like any other. What does not fit this run is left out,
    counted by its reason: an architecture outside the space, a measurement without one of the metrics, a
    candidate that is no architecture, a partial fidelity (its state cannot be continued here), and
    confirmations. The earlier trials enter neither the history nor the front nor the budget.

    Args:
        strategy: fresh.
        trials: of the earlier run, in their order; the same ones on every resume.
        space: of the present run.
        objectives: of the present run.

    Attributes:
        fitting: number of trials that are told.
        unfit: number of trials left out, by reason.
    """

    def __init__(
        self, strategy: Strategy, trials: Sequence[Trial], space: Space, objectives: Sequence[Objective]
    ) -> None:
        self._strategy = strategy
        self.needs = strategy.needs  # type: ignore[misc]
        self.one_objective = strategy.one_objective  # type: ignore[misc]
        self.group = strategy.group
        self._relative = any(o.bound is not None and o.bound.relative for o in objectives)
        metrics = tuple(o.metric for o in objectives)
        fitted = [_fitted(trial, space, metrics) for trial in trials]
        self._trials = _renumbered([t for t in fitted if not isinstance(t, str)])
        self.fitting = len(self._trials)
        self.unfit: Mapping[str, int] = Counter(t for t in fitted if isinstance(t, str))

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """What the strategy asks."""
        return self._strategy.ask(n, rng, pending)

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Pass trials on; after the first telling, or that of the baseline, come the earlier run's."""
        self._strategy.tell(trials, rng)
        if self._relative and not any(trial.role == "baseline" for trial in trials):
            return
        earlier, self._trials = self._trials, []
        for _, batch in groupby(earlier, key=lambda trial: trial.batch):
            self._strategy.tell(list(batch), rng)

    def snapshot(self) -> Mapping[str, Any] | None:
        """The wrapped strategy's state."""
        return self._strategy.snapshot()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave."""
        self._strategy.restore(state)


def _fitted(trial: Trial, space: Space, metrics: tuple[str, ...]) -> Trial | str:
    """The trial as one of this space and for these metrics, or why it does not fit."""
    candidate, proposal = trial.proposal.candidate, trial.proposal
    if trial.role == "confirm":
        return "confirms a measurement"
    if proposal.fidelity < 1.0 or proposal.continues is not None:
        return "is of partial fidelity"
    if not trial.failed and any(metric not in trial.values for metric in metrics):
        return f"does not measure {', '.join(m for m in metrics if m not in trial.values)}"
    if not isinstance(candidate, Architecture):
        return "is no architecture"
    try:
        own = space.architecture(candidate)
    except BadInput:
        return "lies outside the space"
    if not space.feasible(own):
        return "is not feasible"
    return replace(trial, proposal=replace(proposal, candidate=own, metrics=metrics), role="search")


def _renumbered(trials: Sequence[Trial]) -> list[Trial]:
    """The same order and batches under numbers that end at -1; what is left of a batch counts as whole."""
    told: list[Trial] = []
    for _, group in groupby(trials, key=lambda trial: trial.batch):
        batch = list(group)
        first = len(told) - len(trials)
        told += [
            replace(t, number=first + i, batch=first, position=i, size=len(batch))
            for i, t in enumerate(batch)
        ]
    return told
