"""What the plots of a page are drawn from, as JSON values."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.architecture import Architecture
from nas.decision import Integer, Real
from nas.front import baseline, members
from nas.objective import goals
from nas.report.curves import growth, label, logarithmic
from nas.report.markup import number
from nas.report.picture import grouped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nas.architecture import Fixed
    from nas.front import Front, Member
    from nas.objective import Objective
    from nas.proposal import Trial
    from nas.report.importance import Importance
    from nas.space import Space

LINES = 1000
"""Architectures in the parallel coordinates; of more, evenly chosen ones and the front."""
AXES = 10
"""Decisions in the parallel coordinates."""
BARS = 15
"""Decisions in a chart of importances."""
GOLDEN = 0.6180339887
"""Its multiples spread evenly over a unit: lines through one option are drawn a little apart."""
OPTIONS = 40
"""Whole numbers beyond which an axis is a scale instead of a list."""
HOVERED = 16
"""Lines of choices that a pointer shows."""

STYLES = (
    ("#0b69a3", "circle", "solid"),
    ("#d64545", "square", "dash"),
    ("#2d8653", "diamond", "dot"),
    ("#8d5aa8", "triangle-up", "dashdot"),
    ("#b7791f", "x", "longdash"),
    ("#52606d", "pentagon", "longdashdot"),
)
"""Colour, symbol and dashes of each run."""


def measured(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Member]:
    """Every architecture that has all goals, feasible or not."""
    wanted = {o.metric for o in goals(objectives)}
    return [m for m in members(trials) if isinstance(m.candidate, Architecture) and wanted <= m.values.keys()]


def metrics(groups: Sequence[Sequence[Member]], objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Goals, limits and whatever else was measured, as axes."""
    everything = [m for group in groups for m in group]
    names = list(dict.fromkeys([o.metric for o in (*goals(objectives), *objectives)]))
    names += sorted({metric for m in everything for metric in m.values} - set(names))
    return [_metric(name, everything, objectives) for name in names]


def _metric(name: str, everything: Sequence[Member], objectives: Sequence[Objective]) -> dict[str, Any]:
    objective = next((o for o in objectives if o.metric == name), None)
    values = [m.values[name] for m in everything if np.isfinite(m.values.get(name, np.nan))]
    fixed = objective.bound if objective and objective.bound and not objective.bound.relative else None
    return {
        "name": name,
        "label": label(name),
        "goal": objective.goal if objective else "none",
        "log": logarithmic(values),
        "bound": fixed.value(None) if fixed else None,
        "bound_text": f"{label(name)} {objective.bound}" if objective and objective.bound else "",
    }


def run(
    name: str,
    trials: Sequence[Trial],
    front: Front,
    style: int,
    corners: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> dict[str, Any]:
    """One run: its architectures as columns, and the growth of its front.

    ``front_of`` is 2 for members of the front, 1 for what keeps all bounds, 0 for the rest.
    """
    found = measured(trials, front.objectives)
    kept, best = {m.candidate for m in front.candidates}, {m.candidate for m in front}
    color, symbol, dash = STYLES[style % len(STYLES)]
    names = {metric for m in found for metric in m.values}
    grown = growth(trials, front.objectives, corners)
    reference = baseline(trials)
    mark = "" if reference is None else hover(reference, front.objectives)
    return {
        "name": name,
        "color": color,
        "symbol": symbol,
        "dash": dash,
        "columns": {metric: [_rounded(m.values.get(metric)) for m in found] for metric in sorted(names)},
        "text": [hover(m, front.objectives) for m in found],
        "front_of": [2 if m.candidate in best else int(m.candidate in kept) for m in found],
        "baseline": reference and {"values": dict(reference.values), "text": f"<b>baseline</b><br>{mark}"},
        "volume": {
            "trials": grown.trials,
            "seconds": [round(s, 3) for s in grown.seconds],
            "volumes": [round(v, 6) for v in grown.volumes],
            "every": grown.every,
        },
    }  # fmt: skip


def timed(runs: Sequence[dict[str, Any]]) -> str:
    """Add times in the largest unit that fits, and name it; empty where trials carry none."""
    longest = max((r["volume"]["seconds"][-1] for r in runs), default=0.0)
    if not longest:
        return ""
    units = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 0.0))
    unit, size = next((unit, size or 1.0) for unit, size in units if longest >= 2 * size)
    for r in runs:
        r["volume"]["time"] = [round(s / size, 5) for s in r["volume"]["seconds"]]
    return unit


def hover(member: Member, objectives: Sequence[Objective]) -> str:
    """What a pointer shows: trial, metrics, choices; escaped, since plots read tags in texts."""
    names = list(dict.fromkeys([o.metric for o in objectives] + sorted(member.values)))
    lines = [f"<b>trial {member.trial}</b>"]
    lines += [f"{escape(label(n))} <b>{number(member.values[n])}</b>" for n in names if n in member.values]
    return "<br>".join([*lines, *_described(member.candidate)])


def _described(candidate: Architecture | Fixed) -> list[str]:
    if not isinstance(candidate, Architecture):
        return [escape(candidate.name)]
    lines = [f"{group}: {text}" if group else text for group, text in grouped(candidate).items()]
    lines = [piece for line in lines for piece in _broken(line)]
    if len(lines) > HOVERED:
        lines = [*lines[: HOVERED - 1], f"… {len(lines) - HOVERED + 1} lines more"]
    return [escape(line) for line in lines]


