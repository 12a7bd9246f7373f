"""Fronts as tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.architecture import Architecture, Fixed
from nas.cli.app import number, say, say_table
from nas.objective import goals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.front import Front, Member
    from nas.proposal import Proposal


def show_front(front: Front, extra: Sequence[Mapping[str, float]] = (), label: str = "") -> None:
    """Print a front as a table, with further columns where there are some."""
    if not front:
        say("The front is empty: nothing feasible was measured.")
        return
    metrics = [o.metric for o in front.objectives]
    more = sorted({m for row in extra for m in row})
    rows = [["baseline", *_cells(front.baseline, metrics), *("" for _ in more)]] if front.baseline else []
    for i, member in enumerate(front):
        cells = [number(extra[i][m]) if m in extra[i] else "" for m in more]
        rows.append([str(member.trial), *_cells(member, metrics), *cells])
    say_table(["trial", *metrics, *(f"{label} {m}" for m in more)], rows)
    if any(m.borrowed & set(metrics) for m in front):
        say("* measured on an architecture that computes the same function")
    if front.predicted:
        say(f"predicted, not measured: {', '.join(front.predicted)}")
    for metric, factor in front.bands.items():
        say(f"{metric} comes from the target's datasheet: within a factor of {factor:g}")


def show_architectures(front: Front) -> None:
    """Print the choices of each member, a line each."""
    for member in front:
        say(f"trial {member.trial}: {describe(member)}")


def show_best(front: Front) -> None:
    """Say the best of each objective within the bounds."""
    bounds = ", ".join(f"{o.metric} {o.bound}" for o in front.objectives if o.bound is not None)
    within = f" within {bounds}" if bounds else ""
    for o in goals(front.objectives):
        member = front.best(o.metric)
        word = "highest" if o.goal == "max" else "lowest"
        rest = ", ".join(
            f"{other.metric} {number(member.values[other.metric])}"
            for other in front.objectives
            if other.metric != o.metric and other.metric in member.values
        )
        found = number(member.values[o.metric])
        say(f"{word} {o.metric}{within}: {found}, trial {member.trial}" + (f" ({rest})" if rest else ""))


def describe(member: Member | Proposal) -> str:
    """The choices of a candidate in one line."""
    c = member.candidate
    if isinstance(c, Architecture):
        return " ".join(f"{name}={value}" for name, value in c.items())
    return c.name if isinstance(c, Fixed) else "a mixture"


def _cells(member: Member, metrics: Sequence[str]) -> list[str]:
    return [
        number(member.values.get(m, float("nan"))) + ("*" if m in member.borrowed else "") for m in metrics
    ]
