"""``nas search CONFIG``: search, confirm the front, and say what was found and where it is."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import Json, Storage, app, number, print_json, say, say_error
from nas.report.markup import duration

if TYPE_CHECKING:
    from nas.front import Front
    from nas.parts import Search
    from nas.run import Run
    from nas.tally import Tally

Settings = Annotated[list[str] | None, typer.Option("--set", help="override a value: a.b=c", metavar="A.B=C")]


@app.command("search")
def search_command(
    config: Annotated[Path, typer.Argument(help="YAML file", metavar="CONFIG")],
    out: Annotated[
        Path | None, typer.Option(help="folder of the run; runs/NAME when not given", file_okay=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="rules everything random")] = None,
    settings: Settings = None,
    warm_start: Annotated[Path | None, typer.Option(help="run whose trials the strategy starts from")] = None,
    accept_uncalibrated: Annotated[
        bool, typer.Option("--accept-uncalibrated", help="bound times that a datasheet alone stands behind")
    ] = False,
    storage: Storage = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="shared folder for weights and exports", file_okay=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check, try three samples, estimate")] = False,
    json: Json = False,
) -> None:
    """Search as a config says; exit code 1 when nothing within the bounds was found."""
    from nas.config import load, resolved, search_of

    given = [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]
    if warm_start is not None:
        given.append(f"warm_start={dumps(str(warm_start))}")
    for key, value in (("storage", storage), ("artifacts", artifacts)):
        if value is not None:
            given.append(f"{key}={dumps(str(value))}")
    if accept_uncalibrated:
        given.append("accept_uncalibrated=true")
    loaded, folder = load(config, given)
    search = search_of(loaded, folder)
    if dry_run:
        from nas.cli.dry_run import dry_run as rehearse

        rehearse(search, as_json=json)
        return
    place = _new_folder(out, config.stem)
    _check_new(search, place)
    run_search(search, place, resolved(loaded, folder), as_json=json)


def run_search(search: Search, place: Path, stored: dict[str, Any], *, as_json: bool) -> None:
    """Run or continue the search of a folder, and say what it found and where that is."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():  # libraries print, too
        run, front = _searched(search, place, stored, as_json=as_json)
    if run.study.ended in ("interrupted", "terminated", "stopped"):
        say_error(_cut_short(run))
        raise typer.Exit(1)
    files = _plots(run, front)
    if search.formats and front:
        files += front.export((run.parts.artifacts or place) / "export", search.formats)
    if as_json:
        print_json({"run": str(place), "ended": run.study.ended, **front.to_json()})
    else:
        _summarise(run, front, files)
    if not front:
        raise typer.Exit(1)


def _searched(search: Search, place: Path, stored: dict[str, Any], *, as_json: bool) -> tuple[Run, Front]:
    """The run when its search has ended, and its front."""
    from nas.cli.progress import Progress
    from nas.cli.signals import obeyed
    from nas.errors import RunFailed
    from nas.run import Run

    progress = Progress(search.budget, search.price)
    shown = not as_json
    run = Run(
        search,
        place,
        config=stored,
        observer=progress if shown else None,
        trained=_say_step if shown else None,
    )
    try:
        with obeyed(run):
            if as_json:
                front = run.search()
            else:
                _announce(run)
                run.train()
                with progress.following(run.parts.objectives, run.history.trials, lambda: run.study.rested):
                    front = run.search()
    except KeyboardInterrupt:
        front = run.write()
    except RunFailed as error:
        raise RunFailed(f"{error}; see: nas logs {place}") from None
    finally:
        run.close()
    return run, front


