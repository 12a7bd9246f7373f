"""``nas export RUN``: the front as files that can be deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, RunFolder, RunName, Storage, app, number, print_json, say
from nas.cli.opened import found, opened


@app.command("export")
def export_command(
    run: RunFolder = None,
    formats: Annotated[str, typer.Option("--format", help="formats, comma-separated")] = "pt2,json",
    out: Annotated[
        Path | None, typer.Option(help="folder; RUN/export when not given", file_okay=False)
    ] = None,
    trial: Annotated[int | None, typer.Option(help="only the front's model of this trial")] = None,
    fine_tune: Annotated[
        int, typer.Option(help="train each model on for so many epochs first, and test", min=0)
    ] = 0,
    lr: Annotated[float, typer.Option(help="learning rate of --fine-tune")] = 0.01,
    device: Annotated[str, typer.Option(help="of --fine-tune: cpu or cuda:N")] = "cpu",
    storage: Storage = None,
    name: RunName = None,
    json: Json = False,
) -> None:
    """Write the models of the front with exactly the weights that were scored.

    With --fine-tune, these are trained on first, each model by itself, as inherited weights should be; what
    they have on the test split is printed, on the validation split written.
    """
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
    if not names:
        raise must("--format", "name at least one format", formats, "such as --format pt2,json")
    result.parts.exporters(names)  # what is refused is refused before anything is trained
    tuned = {m.trial: result.fine_tune(m, fine_tune, lr=lr, device=device) for m in members if fine_tune}
    written = result.export(members, out or at.out / "export", names, tuned)
    files = [str(path) for path in written]
    if json:
        tests = {str(trained): dict(t.test) for trained, t in tuned.items()}
        print_json({"files": files, "test": tests} if fine_tune else files)
        return
    for trained, t in tuned.items():
        values = ", ".join(f"{metric} {number(value)}" for metric, value in t.test.items())
        say(f"trial {trained} has after {fine_tune} epochs of fine-tuning, on the test split: {values}")
    for path in written:
        say(f"{path} ({path.stat().st_size:,} bytes)")
