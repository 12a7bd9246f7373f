"""``nas resume RUN``: continue a search after what was kept of it, or end its pause."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import Json, RunFolder, RunName, Storage, app, print_json, say
from nas.cli.opened import RUNS, Found, found, opened
from nas.cli.search import Settings, run_search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.config import Config
    from nas.parts import Search


@app.command("resume")
def resume_command(
    run: RunFolder = None,
    settings: Settings = None,
    budget: Annotated[
        list[str] | None, typer.Option(help="a larger limit: trials=200", metavar="LIMIT=VALUE")
    ] = None,
    storage: Storage = None,
    name: RunName = None,
    json: Json = False,
) -> None:
    """Continue a run, perhaps with a larger budget: --budget trials=200; one that is paused goes on."""
    from nas import sources
    from nas.config import override, resolved, stored, validated

    at = found(run, storage, name)
    if _goes_on(at, [*(settings or []), *(budget or [])], as_json=json):
        return
    place = at.folder if name is None else _place(at, name)
    config, folder = stored(place)
    data = config.model_dump(exclude_none=True)
    if at.search.storage is not None:
        data["storage"] = at.search.storage
    for setting in [*(settings or []), *map(_limit, budget or [])]:
        override(data, setting)
    changed = validated(data)
    if budget:
        _check_larger(at, changed)
    at.store.release()
    search = _named(changed, folder, at.search.run)
    sources.check_unchanged(search, place)
    run_search(sources.from_run(search, place), place, resolved(changed, folder), as_json=json)


def _named(config: Config, folder: Path, name: str | None) -> Search:
    """The search of a config, with the run's name in its storage."""
    from dataclasses import replace

    from nas.config import search_of

    return replace(search_of(config, folder), run=name)


def _limit(given: str) -> str:
    """A limit of the budget as a setting."""
    from nas.errors import must

    if "=" not in given:
        raise must("--budget", "read LIMIT=VALUE", given, "such as --budget trials=200")
    return f"budget.{given}"


def _check_larger(at: Found, config: Config) -> None:
    """Refuse a budget that leaves nothing to do.

    Raises:
        BadInput: a limit of it was used up already, which is named.
    """
    from nas.budget import Budget, Price, Spent, covered
    from nas.cli.app import number
    from nas.errors import must

    budget = Budget(**config.budget.model_dump(exclude_none=True))
    trials = [t for t in opened(at).history.trials if t.role == "search"]
    spent, price = Spent(wall_seconds=covered(trials)), config.price_per_hour
    for trial in trials:
        spent.add(trial, None if price is None else Price(price))
    reached = spent.reached(budget)
    if reached is not None:
        used = f"exceed the {number(getattr(spent, reached))} that are used up"
        raise must(
            f"budget.{reached}", used, getattr(budget, reached), f"give it more: --budget {reached}=VALUE"
        )


def _goes_on(at: Found, changes: Sequence[str], *, as_json: bool) -> bool:
    """Whether the run was only paused, and goes on now where it is.

    Raises:
        BadInput: something of it is to change, which its process would not hear of.
    """
    from nas.errors import must

    owner = at.store.owner()
    if owner is None or at.store.request() != "pause":
        return False
    if changes:
        remedy = f"end it with: nas stop {at.words}"
        raise must("the run", "have ended before its settings change", f"paused as process {owner}", remedy)
    at.store.ask("run")
    if as_json:
        print_json({"run": at.words, "owner": owner, "asked": "run"})
    else:
        say(f"process {owner} goes on with it")
    return True


def _place(at: Found, name: str) -> Path:
    """The folder on this machine in which a run of a storage is continued.

    Raises:
        BadInput: it holds another run.
    """
    from nas.config import stored_name
    from nas.errors import must
    from nas.store import CONFIG

    place = RUNS / name
    if (place / CONFIG).is_file() and stored_name(place) != name:
        raise must(
            str(place), f"be the folder of the run {name}, or not there", "another run", "move it away"
        )
    at.store.mirror(place)
    return place
