"""``nas front RUN``: the models that were found, on request by the test split."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nas.cli.app import Json, RunFolder, app, number, print_json, say
from nas.cli.opened import opened


@app.command("front")
def front_command(
    run: RunFolder,
    test: Annotated[bool, typer.Option("--test", help="score the kept weights on the test split")] = False,
    retrain: Annotated[
        int, typer.Option(help="train each model again with so many seeds, and test", min=0)
    ] = 0,
    json: Json = False,
) -> None:
    """The front of a run."""
    from nas.cli.show import show_architectures, show_front

    result = opened(run)
    front = result.front()
    extra: list[dict[str, float]] = [{} for _ in front]
    if test:
        extra = [dict(row) for row in result.test(list(front))]
    if retrain:
        for row, member in zip(extra, front, strict=True):
            row |= _spread(result.retrain(member, retrain))
    if json:
        data = front.to_json()
        for row, member in zip(extra, data["members"], strict=True):
            member["test"] = row
        print_json(data)
        return
    show_front(front, extra if test or retrain else (), "test")
    show_architectures(front)
    if test and front:
        values = ", ".join(f"{metric} {number(value)}" for metric, value in extra[0].items())
        say(f"The first one, best on validation data, has on the test split: {values}")
        say("by exactly the weights that were scored in the search")


def _spread(rows: list[Any]) -> dict[str, float]:
    """Mean and standard deviation over seeds."""
    import numpy as np

    found = {}
    for metric in rows[0]:
        values = [row[metric] for row in rows]
        found[f"{metric} mean of {len(values)}"] = float(np.mean(values))
        found[f"{metric} std"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return found
