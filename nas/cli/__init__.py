"""The command ``nas``: one command a file; importing them registers them with the application."""

from __future__ import annotations

import importlib
import sys

from nas.cli.app import app, say_error
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
        app()
    except BadInput as error:
        say_error(str(error))
        sys.exit(2)
    except (NasError, OSError) as error:
        say_error(str(error))
        sys.exit(1)
