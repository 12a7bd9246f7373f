"""Plots of a run as files: the front, and the hypervolume over evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from nas.front import box, feasible, hypervolume, members, nondominated
from nas.objective import Objective, goals, minimised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nas.front import Front
    from nas.proposal import Trial

INK, PALE, ACCENT, MARK = "#1f2933", "#b8c2cc", "#0b69a3", "#d64545"


def plot_front(front: Front, path: Path) -> Path:
    """Every measured architecture and the front, one panel for each pair of objectives.

    Returns:
        The PNG that was written.

    Raises:
        BadInput: nothing feasible was measured.
    """
    dimensions = goals(front.objectives)
    if len(dimensions) == 1:
        return plot_single(front, path)
    pairs = [(i, j) for i in range(len(dimensions)) for j in range(i + 1, len(dimensions))]
    figure = Figure(figsize=(5.2 * len(pairs), 4.4), layout="constrained")
    for position, (i, j) in enumerate(pairs):
        axes = figure.add_subplot(1, len(pairs), position + 1)
        _panel(axes, front, dimensions[j], dimensions[i])
    figure.axes[0].legend(frameon=False, fontsize=8, loc="best")
    figure.savefig(path, dpi=130)
    return path


def plot_single(front: Front, path: Path) -> Path:
    """Values in the order of measuring, for a search with one objective."""
    (objective,) = goals(front.objectives)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    values = [m.values[objective.metric] for m in front.candidates]
    best = (np.maximum if objective.goal == "max" else np.minimum).accumulate(values)
    axes.plot(range(1, len(values) + 1), values, ".", color=PALE, label="architectures")
    axes.step(range(1, len(values) + 1), best, where="post", color=ACCENT, label="best so far")
    _decorate(axes, "architecture measured", objective.metric)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    return path


def plot_hypervolume(trials: Sequence[Trial], objectives: Sequence[Objective], path: Path) -> Path:
    """Hypervolume of the front after each full-fidelity evaluation."""
    counts, volumes = hypervolume_history(trials, objectives)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.step(counts, volumes, where="post", color=ACCENT)
    axes.set_ylim(bottom=0)
    _decorate(axes, "trials", "hypervolume (share of the box of all found)")
    figure.savefig(path, dpi=130)
    return path


def hypervolume_history(
    trials: Sequence[Trial], objectives: Sequence[Objective]
) -> tuple[list[int], list[float]]:
    """Numbers of trials at which the front changed, and its hypervolume in the box of the whole run."""
    baseline = next((dict(t.values) for t in trials if t.role == "baseline"), None)
    found = feasible([m for m in members(trials) if m.trial >= 0], objectives, baseline)
    if not found:
        return [0], [0.0]
    points = minimised([m.values for m in found], objectives)
    low, high = box(points)
    scaled = (points - low) / (high - low)
    counts, volumes = [0], [0.0]
    kept = np.empty((0, scaled.shape[1]))
    for member, point in zip(found, scaled, strict=True):
        if (kept <= point).all(axis=1).any():
            continue
        kept = np.vstack([kept, point])
        kept = kept[nondominated(kept)]
        counts.append(member.trial + 1)
        volumes.append(hypervolume(kept))
    counts.append(len(trials))
    volumes.append(volumes[-1])
    return counts, volumes


def _panel(axes: Any, front: Front, x: Objective, y: Objective) -> None:
    def column(items: Any, metric: str) -> list[float]:
        return [m.values[metric] for m in items]

    axes.plot(
        column(front.candidates, x.metric), column(front.candidates, y.metric), ".", color=PALE,
        label=f"measured ({len(front.candidates)})",
    )  # fmt: skip
    axes.plot(
        column(front, x.metric), column(front, y.metric), "o", color=ACCENT, markersize=5,
        label=f"front ({len(front)})",
    )  # fmt: skip
    if front.baseline is not None and {x.metric, y.metric} <= set(front.baseline.values):
        mark = front.baseline.values
        axes.plot(mark[x.metric], mark[y.metric], "*", color=MARK, markersize=12, label="baseline")
    for objective, line in ((x, axes.axvline), (y, axes.axhline)):
        if objective.bound is not None:
            reference = front.baseline.values.get(objective.metric) if front.baseline else None
            line(objective.bound.value(reference), color=MARK, linewidth=0.8, linestyle="--")
    values = column(front.candidates, x.metric)
    if values and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_xscale("log")
    _decorate(axes, x.metric, y.metric)


def _decorate(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
