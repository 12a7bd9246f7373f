"""PA&DA: paths and training samples are drawn by the norms of their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np

from nas.architecture import Architecture
from nas.decision import Categorical
from nas.proposal import Measurement
from nas.space import ATTEMPTS
from nas.strategies.path_sampler import PathSampler, share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nas.decision import Decision, Value
    from nas.proposal import Proposal, Trial
    from nas.space import Space
    from nas.task import Task

    Vector: TypeAlias = NDArray[np.float64]


@final
class Pada(PathSampler):
    """Draws options and samples with probabilities that turn from uniform to the norms of their gradients.

    All decisions with the same options share one vector p over them, such as all edges of a cell. A step
    tells, for each option it used, the norms of the gradients of the option's weights, summed over where it
    was used and divided by the number of decisions that chose it; the option's running norm becomes the mean
    of itself and that number (the first number as it is). At the end of an epoch, with smoothing
    t = ``path_smoothing`` · epochs done / epochs::

        p = t · running / sum(running) + (1 - t) / options

    The next epoch's samples are drawn with replacement from q, which is made likewise of the norms
    ``|softmax(logits) - onehot(target)|`` seen in the epoch that ended (repeated visits averaged pairwise)
    with ``data_smoothing``. The loss is not corrected for either.

    Options without weights have a norm of 0, and so have samples that an epoch did not draw: their
    probabilities go towards 0 with the smoothing's rise to 1, as published. The last epoch is drawn
    at t = ``smoothing`` · (epochs - 1) / epochs, so none is exactly 0 in training. Where no norm is known, as
    of decisions that no layer's choice obeys, p stays uniform; numbers beyond categorical options are drawn
    uniformly.

    Args:
        space, task, epochs: as in `PathSampler`.
        path_smoothing: weight of the norms in p at the end, in [0, 1].
        data_smoothing: weight of the norms in q at the end, in [0, 1]; at 0 samples are drawn uniformly,
            with replacement.

    Raises:
        BadInput: a setting is out of its range.

    Source: Lu et al. 2023 (PA&DA), Algorithm 1 and the released code, which has no correction of the loss.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        epochs: int = 250,
        path_smoothing: float = 1.0,
        data_smoothing: float = 1.0,
    ) -> None:
        super().__init__(space, task, epochs)
        self._epochs = epochs
        self._smoothing = share("path_smoothing", path_smoothing), share("data_smoothing", data_smoothing)
        self._batch, count = task.batch_size, task.count("train")
        kinds = dict.fromkeys(leaf.options for leaf in space.leaves if isinstance(leaf, Categorical))
        self._kinds = {options: i for i, options in enumerate(kinds)}
        self.p = [uniform(len(options)) for options in kinds]
        self._running = [np.full(len(options), np.nan) for options in kinds]
        self.q = uniform(count)
        self._norms = np.full(count, np.nan)
        self._order = np.zeros(0, np.int64)

    def probabilities(self, name: str) -> Vector:
        """The present p of a categorical decision, shape (n_options,)."""
        leaf = self.space.by_name[name]
        assert isinstance(leaf, Categorical)
        return self.p[self._kinds[leaf.options]]

    def horizon(self) -> int:
        """The end of the present epoch."""
        return min(self.rounds, (self.round // self.steps_per_epoch + 1) * self.steps_per_epoch)

    def begin(self, rng: np.random.Generator) -> None:
        """Draw the first epoch's samples."""
        self._order = rng.choice(len(self.q), len(self.q), p=self.q)

    def paths(self, at: int, rng: np.random.Generator, before: Sequence[Proposal]) -> list[Proposal]:  # noqa: ARG002
        """One path by p, on the next batch of the epoch's samples."""
        start = at % self.steps_per_epoch * self._batch
        samples = tuple(self._order[start : start + self._batch].tolist())
        return self.train([self._drawn(rng)], at, ("train_loss", "gradient_norm"), samples)

    def learn(self, trial: Trial) -> None:
        """Average the norms that the step found with those that are known."""
        outcome, candidate = trial.outcome, trial.proposal.candidate
        if not isinstance(outcome, Measurement) or not isinstance(candidate, Architecture):
            return
        for (kind, option), norm in self._of_options(candidate, outcome.vectors).items():
            self._running[kind][option] = pairwise_mean(self._running[kind][option], norm)
        for sample, norm in zip(
            trial.proposal.samples or (), outcome.vectors.get("sample_norm", ()), strict=False
        ):
            if np.isfinite(norm):
                self._norms[sample] = pairwise_mean(self._norms[sample], float(norm))

    def advance(self, rng: np.random.Generator) -> None:
        """At the end of an epoch, new probabilities, and the samples of the next."""
        epoch, rest = divmod(self.round, self.steps_per_epoch)
        if rest:
            return
        of_paths, of_data = (s * epoch / self._epochs for s in self._smoothing)
        self.p = [smoothed(running, of_paths) for running in self._running]
        self.q = smoothed(self._norms, of_data)
        self._norms = np.full(len(self.q), np.nan)
        self._order = rng.choice(len(self.q), len(self.q), p=self.q)

    def state(self) -> Mapping[str, Any]:
        """Probabilities, norms, and the epoch's samples."""
        return {
            "p": [p.copy() for p in self.p],
            "running": [running.copy() for running in self._running],
            "q": self.q.copy(),
            "norms": self._norms.copy(),
            "order": self._order.copy(),
        }

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.p = [np.array(p) for p in state["p"]]
        self._running = [np.array(running) for running in state["running"]]
        self.q, self._norms = np.array(state["q"]), np.array(state["norms"])
        self._order = np.array(state["order"], np.int64)

    def _drawn(self, rng: np.random.Generator) -> Architecture:
        """A feasible path; a uniform one where 10,000 were not."""
        for _ in range(ATTEMPTS):
            choices = {leaf.name: self._value(leaf, rng) for leaf in self.space.leaves}
            architecture = self.space.architecture(choices)
            if self.space.feasible(architecture):
                return architecture
        return self.space.sample(rng)

    def _value(self, leaf: Decision, rng: np.random.Generator) -> Value:
        if not isinstance(leaf, Categorical):
            return leaf.sample(rng)
        return leaf.options[int(rng.choice(len(leaf.options), p=self.p[self._kinds[leaf.options]]))]

    def _of_options(
        self, architecture: Architecture, vectors: Mapping[str, Any]
    ) -> dict[tuple[int, int], float]:
        """The norms of a path by kind of decision and option, a mean over the decisions that chose it."""
        found: dict[tuple[int, int], list[float]] = {}
        for name, value in architecture.items():
            leaf, norm = self.space.by_name[name], vectors.get(f"gradient_norm.{name}")
            if isinstance(leaf, Categorical) and norm is not None and np.isfinite(norm).all():
                place = self._kinds[leaf.options], leaf.index[value]
                found.setdefault(place, []).append(float(np.sum(norm)))
        return {place: sum(norms) / len(norms) for place, norms in found.items()}


def uniform(n: int) -> Vector:
    """Equal probabilities, shape (n,)."""
    return np.full(n, 1.0 / n)


def pairwise_mean(known: float, new: float) -> float:
    """The mean of what is known and what is new; the new alone where nothing is known (NaN)."""
    return new if np.isnan(known) else (known + new) / 2.0


def smoothed(norms: Vector, smoothing: float) -> Vector:
    """Probabilities between the uniform ones and those in proportion to the norms.

    Args:
        norms: shape (n,), at least 0; NaN counts as 0. Where all are 0 the result is uniform.
        smoothing: weight of the norms, in [0, 1].
    """
    known = np.nan_to_num(norms)
    total = known.sum()
    if total <= 0.0:
        return uniform(len(norms))
    mixed = smoothing * known / total + (1.0 - smoothing) / len(norms)
    found: Vector = mixed / mixed.sum()
    return found
