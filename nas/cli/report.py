"""``nas report RUN``: everything about a run as one HTML file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, RunFolder, RunName, Storage, app, print_json, say
from nas.cli.opened import found, opened
from nas.report.markup import duration


@app.command("report")
def report_command(
    run: RunFolder = None,
    out: Annotated[
        Path | None, typer.Option(help="file; RUN/report.html when not given", dir_okay=False)
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="folder of a run to hold it against, such as a random search; repeatable"),
    ] = None,
    storage: Storage = None,
    name: RunName = None,
    json: Json = False,
) -> None:
    """Write an interactive page that needs nothing else, also while the run goes on."""
    from nas.report.compare import check_comparable
    from nas.report.html import report
    from nas.run import write_text

    start = time.perf_counter()
    at = found(run, storage, name)
    result, others = opened(at), [opened(found(other, None, None)) for other in against or ()]
    check_comparable([result, *others])
    text = report(result, others)
    path = out or at.out / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    seconds, size = time.perf_counter() - start, path.stat().st_size
    trials = len(result.history.trials)
    if json:
        print_json({"file": str(path), "bytes": size, "seconds": seconds, "trials": trials})
        return
    say(f"{path} ({size / 1e6:.1f} MB, {trials:,} trials, written in {duration(seconds)})")
