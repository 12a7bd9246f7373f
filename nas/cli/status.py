"""``nas status RUN``: how far a search is."""

from __future__ import annotations

from dataclasses import asdict

from nas.cli.app import Json, RunFolder, app, number, print_json, say
from nas.cli.opened import opened
from nas.report.markup import duration


@app.command("status")
def status_command(run: RunFolder, json: Json = False) -> None:
    """How far a run is, also while it goes on."""
    from nas.budget import Spent
    from nas.run import owner_of

    result = opened(run)
    spent = Spent()
    for trial in result.history.trials:
        if trial.role == "search":
            spent.add(trial)
    front, owner = result.front(), owner_of(run)
    budget = result.parts.search.budget
    reached = spent.reached(budget)
    state = (
        f"running as process {owner}"
        if owner
        else f"ended: budget.{reached} reached"
        if reached
        else "stopped"
    )
    if json:
        print_json({"state": state, "spent": asdict(spent), "budget": asdict(budget), **front.to_json()})
        return
    say(state)
    for name, limit in asdict(budget).items():
        if limit is not None:
            say(f"{name:<15} {number(getattr(spent, name))} of {number(limit)}")
    say(f"{'reused':<15} {spent.reused}")
    say(f"{'failed':<15} {spent.failures}")
    say(f"{'evaluating':<15} {duration(spent.device_seconds)}")
    say(f"{'front':<15} {len(front)} architectures, hypervolume {front.hypervolume():.3f}")
    if not owner and not reached:
        say(f"continue with: nas resume {run}")