def _say_step(stage: str, tally: Tally) -> None:
    """A line about a training."""
    late = tally.losses[-(1 + len(tally.losses) // 10) :]
    loss = f", loss {sum(late) / len(late):.3g}" if late else ""
    skipped = f", {tally.skipped} skipped" if tally.skipped else ""
    used = tally.used
    say(f"{stage}: {used['trials']:,.0f} paths trained{loss}{skipped}, {duration(used['wall_seconds'])}")


def _cut_short(run: Run) -> str:
    """What a signal cost, and how to go on."""
    lost = [str(number) for number in run.study.lost]
    shown = ", ".join(lost[:16]) + (", …" if len(lost) > 16 else "")
    cost = f"; {len(lost)} in flight will be evaluated again: {shown}" if lost else ""
    return f"{run.study.ended}{cost}; all finished trials are safe. Continue with: nas resume {run.folder}"


def _announce(run: Run) -> None:
    parts = run.parts
    size = number(parts.space.size) if parts.space.size != float("inf") else "infinitely many"
    say(f"{type(parts.space).__name__}: {size} architectures; {', '.join(map(str, parts.objectives))}")
    say(f"run folder {run.folder}")
    if "warm start" in parts.offers:
        say(f"the strategy starts from {parts.offers['warm start']}")
    if run.history.trials:
        say(f"continuing after {len(run.history.trials)} trials")
    if owed := run.study.owed():
        say(f"evaluating again what was in flight: {', '.join(str(job.number) for job in owed)}")
    if parts.task is not None and not parts.task.repeatable:
        say("note: the task's loaders cannot be seeded, so this run is not repeatable")


def _plots(run: Run, front: Front) -> list[Path]:
    from nas.report.plots import plot_front, plot_hypervolume

    if not front:
        return []
    return [
        plot_front(front, run.folder / "front.png"),
        plot_hypervolume(run.history.trials, front.objectives, run.folder / "hypervolume.png"),
    ]


def _summarise(run: Run, front: Front, files: list[Path]) -> None:
    from nas.cli.show import show_best, show_front
    from nas.report.ledger import bill, ledger

    spent = run.study.spent
    say("")
    say(
        f"{run.study.ended} after {duration(spent.wall_seconds)}: {spent.trials} trials, "
        f"{number(spent.evaluations)} evaluated, {spent.reused} reused, {spent.failures} failed"
    )
    if run.parts.search.price is not None:
        say(bill(ledger(run.history.trials), run.parts.search.price))
    show_front(front)
    if not front:
        say(_why_empty(run))
        return
    show_best(front)
    measured = sorted({m for o in front.objectives for m in [o.metric] if m in run.parts.evaluator.measured})
    if measured:
        say(f"{', '.join(measured)} of every model on the front was measured again after the search")
    for file in [run.folder / "front.json", *files]:
        say(f"  {file}")


def _why_empty(run: Run) -> str:
    """What kept every architecture off the front."""
    from nas.front import baseline, members
    from nas.objective import violations

    found = members(run.history.trials)
    if not found:
        return f"No evaluation succeeded; see: nas logs {run.folder}"
    reference = baseline(run.history.trials)
    rows = [m.values for m in found]
    for o in run.parts.objectives:
        if o.bound is not None:
            value = reference.values if reference else None
            if (violations(rows, [o], value) > 0).all():
                seen = [row[o.metric] for row in rows if o.metric in row]
                if not seen:
                    return f"No evaluation gave {o.metric}; see: nas logs {run.folder}"
                nearest = min(seen) if o.bound.sense == "<=" else max(seen)
                return f"No architecture met {o.metric} {o.bound}; the nearest has {number(nearest)}"
    return "No architecture met all bounds at once, or objectives were not finite"


def _new_folder(out: Path | None, stem: str) -> Path:
    """A folder that holds no run yet.

    Raises:
        BadInput: the given one holds a run, or anything else.
    """
    from nas.errors import must

    if out is not None:
        if (out / "run.json").exists():
            raise must("--out", "be a new folder", str(out), f"continue that run with: nas resume {out}")
        if out.is_dir() and any(out.iterdir()):
            raise must("--out", "be a new or empty folder", str(out), "name another one")
        return out
    place, i = Path("runs") / stem, 1
    while place.exists():
        i += 1
        place = Path("runs") / f"{stem}-{i}"
    return place


def _check_new(search: Search, place: Path) -> None:
    """Refuse to begin a run that is in the storage already.

    Raises:
        BadInput: there is one of this name.
    """
    from nas.errors import must
    from nas.run import store_of

    if search.storage is None:
        return
    store = store_of(search, place)
    taken = store.exists
    store.release()
    if taken:
        remedy = f"continue it with: nas resume --storage URL --run {place.name}, or begin another with --out"
        raise must("the run's name", "be new in the storage", place.name, remedy)
