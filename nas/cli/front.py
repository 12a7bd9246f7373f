"""``nas front RUN``: the models that were found, on request by the test split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import Json, RunFolder, RunName, Storage, app, number, print_json, say
from nas.cli.opened import found, opened

if TYPE_CHECKING:
    from nas.front import Member
    from nas.result import Result


@app.command("front")
def front_command(
    run: RunFolder = None,
    test: Annotated[bool, typer.Option("--test", help="score the kept weights on the test split")] = False,
    retrain: Annotated[
        int, typer.Option(help="train each model again with so many seeds, and test", min=0)
    ] = 0,
    measure: Annotated[
        bool, typer.Option("--measure", help="time each model again on the target, if it is this machine")
    ] = False,
    pack: Annotated[
        Path | None,
        typer.Option(help="with --measure: write a folder to be measured elsewhere", file_okay=False),
    ] = None,
    storage: Storage = None,
    name: RunName = None,
    json: Json = False,
) -> None:
    """The front of a run."""
    from nas.cli.show import show_architectures, show_front
    from nas.report.ledger import accounted, bill, ledger

    result = opened(found(run, storage, name))
    front, books, price = result.front(), ledger(result.history.trials), result.parts.search.price
    extra: list[dict[str, float]] = [{} for _ in front]
    if test:
        extra = [dict(row) for row in result.test(list(front))]
    if retrain:
        for row, member in zip(extra, front, strict=True):
            row |= _spread(result.retrain(member, retrain))
    if pack is not None:
        _write_pack(result, list(front), pack, as_json=json)
        return
    if measure:
        _measure(result, list(front), extra)
    if json:
        data = {**front.to_json(), **accounted(books, price)}
        for row, member in zip(extra, data["members"], strict=True):
            member["measured" if measure else "test"] = row
        print_json(data)
        return
    show_front(front, extra if test or retrain or measure else (), "measured" if measure else "test")
    show_architectures(front)
    if test and front:
        values = ", ".join(f"{metric} {number(value)}" for metric, value in extra[0].items())
        say(f"The first one, best on validation data, has on the test split: {values}")
        say("by exactly the weights that were scored in the search")
    say(f"used: {bill(books, price)}")


def _measure(result: Result, members: list[Member], extra: list[dict[str, float]]) -> None:
    """Add the clock's readings, and say which member is beyond a bound by them."""
    from nas.cli.app import errors
    from nas.profiling.members import measured_again

    bounds = [o.bound for o in result.parts.objectives if o.metric == "latency_ms" and o.bound is not None]
    for member, row, ms in zip(members, extra, measured_again(result.parts, members), strict=True):
        row["latency_ms"] = ms
        for bound in bounds:
            if not bound.relative and bound.violation(ms, None) > 0:
                errors.print(f"trial {member.trial} takes {ms:.4g} ms by the clock, beyond {bound}")


def _write_pack(result: Result, members: list[Member], folder: Path, *, as_json: bool) -> None:
    from dataclasses import replace

    from nas.cli.profile import check_pack, say_packed
    from nas.profiling.members import items
    from nas.profiling.pack import pack

    check_pack(folder)
    target = replace(result.parts.target, backend="onnxruntime")
    pack(folder, target, items(result.parts, members))
    say_packed(folder, target.name, as_json=as_json)


def _spread(rows: list[Any]) -> dict[str, float]:
    """Mean and standard deviation over seeds."""
    import numpy as np

    found = {}
    for metric in rows[0]:
        values = [row[metric] for row in rows]
        found[f"{metric} mean of {len(values)}"] = float(np.mean(values))
        found[f"{metric} std"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return found
