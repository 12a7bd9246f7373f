"""``nas export RUN``: the front as files that can be deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, RunFolder, RunName, Storage, app, print_json, say
from nas.cli.opened import found, opened


@app.command("export")
def export_command(
    run: RunFolder = None,
    formats: Annotated[str, typer.Option("--format", help="formats, comma-separated")] = "pt2,json",
    out: Annotated[Path | None, typer.Option(help="folder; RUN/export when not given")] = None,
    trial: Annotated[int | None, typer.Option(help="only the front's model of this trial")] = None,
    storage: Storage = None,
    name: RunName = None,
    json: Json = False,
) -> None:
    """Write the models of the front with exactly the weights that were scored."""
    from nas.errors import must

    at = found(run, storage, name)
    result = opened(at)
    front = result.front()
    members = list(front)
    if not members:
        raise must("the front", "have a member to export", "none")
    if trial is not None:
        numbers = [m.trial for m in members]
        if trial not in numbers:
            raise must("--trial", f"be one of the front's, {', '.join(map(str, numbers))}", trial)
        members = [m for m in members if m.trial == trial]
    names = [name.strip() for name in formats.split(",") if name.strip()]
    written = result.export(members, out or at.out / "export", names)
    if json:
        print_json([str(path) for path in written])
        return
    for path in written:
        say(f"{path} ({path.stat().st_size:,} bytes)")
