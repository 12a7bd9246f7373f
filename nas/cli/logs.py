"""``nas logs RUN [NUMBER]``: what evaluations said."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.app import Json, RunFolder, RunName, Storage, app, print_json, say
from nas.cli.opened import found, opened


@app.command("logs")
def logs_command(
    run: RunFolder = None,
    trial: Annotated[int | None, typer.Argument(help="number of a trial", metavar="NUMBER")] = None,
    storage: Storage = None,
    name: RunName = None,
    json: Json = False,
) -> None:
    """A line for each trial, or the whole log of one."""
    from nas.errors import must
    from nas.executor import log_file
    from nas.record import trial_to_json
    from nas.study import summary

    if name is not None and run is not None and trial is None and str(run).isdigit():
        run, trial = None, int(str(run))  # the first word is NUMBER where --run takes the place of RUN
    at = found(run, storage, name)
    trials = {t.number: t for t in opened(at).history.trials}
    if trial is None:
        if json:
            print_json([trial_to_json(t) for t in trials.values()])
            return
        for t in trials.values():
            say(f"{t.number:>6} {t.role:<8} {summary(t)}")
        return
    if trial not in trials:
        raise must("NUMBER", f"be a trial from 0 to {max(trials, default=0)}", trial)
    path = log_file(at.folder / "logs", trial)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if json:
        print_json({**trial_to_json(trials[trial]), "log": text})
        return
    say(f"trial {trial}: {summary(trials[trial])}")
    elsewhere = f"(its log is on {trials[trial].host}, in the run's folder)"
    say(text.rstrip() or ("(it logged nothing)" if name is None else elsewhere))
