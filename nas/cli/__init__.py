"""The command ``nas``: one command a file; importing them registers them with the application."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer

from nas.cli.app import UsageError, app, say_error
from nas.errors import BadInput, NasError

for _command in (
    "init",
    "search",
    "resume",
    "stop",
    "pause",
    "status",
    "logs",
    "front",
    "report",
    "compare",
    "dashboard",
    "export",
    "list_",
    "check",
    "schema",
    "data",
    "profile",
):
    importlib.import_module(f"nas.cli.{_command}")


def main() -> None:
    """Run the command; exit code 0 done, 1 failed run, 2 bad input."""
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        _refuse(error)
        sys.exit(2)
    except typer.Abort:
        say_error("aborted")
        sys.exit(1)
    except BadInput as error:
        say_error(str(error))
        sys.exit(2)
    except (NasError, OSError) as error:
        say_error(str(error))
        sys.exit(1)


def _refuse(error: Any) -> None:
    """Say in a line what is wrong with a command's words; the help, where there were none."""
    text = error.format_message().rstrip(".")
    if "\n" in text:
        error.show()
    elif text:  # else the help has been shown
        say_error(text if error.ctx is None else f"{text}; see: {error.ctx.command_path} --help")
