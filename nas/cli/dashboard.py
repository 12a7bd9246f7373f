"""``nas dashboard RUN``: optuna-dashboard on a run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from nas.cli.app import RunFolder, app, say
from nas.cli.opened import opened


@app.command("dashboard")
def dashboard_command(
    run: RunFolder,
    host: Annotated[str, typer.Option(help="address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen at", min=1, max=65535)] = 8080,
) -> None:
    """Show a run in optuna-dashboard, also while it goes on, until interrupted."""
    from nas.errors import BadInput

    if find_spec("optuna_dashboard") is None:
        raise BadInput(
            "optuna-dashboard must be installed, got none; "
            "install it with: pip install 'nas-toolkit[dashboard]'"
        )
    from optuna_dashboard import run_server

    from nas.report.watching import storage

    opened(run)  # says what is wrong with the folder
    say(f"http://{host}:{port} shows {run}; Ctrl-C ends it")
    run_server(storage(run / "journal.log"), host=host, port=port)
