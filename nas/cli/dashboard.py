"""``nas dashboard RUN``: optuna-dashboard on a run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from nas.cli.app import RunFolder, RunName, Storage, app, say
from nas.cli.opened import found, opened


@app.command("dashboard")
def dashboard_command(
    run: RunFolder = None,
    host: Annotated[str, typer.Option(help="address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen at", min=1, max=65535)] = 8080,
    storage: Storage = None,
    name: RunName = None,
) -> None:
    """Show a run in optuna-dashboard, also while it goes on, until interrupted."""
    from nas.errors import BadInput

    if find_spec("optuna_dashboard") is None:
        raise BadInput(
            "optuna-dashboard must be installed, got none; "
            "install it with: pip install 'nas-toolkit[dashboard]'"
        )
    from optuna_dashboard import run_server

    from nas.database_store import DatabaseStore
    from nas.report import watching
    from nas.store import JOURNAL

    at = found(run, storage, name)
    opened(at)  # says what is wrong with the run
    say(f"http://{host}:{port} shows {at.words}; Ctrl-C ends it")
    if isinstance(at.store, DatabaseStore):
        shown = at.store.database.storage
    else:
        shown = watching.storage(at.folder / JOURNAL)
    run_server(shown, host=host, port=port)
