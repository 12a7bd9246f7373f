"""Plots of a run as files: the front, and the hypervolume over trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.objective import goals
from nas.report.curves import hypervolume_history, label, logarithmic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from nas.front import Front, Member
    from nas.objective import Objective
    from nas.proposal import Trial

INK, PALE, ACCENT, MARK = "#1f2933", "#9aa5b1", "#0b69a3", "#d64545"


def plot_front(front: Front, path: Path) -> Path:
    """Every feasible architecture and the front, one panel for each pair of objectives.

    Returns:
        The PNG that was written.

    Raises:
        BadInput: nothing feasible was measured.
    """
    front.best()
    dimensions = goals(front.objectives)
    if len(dimensions) == 1:
        return plot_single(front, path)
    pairs = [(i, j) for i in range(len(dimensions)) for j in range(i + 1, len(dimensions))]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(max(6.0, 5.0 * columns), 4.4 * rows), layout="constrained")
    for position, (i, j) in enumerate(pairs):
        axes = figure.add_subplot(rows, columns, position + 1)
        _panel(axes, front, dimensions[j], dimensions[i])
        if len(dimensions) == 2:
            _staircase(axes, front, dimensions[j], dimensions[i])
    return _saved(figure, path)


def plot_single(front: Front, path: Path) -> Path:
    """Values in the order of measuring, for a search with one objective.

    Raises:
        BadInput: nothing feasible was measured.
    """
    front.best()
    (objective,) = goals(front.objectives)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    values = _column(front.candidates, objective.metric)
    best = (np.maximum if objective.goal == "max" else np.minimum).accumulate(values)
    count = range(1, len(values) + 1)
    axes.plot(count, values, ".", color=PALE, label=f"feasible ({len(values)})")
    axes.step(count, best, where="post", color=ACCENT, label="best so far")
    if front.baseline is not None and objective.metric in front.baseline.values:
        axes.axhline(front.baseline.values[objective.metric], color=MARK, lw=1, ls=":", label="baseline")
    _scale(axes, "y", values)
    _bound(axes, front, objective, "y")
    _decorate(axes, "architectures in the order of measuring", label(objective.metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _saved(figure, path)


def plot_hypervolume(trials: Sequence[Trial], objectives: Sequence[Objective], path: Path) -> Path:
    """Hypervolume of the front after each trial of the search."""
    counts, volumes = hypervolume_history(trials, objectives)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.step(counts, volumes, where="post", color=ACCENT)
    axes.set_ylim(bottom=0)
    _decorate(axes, "trials", "hypervolume (share of the box of all measured)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=130)
    return path


def _panel(axes: Any, front: Front, x: Objective, y: Objective) -> None:
    axes.plot(
        _column(front.candidates, x.metric), _column(front.candidates, y.metric), ".", color=PALE,
        label=f"feasible ({len(front.candidates)})",
    )  # fmt: skip
    axes.plot(
        _column(front, x.metric), _column(front, y.metric), "o", color=ACCENT, markersize=5,
        label=f"front ({len(front)})",
    )  # fmt: skip
    if front.baseline is not None and {x.metric, y.metric} <= set(front.baseline.values):
        mark = front.baseline.values
        axes.plot(mark[x.metric], mark[y.metric], "*", color=MARK, markersize=12, label="baseline")
    for objective, side in ((x, "x"), (y, "y")):
        _scale(axes, side, _column(front.candidates, objective.metric))
        _bound(axes, front, objective, side)
    _decorate(axes, label(x.metric), label(y.metric))


def _staircase(axes: Any, front: Front, x: Objective, y: Objective) -> None:
    """The border of what the front dominates."""
    across, up = _column(front, x.metric), _column(front, y.metric)
    order = np.argsort(across, kind="stable")
    # Left of each member lies what only the member before it reaches, or what none does.
    where = "post" if x.goal == "min" else "pre"
    axes.step(np.array(across)[order], np.array(up)[order], where=where, color=ACCENT, lw=1, alpha=0.5)


def _scale(axes: Any, side: str, values: Sequence[float]) -> None:
    if logarithmic(values):
        getattr(axes, f"set_{side}scale")("log")


def _bound(axes: Any, front: Front, objective: Objective, side: str) -> None:
    """A line at the objective's bound, unless it is so far off that it would press all points together."""
    if objective.bound is None:
        return
    reference = front.baseline.values.get(objective.metric) if front.baseline else None
    value = objective.bound.value(reference)
    low, high = sorted(getattr(axes, f"get_{side}lim")())
    logarithmic = getattr(axes, f"get_{side}scale")() == "log"
    near = low / 3 <= value <= high * 3 if logarithmic else abs(value - (low + high) / 2) <= high - low
    if near:
        line = axes.axvline if side == "x" else axes.axhline
        line(value, color=MARK, lw=1, ls="--", label=f"{label(objective.metric)} {objective.bound}")


def _column(items: Iterable[Member], metric: str) -> list[float]:
    return [m.values[metric] for m in items]


def _decorate(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)


def _saved(figure: Figure, path: Path) -> Path:
    """Write a figure with one legend above its panels."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, handle)
    columns = 3 if figure.get_figwidth() < 8 else 6
    figure.legend(
        entries.values(), entries.keys(), loc="outside upper center", ncols=columns, frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=130)
    return path
