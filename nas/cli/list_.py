"""``nas list KIND``: what there is, read from the sources so that nothing heavy is loaded."""

from __future__ import annotations

import ast
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import Json, app, number, print_json, say, say_table

if TYPE_CHECKING:
    from nas.target import Target


class Kind(StrEnum):
    """What can be listed."""

    spaces = "spaces"
    strategies = "strategies"
    evaluators = "evaluators"
    tasks = "tasks"
    targets = "targets"
    exporters = "exporters"
    pairs = "pairs"


@app.command("list")
def list_command(
    kind: Annotated[Kind, typer.Argument(help="what to list")] = Kind.spaces, json: Json = False
) -> None:
    """List plugins, or which strategies can search which spaces."""
    if kind is Kind.pairs:
        _pairs(as_json=json)
        return
    from nas import registry

    if kind is Kind.targets:
        _targets(as_json=json)
        return
    singular = {"strategies": "strategy"}.get(kind.value, kind.value[:-1])
    found = {name: first_line(singular, name) for name in registry.names(singular)}
    if json:
        print_json(found)
        return
    width = max(map(len, found), default=0)
    for name, line in found.items():
        say(f"{name:<{width}}  {line}")


def first_line(kind: str, name: str) -> str:
    """First line of a built-in plugin's docstring, without importing it; empty for others."""
    import importlib

    from nas import registry

    place = importlib.import_module(registry.KINDS[kind]).BUILTIN.get(name)
    if place is None:
        return "(registered outside)"
    module, _, attribute = place.partition(":")
    path = Path(registry.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not path.is_file():
        return ""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _targets(*, as_json: bool) -> None:
    """The machines, with what is known of them and where it comes from."""
    from dataclasses import asdict

    from nas import registry

    found = {name: registry.create("target", name) for name in registry.names("target")}
    if as_json:
        print_json({name: {**asdict(t), "dtypes": t.dtypes} for name, t in found.items()})
        return
    header = ["target", "provenance", "dtypes", "peak Tflop/s", "GB/s", "limits"]
    rows = [[name, t.provenance, " ".join(t.dtypes), *_figures(t)] for name, t in found.items()]
    say_table(header, rows)
    say("peak of each dtype, in their order; ? = derived or not confirmed. Sources: nas list targets --json")


def _figures(target: Target) -> list[str]:
    """Peak rates, bandwidth and limits in words."""
    unsure = set(target.unsure)

    def shown(field: str, value: float, *also: str) -> str:
        return number(value) + ("?" if unsure & {field, *also} else "")

    peaks = " ".join(shown(d, rate / 1e12, "peak_flops") for d, rate in target.peak_flops.items())
    bandwidth = shown("bandwidth", target.bandwidth / 1e9) if target.bandwidth else ""
    limits = ", ".join(f"{m} <= {shown('limits', most)}" for m, most in target.limits.items())
    return [peaks, bandwidth, limits]


def _pairs(*, as_json: bool) -> None:
    """The matrix of strategies and spaces, for one objective and for several."""
    from nas.pairs import pairs

    rows = pairs()
    if as_json:
        print_json(rows)
        return
    spaces = list(dict.fromkeys(row["space"] for row in rows))
    cells = {(row["strategy"], row["space"]): row["works"] for row in rows}
    strategies = dict.fromkeys(row["strategy"] for row in rows)
    say_table(["strategy", *spaces], [[s, *(cells[s, space] for space in spaces)] for s in strategies])
    say("one, several: only for one objective, only for several")
    for reason in dict.fromkeys(row["reason"] for row in rows if row["reason"]):
        say(f"  {reason}")
