"""The front: the architectures that nothing measured beats in every objective."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.architecture import Architecture, Fixed, Mixture
from nas.errors import must, unknown_metric
from nas.objective import Objective, goals, minimised, violations
from nas.proposal import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nas.proposal import Trial


@final
@dataclass(frozen=True, slots=True)
class Member:
    """An architecture and what is known of it at full fidelity.

    Attributes:
        candidate: the architecture, or the fixed baseline module.
        values: each metric's mean over replicates, of the latest own measurement of each.
        trial: number of the trial that measured it first.
        weights: file of the trained weights, of the latest own training.
        borrowed: metrics known only from an architecture that computes the same function.
        confirmed: metrics measured again after the search.
    """

    candidate: Architecture | Fixed
    values: Mapping[str, float]
    trial: int
    weights: Path | None
    borrowed: frozenset[str]
    confirmed: frozenset[str]

    @property
    def architecture(self) -> Architecture:
        """The architecture.

        Raises:
            BadInput: it is the fixed baseline module.
        """
        if isinstance(self.candidate, Fixed):
            raise must("a member", "be an architecture of the space", self.candidate)
        return self.candidate


@final
class Front(Sequence[Member]):
    """Non-dominated feasible members, ordered by the first objective, best first.

    Only finite values at full fidelity count, and of members with equal objectives the earlier one.

    Args:
        trials: in the order of appending; mixtures are passed over.
        objectives: goals span the front, bounds decide on feasibility.
        exporter: writes members as files; given by the run that holds their weights.
        bands: of metrics that are guesses, the factor within which their values are to be taken.
        predicted: metrics that a model told instead of the clock.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        objectives: Sequence[Objective],
        exporter: Callable[[Sequence[Member], Path, Sequence[str]], list[Path]] | None = None,
        bands: Mapping[str, float] | None = None,
        predicted: Collection[str] = (),
    ) -> None:
        self.objectives = tuple(objectives)
        self.bands = dict(bands or {})
        self.predicted = tuple(o.metric for o in self.objectives if o.metric in predicted)
        self.baseline: Member | None = baseline(trials)
        everything = [m for m in members(trials) if isinstance(m.candidate, Architecture)]
        reference = None if self.baseline is None else self.baseline.values
        self.candidates = feasible(everything, self.objectives, reference)
        points = minimised([m.values for m in self.candidates], self.objectives)
        kept = nondominated(points)
        order = sorted(kept, key=lambda i: (*points[i].tolist(), self.candidates[i].trial))
        self._members = tuple(self.candidates[i] for i in order)
        self._all_points = points
        self.points: NDArray[np.float64] = points[order]
        self._exporter = exporter

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: Any) -> Any:
        return self._members[index]

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def __repr__(self) -> str:
        return f"Front({len(self)} members, {', '.join(map(str, self.objectives))})"

    def best(self, metric: str | None = None) -> Member:
        """The member that is best in one objective, the first one by default.

        Raises:
            BadInput: the front is empty or the metric is not an objective.
        """
        names = [o.metric for o in goals(self.objectives)]
        if metric is not None and metric not in names:
            raise unknown_metric(metric, names)
        self._not_empty()
        column = 0 if metric is None else names.index(metric)
        return self._members[int(np.argmin(self.points[:, column]))]

    def knee(self) -> Member:
        """The member nearest to the ideal point, objectives scaled to [0, 1] over the front.

        Raises:
            BadInput: the front is empty.
        """
        self._not_empty()
        span = np.ptp(self.points, axis=0)
        scaled = (self.points - self.points.min(axis=0)) / np.where(span > 0, span, 1.0)
        return self._members[int(np.argmin((scaled**2).sum(axis=1)))]

    def hypervolume(self) -> float:
        """Share in [0, 1] of the box between the best and the worst feasible values that the front dominates.

        The box spans all feasible members ever measured, so the figure compares moments of one run, not
        different runs.
        """
        if not self:
            return 0.0
        low, high = box(self._all_points)
        return hypervolume((self.points - low) / (high - low))

    def export(self, folder: str | Path, formats: Sequence[str] = ("json",)) -> list[Path]:
        """Write every member in these formats, with exactly the weights that were scored.

        Returns:
            What was written.

        Raises:
            BadInput: the front was not made by a run that keeps weights.
        """
        if self._exporter is None:
            raise must("the front", "come from a run with a task to be exported", self)
        return self._exporter(self._members, Path(folder), formats)

    def to_json(self) -> dict[str, Any]:
        """Objectives, members and baseline as JSON values."""
        return {
            "objectives": [o.to_json() for o in self.objectives],
            "hypervolume": self.hypervolume(),
            "bands": self.bands,
            "predicted": list(self.predicted),
            "baseline": None if self.baseline is None else _json(self.baseline),
            "members": [_json(m) for m in self],
        }

    def _not_empty(self) -> None:
        if not self._members:
            raise must("the front", "have a member", "none", "no feasible architecture was measured")


