"""``nas pause RUN``: let a search begin nothing new for a while."""

from __future__ import annotations

from nas.cli.app import Json, RunFolder, RunName, Storage, app
from nas.cli.opened import asked


@app.command("pause")
def pause_command(
    run: RunFolder = None, storage: Storage = None, name: RunName = None, json: Json = False
) -> None:
    """Let a run begin nothing new after the evaluations that run now, until nas resume."""
    asked(run, storage, name, "pause", as_json=json)
