"""``nas stop RUN``: end a search from another terminal or machine."""

from __future__ import annotations

from nas.cli.app import Json, RunFolder, RunName, Storage, app
from nas.cli.opened import asked


@app.command("stop")
def stop_command(
    run: RunFolder = None, storage: Storage = None, name: RunName = None, json: Json = False
) -> None:
    """End a run after the evaluations that run now; nas resume continues it."""
    asked(run, storage, name, "stop", as_json=json)