def _json(member: Member) -> dict[str, Any]:
    c = member.candidate
    return {
        "architecture": c.to_json() if isinstance(c, Architecture) else {"fixed": c.name},
        "key": c.key,
        "values": dict(member.values),
        "trial": member.trial,
        "borrowed": sorted(member.borrowed),
        "confirmed": sorted(member.confirmed),
        "weights": member.weights.name if member.weights else None,
    }


def members(trials: Sequence[Trial]) -> list[Member]:
    """What is known of each architecture at full fidelity, in the order of their first trials."""
    found: dict[Architecture | Fixed, _Collected] = {}
    for trial in trials:
        candidate = trial.proposal.candidate
        if not isinstance(candidate, Mixture) and trial.values and trial.proposal.fidelity == 1.0:
            collected = found.get(candidate)
            if collected is None:
                collected = found[candidate] = _Collected(candidate, trial.number)
            collected.add(trial)
    return [c.member() for c in found.values()]


def baseline(trials: Sequence[Trial]) -> Member | None:
    """The baseline as a member; None where the run has none or it could not be measured."""
    reference = next((t.proposal.candidate for t in trials if t.role == "baseline"), None)
    if reference is None:
        return None
    return next(iter(members([t for t in trials if t.proposal.candidate == reference])), None)


def feasible(
    candidates: Sequence[Member], objectives: Sequence[Objective], reference: Mapping[str, float] | None
) -> list[Member]:
    """Members with finite objectives that keep every bound."""
    if any(o.bound is not None and o.bound.relative for o in objectives) and reference is None:
        return []
    values = [m.values for m in candidates]
    finite = np.isfinite(minimised(values, objectives)).all(axis=1)
    allowed = violations(values, objectives, reference) == 0
    return [m for m, ok in zip(candidates, finite & allowed, strict=True) if ok]


def nondominated(points: NDArray[np.float64]) -> list[int]:
    """Positions of rows that no other row dominates or, earlier, equals.

    Args:
        points: shape (n, m), to be minimised, finite.

    Returns:
        Ascending positions. One pass over an archive, O(n · front): a front is small beside its trials.
    """
    kept = np.empty((0, points.shape[1]))
    where: list[int] = []
    for i, point in enumerate(points):
        if (kept <= point).all(axis=1).any():
            continue
        stays = ~(point <= kept).all(axis=1)
        where = [*(w for w, s in zip(where, stays, strict=True) if s), i]
        kept = np.vstack([kept[stays], point])
    return where


def box(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best and worst corner of shape (m,), a tenth of the span beyond the worst; never of zero width."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return low, high + 0.1 * span


def hypervolume(points: NDArray[np.float64]) -> float:
    """Volume in [0, 1] that rows of shape (n, m), in the unit box, dominate up to the corner of ones."""
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(1.0 - points.min())
    from pymoo.indicators.hv import HV

    return float(HV(ref_point=np.ones(points.shape[1]))(points))


class _Collected:
    """The trials of one architecture, own measurements before borrowed ones, later before earlier."""

    def __init__(self, candidate: Architecture | Fixed, number: int) -> None:
        self.candidate = candidate
        self.number = number
        self.values: dict[str, dict[int, float]] = {}
        self.own: set[str] = set()
        self.confirmed: set[str] = set()
        self.weights: Path | None = None

    def add(self, trial: Trial) -> None:
        outcome = trial.outcome
        if not isinstance(outcome, Measurement):
            return
        for metric, value in outcome.values.items():
            if metric in outcome.borrowed:
                if metric in self.values:
                    continue
            elif metric not in self.own:
                self.own.add(metric)
                self.values.pop(metric, None)
            self.values.setdefault(metric, {})[trial.proposal.replicate] = value
        if trial.role == "confirm":
            self.confirmed.update(outcome.values)
        self.weights = outcome.weights or self.weights

    def member(self) -> Member:
        means = {metric: sum(by.values()) / len(by) for metric, by in self.values.items()}
        return Member(
            self.candidate,
            means,
            self.number,
            self.weights,
            frozenset(means) - self.own,
            frozenset(self.confirmed),
        )
