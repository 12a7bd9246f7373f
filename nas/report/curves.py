"""How a front grew over a run, and how its metrics are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from nas.architecture import Architecture
from nas.front import box, feasible, hypervolume, members
from nas.objective import Objective, minimised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nas.front import Member
    from nas.proposal import Trial

UNITS: Mapping[str, str] = {"ms": "ms", "mj": "mJ", "bytes": "bytes", "mb": "MB", "seconds": "s"}
"""What the last part of a metric's name says of its unit."""
LOG_SPAN = 20.0
"""Positive values that differ by more than this factor are drawn on a log axis."""
DRAWN = 600
"""Steps of a curve that are computed; of more, evenly chosen ones."""


@final
@dataclass(frozen=True)
class Growth:
    """The steps in which a front grew, from (0, 0, 0) to the last trial.

    Attributes:
        trials: search trials until each step.
        seconds: from the start of the run to each step; all 0 where trials carry no times.
        volumes: hypervolume, in [0, 1].
        every: steps that one drawn step stands for; 1 where all are there.
    """

    trials: list[int]
    seconds: list[float]
    volumes: list[float]
    every: int = 1


def growth(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    corners: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Growth:
    """How the front grew.

    Each architecture counts with what is known of it at the end. With several places, where trials end in
    another order than they were asked for in, a step stands at the latest trial and time before it.

    Args:
        trials: in the order of appending.
        objectives: of the run.
        corners: best and worst, of shape (m,), to be minimised; by default of all that is feasible here.
    """
    found = candidates(trials, objectives)
    place, seconds = _clock(trials)
    last = (sum(t.role == "search" for t in trials), max(seconds.values(), default=0.0))
    if not found:
        return Growth([0, last[0]], [0.0, last[1]], [0.0, 0.0])
    points = minimised([m.values for m in found], objectives)
    low, high = box(points) if corners is None else corners
    scaled = (points - low) / (high - low)
    steps: list[tuple[int, float, NDArray[np.float64]]] = []
    kept = np.empty((0, scaled.shape[1]))
    for member, point in zip(found, scaled, strict=True):
        if (kept <= point).all(axis=1).any():
            continue
        kept = np.vstack([kept[~(point <= kept).all(axis=1)], point])
        steps.append((place.get(member.trial, 0), seconds.get(member.trial, 0.0), kept))
    every = -(-len(steps) // DRAWN)
    # Counted from the end, so that the last step is always there.
    drawn = steps[::-1][::every][::-1]
    volumes = [hypervolume(kept) for _, _, kept in drawn]
    at = np.maximum.accumulate([0, *(step[0] for step in drawn), last[0]])
    when = np.maximum.accumulate([0.0, *(step[1] for step in drawn), last[1]])
    return Growth(at.tolist(), when.tolist(), [0.0, *volumes, volumes[-1]], every)


def hypervolume_history(
    trials: Sequence[Trial], objectives: Sequence[Objective]
) -> tuple[list[int], list[float]]:
    """Numbers of search trials at which the front grew, and its hypervolume in the box of the whole run.

    The first number is 0, the last one that of all search trials.
    """
    found = growth(trials, objectives)
    return found.trials, found.volumes


def candidates(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Member]:
    """Every feasible architecture, in the order of their first trials."""
    baseline = next((dict(t.values) for t in trials if t.role == "baseline"), None)
    everything = [m for m in members(trials) if isinstance(m.candidate, Architecture)]
    return feasible(everything, objectives, baseline)


def label(metric: str) -> str:
    """A metric's name with its unit, as an axis shows it."""
    name, _, last = metric.rpartition("_")
    return f"{name.replace('_', ' ')} ({UNITS[last]})" if name and last in UNITS else metric.replace("_", " ")


def logarithmic(values: Sequence[float]) -> bool:
    """Whether values span orders of magnitude; never so for fractions such as accuracy."""
    return bool(values) and min(values) > 0 and max(values) > max(1.0, LOG_SPAN * min(values))


def _clock(trials: Sequence[Trial]) -> tuple[dict[int, int], dict[int, float]]:
    """By number of a trial: how many search trials were asked for with it, and seconds until it ended."""
    searched = sorted(t.number for t in trials if t.role == "search")
    start = min((t.queued or t.started for t in trials), default=0.0)
    return (
        {number: i + 1 for i, number in enumerate(searched)},
        {t.number: max(0.0, t.ended - start) for t in trials if t.role != "confirm"},
    )
