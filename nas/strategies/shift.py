"""ShiftNAS: sampling shifts to the complexities whose paths have converged least."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np

from nas.errors import must, unknown
from nas.proposal import Proposal
from nas.strategies.complexity_generator import ComplexityGenerator
from nas.strategies.path_sampler import PathSampler, share, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nas.architecture import Architecture
    from nas.evaluator import Known
    from nas.proposal import Trial
    from nas.space import Space
    from nas.task import Task

    Vector: TypeAlias = NDArray[np.float64]

FAVOURED: Mapping[str, float] = {"unconverged": 1.0, "converged": -1.0, "none": 0.0}
"""Signs of the gap in the distribution over the bins."""
SPACINGS: Mapping[str, Callable[[float, float, int], Vector]] = {
    "geometric": np.geomspace,
    "linear": np.linspace,
}
"""Edges of the bins from the least to the largest cost."""
GAPS = ("val_gradient_norm", "val_loss")
"""Metrics that say how far a path is from having converged."""


@final
class Shift(PathSampler):
    """Draws a complexity, the more often the less its paths have converged, and a path of this complexity.

    After a warm-up with uniform paths, a `ComplexityGenerator` is trained on the true costs of some
    architectures, and their range is cut into bins; those without an architecture are left out. Before the
    next step and after every ``every`` further ones, the gap of each bin is asked for on validation data, for
    one architecture in it, and the bins' probabilities become::

        p = softmax(gap / (mean gap · temperature))

    A step draws a bin from p, a cost among those known in it, and a path of this cost from the generator. A
    gap becomes the mean of itself and what one batch tells; what is not finite leaves it as it was.

    Args:
        space, task, epochs: as in `PathSampler`.
        metric: cheap metric that is the complexity.
        bins: of its range, at least 1.
        spacing: ``geometric`` bins span equal factors, ``linear`` ones equal amounts.
        warm_up: share of the steps with uniform paths, in [0, 1].
        every: steps between estimates of the gaps, at least 1.
        gap: ``val_loss``, or ``val_gradient_norm``, which is smallest in the smallest transformers, converged
            or not.
        favour: ``unconverged`` bins with large gaps; ``converged`` turns the sign of the gap around, and
            ``none`` keeps the bins uniform, to compare with.
        temperature: of the softmax, above 0.
        samples, iterations: of the `ComplexityGenerator`.
        known: the cheap metrics.

    Raises:
        BadInput: a setting is out of its range, or the metric is not cheap.

    Source: Zhang et al. 2023 (ShiftNAS), with 50 warm-up epochs and estimates every 100 steps.
    Deviations: the loss tells the gap, where the paper takes the gradient's norm, which is a setting here;
    the paper's linear steps cover a factor of two or three; over larger ones they would put
    nearly all small paths into one bin, so bins are geometric unless set. No learnable distribution: p
    follows from the gaps as above, which are averaged because single batches are noisy, and divided by their
    mean so that no unit matters. Taken literally, the paper's minimum of the expected gap favours converged
    bins, the reverse of its stated intent; that sign is ``favour: converged``.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        epochs: int = 100,
        metric: str = "macs",
        bins: int = 8,
        spacing: str = "geometric",
        warm_up: float = 0.2,
        every: int = 100,
        gap: str = "val_loss",
        favour: str = "unconverged",
        temperature: float = 1.0,
        samples: int = 512,
        iterations: int = 400,
        known: Known | None = None,
    ) -> None:
        super().__init__(space, task, epochs)
        if gap not in GAPS:
            raise unknown("gap", gap, GAPS)
        if spacing not in SPACINGS:
            raise unknown("spacing", spacing, SPACINGS)
        if favour not in FAVOURED:
            raise unknown("favour", favour, FAVOURED)
        if not 0.0 < temperature < math.inf:
            raise must("temperature", "be above 0", temperature)
        if known is None or metric not in known.metrics:
            remedy = "add the evaluator cost for macs and params"
            raise must("metric", "be a cheap metric of the search's evaluators", metric, remedy)
        self._gap, self._sign, self._temperature = gap, FAVOURED[favour], temperature
        self._edges = SPACINGS[spacing]
        self._bins, self._every = whole("bins", bins), whole("every", every)
        self._warm = round(share("warm_up", warm_up) * self.steps)
        self.rounds = self.steps + -(-(self.steps - self._warm) // self._every)
        self._known, self._metric = known, metric
        whole("samples", samples, 2)
        self.generator = ComplexityGenerator(space, self._costs, samples, whole("iterations", iterations))
        self._in_bins: list[Vector] = []
        self.gaps: Vector = np.zeros(0)
        self._heard: Vector = np.zeros(0)

    # --- the schedule -------------------------------------------------------------------------------

    def horizon(self) -> int:
        """The next estimate of the gaps, or the end of the present one."""
        _, asking = self._place(self.round)
        if self.round < self._warm or asking:
            return min(self.rounds, self._warm if self.round < self._warm else self.round + 1)
        past = (self.round - self._warm) // (self._every + 1) + 1
        return min(self.rounds, self._warm + past * (self._every + 1))

    def paths(self, at: int, rng: np.random.Generator, before: Sequence[Proposal]) -> list[Proposal]:  # noqa: ARG002
        """A path to train, or one of each bin to look at."""
        step, asking = self._place(at)
        if asking:
            fidelity = max(step, 1) / self.steps
            drawn = [self._drawn(b, rng) for b in range(len(self._in_bins))]
            return [Proposal(a, (self._gap,), fidelity=fidelity) for a in drawn]
        if at < self._warm:
            return self.train([self.space.sample(rng)], step)
        chosen = int(rng.choice(len(self._in_bins), p=self.probabilities))
        return self.train([self._drawn(chosen, rng)], step)

    def _place(self, at: int) -> tuple[int, bool]:
        """Steps before a round, and whether the round looks instead of training."""
        cycle, within = divmod(at - self._warm, self._every + 1)
        if cycle < 0:
            return at, False
        step = self._warm + cycle * self._every + max(0, within - 1)
        return step, within == 0

    # --- what is learnt -----------------------------------------------------------------------------

    @property
    def probabilities(self) -> Vector:
        """Of the bins, shape (bins with architectures,); uniform before the first estimate."""
        known = np.where(np.isfinite(self.gaps), self.gaps, np.nan)
        if not len(known) or np.isnan(known).all() or np.nanmean(known) <= 0.0:
            return np.full(len(known), 1.0 / max(1, len(known)))
        mean = float(np.nanmean(known))
        logits = self._sign * np.where(np.isnan(known), mean, known) / (mean * self._temperature)
        weights = np.exp(logits - logits.max())
        found: Vector = weights / weights.sum()
        return found

    @property
    def edges(self) -> tuple[tuple[float, float], ...]:
        """Least and largest known cost of each bin."""
        return tuple((float(costs[0]), float(costs[-1])) for costs in self._in_bins)

    def begin(self, rng: np.random.Generator) -> None:
        """Without a warm-up, train the generator at once."""
        self.advance(rng)

    def learn(self, trial: Trial) -> None:
        """Keep the gap of a bin."""
        if self._place(self.round)[1] and self._gap in trial.proposal.metrics:
            self._heard[trial.position % len(self._heard)] = trial.values.get(self._gap, math.nan)

    def advance(self, rng: np.random.Generator) -> None:
        """After the warm-up, train the generator; after an estimate, take over the gaps."""
        if self.round == self._warm < self.rounds and not self._in_bins:
            self.generator.fit(rng)
            self._cut()
            self.gaps = self._nothing()
            self._heard = self._nothing()
        elif self.round > self._warm and self._place(self.round - 1)[1]:
            known, heard = np.isfinite(self.gaps), np.isfinite(self._heard)
            mean = np.where(known, (self.gaps + self._heard) / 2.0, self._heard)
            self.gaps = np.where(heard, mean, self.gaps)
            self._heard = self._nothing()
        self._regroup()

    def state(self) -> Mapping[str, Any]:
        """The generator, once it is trained, and the gaps."""
        if not self._in_bins:
            return {}
        return {
            "generator": self.generator.state(),
            "gaps": self.gaps.copy(),
            "heard": self._heard.copy(),
        }

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        if state:
            self.generator.adopt(state["generator"])
            self._cut()
            self.gaps, self._heard = np.array(state["gaps"]), np.array(state["heard"])
        self._regroup()

    def _cut(self) -> None:
        """The known costs of each bin, bins without any left out."""
        costs = self.generator.known
        edges = self._edges(float(costs[0]), float(costs[-1]), self._bins + 1)
        owner = np.clip(np.searchsorted(edges, costs, side="right") - 1, 0, self._bins - 1)
        self._in_bins = [np.unique(costs[owner == b]) for b in range(self._bins) if (owner == b).any()]

    def _regroup(self) -> None:
        asking = self.round < self.rounds and self._place(self.round)[1]
        self.group = len(self._in_bins) if asking else 1

    def _nothing(self) -> Vector:
        return np.full(len(self._in_bins), np.nan)

    def _drawn(self, chosen: int, rng: np.random.Generator) -> Architecture:
        """A path of a cost that is known in a bin."""
        return self.generator.generate(float(rng.choice(self._in_bins[chosen])), rng)

    def _costs(self, architectures: Sequence[Architecture]) -> list[float]:
        rows = self._known.values(architectures, [self._metric])
        return [row.get(self._metric, math.nan) for row in rows]
