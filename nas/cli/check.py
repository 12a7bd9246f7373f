"""``nas check space|strategy|evaluator module:Name``: the conformance checks on an author's own plugin."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, app, print_json, say


class Checked(StrEnum):
    """What can be checked."""

    space = "space"
    strategy = "strategy"
    evaluator = "evaluator"


@app.command("check")
def check_command(
    kind: Annotated[Checked, typer.Argument(help="what it is")],
    plugin: Annotated[str, typer.Argument(help="a registered name, module:Name or ./file.py:Name")],
    json: Json = False,
) -> None:
    """Run the conformance checks; exit code 1 when one fails."""
    from nas import registry, testing

    factory = registry.reference(plugin, Path.cwd()) if ":" in plugin else registry.load(kind.value, plugin)
    checks = {
        Checked.space: lambda: testing.check_space(registry.call(factory, plugin, {}, {})),
        Checked.strategy: lambda: testing.check_strategy(factory),
        Checked.evaluator: lambda: testing.check_evaluator(factory),
    }
    results = checks[kind]()
    failed = [name for name, message in results if message is not None]
    if json:
        print_json(
            [{"check": name, "passed": message is None, "message": message} for name, message in results]
        )
    else:
        for name, message in results:
            say(f"{'ok  ' if message is None else 'FAIL'} {name}" + (f": {message}" if message else ""))
        say(f"{len(results) - len(failed)} of {len(results)} checks passed")
    if failed:
        raise typer.Exit(1)
