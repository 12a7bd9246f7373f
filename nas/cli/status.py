"""``nas status RUN``: how a search stands, also while it goes on."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import Json, RunFolder, RunName, Storage, app, console, number, print_json, say
from nas.cli.opened import found, opened
from nas.cli.show import describe
from nas.report.markup import counted, duration

if TYPE_CHECKING:
    from nas.cli.opened import Found
    from nas.front import Front
    from nas.report.standing import Running, Standing
    from nas.result import Result

SHOWN = 16
"""Evaluations that are listed."""


@app.command("status")
def status_command(
    run: RunFolder = None,
    storage: Storage = None,
    name: RunName = None,
    watch: Annotated[
        float | None, typer.Option(help="look again every so many seconds until it ends", min=0.1)
    ] = None,
    json: Json = False,
) -> None:
    """How a run stands: what runs now, how fast, what was used, and whether going on is worth it."""
    while True:
        at = found(run, storage, name)
        owner = at.store.owner()
        if watch is not None and console.is_terminal:
            console.clear()
        _show(at, opened(at), owner, as_json=json)
        at.close()
        if watch is None or owner is None:
            return
        time.sleep(watch)


def _show(at: Found, result: Result, owner: str | None, *, as_json: bool) -> None:
    from nas.inflight import InFlight
    from nas.report.standing import standing

    parts = result.parts
    jobs = InFlight(at.store, parts.space).read()
    now = standing(parts, result.history, jobs, _places(result, len(jobs)))
    front, state = result.front(), _state(at, now, owner, result)
    if as_json:
        print_json({"state": state, "owner": owner, **_json(result, now), **front.to_json()})
        return
    say(state)
    _say_spent(result, now)
    _say_running(now, owner)
    _say_counts(result, now)
    _say_front(result, now, front)
    if owner is None:
        _say_how_to_go_on(at, result, now)


def _places(result: Result, jobs: int) -> int:
    """How many jobs run at once; without batches nothing is asked for before there is a place for it."""
    from nas import executors

    search = result.parts.search
    return jobs if search.batch is None else executors.create(search.executor).places


def _state(at: Found, now: Standing, owner: str | None, result: Result) -> str:
    """What the run does, or why it does nothing."""
    if owner is not None:
        return f"{'paused' if at.store.request() == 'pause' else 'running'} as process {owner}"
    reached = now.spent.reached(result.parts.search.budget)
    if reached is not None:
        return f"ended: budget.{reached} reached"
    return "ended: stopped by rule" if _by_rule(now, result) else "stopped"


def _by_rule(now: Standing, result: Result) -> bool:
    """Whether the rule says that this is the end."""
    rule = result.parts.stop
    return rule is not None and now.gain is not None and now.gain < rule.hypervolume_gain


def _json(result: Result, now: Standing) -> dict[str, Any]:
    rule = result.parts.stop
    return {
        **now.to_json(result.parts.search.price),
        "budget": asdict(result.parts.search.budget),
        "stop": None if rule is None else asdict(rule),
    }


def _say_spent(result: Result, now: Standing) -> None:
    for name, limit in asdict(result.parts.search.budget).items():
        if limit is not None:
            spent = getattr(now.spent, name)
            _line(name, f"{number(spent)} of {number(limit)} ({100 * now.used[name]:.3g} %)")


def _say_running(now: Standing, owner: str | None) -> None:
    if owner is not None and not now.running:
        _line("evaluating", "nothing of the search at this moment")
    title = "evaluating" if owner is not None else "was evaluating"
    for job in now.running[:SHOWN]:
        _line(title, _described(job) if owner is not None else f"trial {job.number}")
    if len(now.running) > SHOWN:
        _line(title, f"and {len(now.running) - SHOWN} more")
    if now.queued:
        numbers = ", ".join(str(job.number) for job in now.queued[:SHOWN])
        _line("queued", f"{len(now.queued)}: trials {numbers}{', …' if len(now.queued) > SHOWN else ''}")


def _described(job: Running) -> str:
    p = job.proposal
    fidelity = "" if p.fidelity == 1.0 else f", fidelity {p.fidelity:.3g}"
    return f"trial {job.number} for {duration(max(0.0, time.time() - job.since))}{fidelity}: {describe(p)}"


def _say_counts(result: Result, now: Standing) -> None:
    from nas.report.ledger import bill

    books = now.books
    if now.rate is not None:
        _line("rate", f"{number(now.rate)} trials an hour, by the last {now.recent}")
    _line("reused", f"{books.reused}" + (f", {books.partly} more in part" if books.partly else ""))
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(now.failures.items()))
    _line("failed", f"{books.failures}" + (f": {kinds}" if kinds else ""))
    _line("retried", counted(books.retried, "trial"))
    _line("used", bill(books, result.parts.search.price))


def _say_front(result: Result, now: Standing, front: Front) -> None:
    from nas.report.standing import percent

    _line("front", f"{counted(len(front), 'architecture')}, hypervolume {front.hypervolume():.3f}")
    if now.last is not None:
        _line("last tenth", now.last.text(result.parts.search.price))
    rule = result.parts.stop
    if rule is not None:
        gain = "too early to judge" if now.gain is None else f"gained {percent(now.gain)}"
        _line("stop", f"{gain} over {rule.over} trials; ends below {percent(rule.hypervolume_gain)}")


def _say_how_to_go_on(at: Found, result: Result, now: Standing) -> None:
    reached = now.spent.reached(result.parts.search.budget)
    if reached is None:
        change = " --set stop=null" if _by_rule(now, result) else ""
        say(f"continue with: nas resume {at.words}{change}")
        return
    more = 2 * getattr(result.parts.search.budget, reached)
    say(f"give it more with: nas resume {at.words} --budget {reached}={more}")


def _line(name: str, text: str) -> None:
    say(f"{name:<15} {text}")
