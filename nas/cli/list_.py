"""``nas list KIND``: what there is, read from the sources so that nothing heavy is loaded."""

from __future__ import annotations

import ast
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, app, print_json, say, say_table


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
