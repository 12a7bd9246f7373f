"""What all path samplers share: a schedule of optimiser steps, and a place in it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, final

from nas.errors import must
from nas.proposal import Proposal
from nas.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from nas.architecture import Architecture
    from nas.proposal import Trial
    from nas.space import Space
    from nas.task import Task


class PathSampler(Strategy):
    """Proposes the paths of a supernet that the next optimiser step trains, until its schedule ends.

    The schedule consists of rounds, each answered by one group of proposals. A round is a step, except
    where a sampler says otherwise. `Proposal.fidelity` is the share of all steps that is done with the
    proposed one, in (0, 1], by which the evaluator knows the schedule.

    The trials of a training are tallied, not stored, so `snapshot` holds all that a sampler knows.

    Args:
        space: whose architectures are the paths.
        task: whose training samples and batch size tell the steps of an epoch.
        epochs: passes over the training samples, at least 1.

    Attributes:
        steps_per_epoch: whole batches of the training samples, at least 1.
        steps: of the whole schedule.
        rounds: groups of proposals of the whole schedule.
        round: groups that were told.

    Raises:
        BadInput: ``epochs`` is out of its range.
    """

    needs = frozenset({"decisions", "supernet"})

    def __init__(self, space: Space, task: Task, epochs: int) -> None:
        self.space = space
        self.steps_per_epoch = max(1, task.count("train") // task.batch_size)
        self.steps = self.rounds = whole("epochs", epochs) * self.steps_per_epoch
        self.round = 0
        self._part = 0  # trials told of the round after those

    # --- what a sampler is ------------------------------------------------------------------------

    @abstractmethod
    def paths(self, at: int, rng: np.random.Generator, before: Sequence[Proposal]) -> list[Proposal]:
        """The group of a round; changes nothing.

        Args:
            at: its number, from 0.
            rng: the only source of chance.
            before: proposals that are not told yet, those of rounds just asked for among them.
        """

    def horizon(self) -> int:
        """The round before which all can be asked for with what was told; at most `rounds`."""
        return self.rounds

    def begin(self, rng: np.random.Generator) -> None:
        """Called once before anything is asked."""

    def learn(self, trial: Trial) -> None:
        """Take note of one trial of the present round."""

    def advance(self, rng: np.random.Generator) -> None:
        """Called when `round` has grown by one."""

    def state(self) -> Mapping[str, Any]:
        """What was learnt, as arrays and JSON values."""
        return {}

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, when `round` is already that of the state."""

    # --- final ------------------------------------------------------------------------------------

    @final
    def train(
        self,
        architectures: Sequence[Architecture],
        step: int,
        metrics: tuple[str, ...] = ("train_loss",),
        samples: tuple[int, ...] | None = None,
    ) -> list[Proposal]:
        """The proposals of an optimiser step on these paths."""
        fidelity = (step + 1) / self.steps
        return [Proposal(a, metrics, fidelity=fidelity, samples=samples) for a in architectures]

    @final
    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """The groups of the next rounds, as many as ``n`` holds; none at the end of the schedule."""
        first = self.round + (self._part + len(pending)) // self.group
        asked: list[Proposal] = []
        for at in range(first, min(first + n // self.group, self.horizon())):
            asked += self.paths(at, rng, [*pending, *asked])
        return asked

    @final
    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Learn from each trial, and go on to the next round with the last of a group.

        A failed step counts as a step: the schedule does not wait for it.
        """
        if not trials:
            self.begin(rng)
        for trial in trials:
            if trial.role != "search":
                continue
            self.learn(trial)
            self._part += 1
            if self._part >= self.group:
                self.round, self._part = self.round + 1, 0
                self.advance(rng)

    @final
    def snapshot(self) -> Mapping[str, Any]:
        """The place in the schedule and what was learnt."""
        return {"round": self.round, "part": self._part, "learnt": self.state()}

    @final
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave."""
        self.round, self._part = int(state["round"]), int(state["part"])
        self.adopt(state["learnt"])


def whole(name: str, value: int, low: int = 1) -> int:
    """A whole number that is at least ``low``.

    Raises:
        BadInput: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise must(name, f"be a whole number of at least {low}", value)
    return value


def share(name: str, value: float) -> float:
    """A number in [0, 1].

    Raises:
        BadInput: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise must(name, "lie in [0, 1]", value)
    return float(value)
