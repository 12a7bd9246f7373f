"""Fronts as tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from nas.architecture import Architecture
from nas.cli.app import console, number, say
from nas.objective import goals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.front import Front, Member


def show_front(front: Front, extra: Sequence[Mapping[str, float]] = (), label: str = "") -> None:
    """Print a front as a table, with further columns where there are some."""
    if not front:
        say("The front is empty: nothing feasible was measured.")
        return
    metrics = [o.metric for o in front.objectives]
    more = sorted({m for row in extra for m in row})
    table = Table(box=None, pad_edge=False)
    table.add_column("model", justify="right")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for metric in more:
        table.add_column(f"{label} {metric}", justify="right")
    if front.baseline is not None:
        table.add_row("baseline", *_cells(front.baseline, metrics))
    for i, member in enumerate(front):
        row = extra[i] if extra else {}
        cells = [number(row[m]) if m in row else "" for m in more]
        table.add_row(str(i), *_cells(member, metrics), *cells)
    console.print(table)


def show_architectures(front: Front) -> None:
    """Print the choices of each member, a paragraph each."""
    for i, member in enumerate(front):
        say(f"{i:>5}  trial {member.trial}: {describe(member)}")


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
        say(f"{word} {o.metric}{within}: {number(member.values[o.metric])}" + (f" ({rest})" if rest else ""))


def describe(member: Member) -> str:
    """The choices of a member in one line."""
    c = member.candidate
    if not isinstance(c, Architecture):
        return c.name
    return " ".join(f"{name}={value}" for name, value in c.items())


def _cells(member: Member, metrics: Sequence[str]) -> list[str]:
    return [
        number(member.values.get(m, float("nan"))) + ("*" if m in member.borrowed else "") for m in metrics
    ]