def _broken(line: str, width: int = 60) -> list[str]:
    """A line cut at commas."""
    found = [""]
    for piece in line.split(", "):
        if found[-1] and len(found[-1]) + len(piece) > width:
            found.append("  " + piece)
        else:
            found[-1] += (", " if found[-1] else "") + piece
    return found


def importance(found: Sequence[Importance]) -> list[dict[str, Any]]:
    """Bars of each objective, the largest ones."""
    return [
        {
            "label": f"{label(one.objective.metric)} ({one.method}, {one.architectures:,} architectures)",
            "names": [escape(name) for name in list(one.shares)[:BARS]],
            "shares": [round(share, 5) for share in list(one.shares.values())[:BARS]],
        }
        for one in found
    ]


# --- parallel coordinates -------------------------------------------------------------------------------


def parallel(
    front: Front, trials: Sequence[Trial], space: Space, found: Sequence[Importance]
) -> dict[str, Any]:
    """Decisions and metrics of measured architectures as axes; empty where there are none.

    Decisions that never varied are left out; of more than 12, those that matter most for any goal stay.
    """
    everything = measured(trials, front.objectives)
    chosen = _thinned(everything, front)
    varied = [leaf for leaf in space.leaves if len({m.architecture.get(leaf.name) for m in everything}) > 1]
    weight: dict[str, float] = {}
    for one in found:
        for name, value in one.shares.items():
            weight[name] = max(weight.get(name, 0.0), value)
    ranked = sorted(varied, key=lambda leaf: -weight.get(leaf.name, 0.0))[:AXES]
    if not chosen or not ranked:
        return {}
    dimensions = [_decision(leaf, chosen) for leaf in varied if leaf in ranked]
    objectives = [o for o in front.objectives if all(o.metric in m.values for m in chosen)]
    dimensions += [_measure(o.metric, chosen) for o in objectives]
    first = goals(front.objectives)[0]
    return {
        "dimensions": dimensions,
        "color": [_rounded(m.values[first.metric]) for m in chosen],
        "better": first.goal,
        "lines": len(chosen),
        "of": len(everything),
        "decisions": len(ranked),
        "varied": len(varied),
    }


def _thinned(everything: Sequence[Member], front: Front) -> list[Member]:
    finite = [m for m in everything if all(np.isfinite(v) for v in m.values.values())]
    if len(finite) <= LINES:
        return finite
    best = {m.candidate for m in front}
    places = set(np.linspace(0, len(finite) - 1, LINES).astype(int).tolist())
    return [m for i, m in enumerate(finite) if i in places or m.candidate in best]


def _decision(leaf: Any, chosen: Sequence[Member]) -> dict[str, Any]:
    """An axis of options, or of numbers for a real decision; the inactive one at the bottom."""
    name = leaf.name if len(leaf.name) <= 26 else "…" + leaf.name[-25:]
    column = [m.architecture.get(leaf.name, _OFF) for m in chosen]
    if isinstance(leaf, Real) or (isinstance(leaf, Integer) and leaf.size > OPTIONS):
        low = min(v for v in column if v is not _OFF)
        values = [low if v is _OFF else v for v in column]
        if leaf.log:
            ticks = np.linspace(np.log10(min(values)), np.log10(max(values)), 5).tolist()
            return {
                "label": escape(name),
                "values": [round(float(np.log10(v)), 5) for v in values],
                "tickvals": [round(t, 5) for t in ticks],
                "ticktext": [f"{10**t:.2g}" for t in ticks],
            }
        return {"label": escape(name), "values": [_rounded(v) for v in values]}
    seen = set(column)
    options = [_OFF] * (_OFF in seen) + [v for v in leaf.values if v in seen]
    place = {v: i for i, v in enumerate(options)}
    step = -(-len(options) // 12)
    return {
        "label": escape(name),
        "values": [round(place[v] + 0.24 * (i * GOLDEN % 1 - 0.5), 3) for i, v in enumerate(column)],
        "tickvals": list(range(len(options)))[::step],
        "ticktext": [escape("off" if v is _OFF else str(v)[:18]) for v in options][::step],
        "range": [-0.2, len(options) - 0.8],
    }


def _measure(metric: str, chosen: Sequence[Member]) -> dict[str, Any]:
    values = [m.values[metric] for m in chosen]
    name = escape(label(metric))
    if not logarithmic(values):
        return {"label": name, "values": [_rounded(v) for v in values]}
    ticks = np.linspace(np.log10(min(values)), np.log10(max(values)), 5).tolist()
    return {
        "label": name,
        "values": [round(float(np.log10(v)), 5) for v in values],
        "tickvals": [round(t, 5) for t in ticks],
        "ticktext": [f"{10**t:.3g}" for t in ticks],
    }


_OFF = "\0inactive"
"""Stands for a decision that is inactive."""


def _rounded(value: float | None) -> float | None:
    """Six significant digits: what a screen shows."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def relative_bounds(front: Front, axes: Sequence[dict[str, Any]]) -> None:
    """Put the numbers in that bounds relative to the baseline come to."""
    reference: Mapping[str, float] = {} if front.baseline is None else front.baseline.values
    for axis in axes:
        o = next((o for o in front.objectives if o.metric == axis["name"]), None)
        if o and o.bound and o.bound.relative and o.metric in reference:
            axis["bound"] = o.bound.value(reference[o.metric])
