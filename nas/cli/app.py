"""The application that every command registers with, and how it speaks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nas.database import hidden

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""That a command cannot be read as it was typed; typer does not show it under a name of its own."""

app = typer.Typer(
    name="nas",
    help="Neural architecture and hyperparameter search for your task on your machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

RunFolder = Annotated[Path | None, typer.Argument(help="folder of the run", metavar="RUN")]
Storage = Annotated[str | None, typer.Option(help="URL of the database that keeps the run", metavar="URL")]
RunName = Annotated[str | None, typer.Option("--run", help="name of the run in the storage", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def _version(asked: bool) -> None:
    if asked:
        from nas import __version__

        console.print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and stop", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""


def say_error(text: str) -> None:
    """One line on standard error, whatever lines the text has."""
    errors.print(f"[red]error:[/red] {_escaped(hidden(' '.join(text.split())))}")


def print_json(value: Any) -> None:
    """JSON on standard output, NaN and infinities as null."""
    print(json.dumps(_finite(value), indent=2))


def say(text: str, style: str | None = None) -> None:
    """Text as it is, on standard output."""
    console.print(_escaped(text), style=style)


def say_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Right-aligned columns, as wide as they need to be."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        say("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def number(value: float) -> str:
    """A figure for people; sizes of spaces may be integers of any length."""
    if isinstance(value, int) and abs(value) >= 10**15:
        exponent = int(math.log10(abs(value)))
        return f"{'-' if value < 0 else ''}{abs(value) // 10 ** (exponent - 1) / 10}e+{exponent}"
    if value != value:
        return "nan"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
