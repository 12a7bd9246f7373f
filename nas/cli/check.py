"""``nas check space|strategy|evaluator module:Name``: the conformance checks on an author's own plugin."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import Json, app, print_json, say

if TYPE_CHECKING:
    from nas.testing import Finding


class Checked(StrEnum):
    """What can be checked."""

    space = "space"
    strategy = "strategy"
    evaluator = "evaluator"


@app.command("check")
def check_command(
    kind: Annotated[Checked, typer.Argument(help="what it is")],
    plugin: Annotated[str, typer.Argument(help="a registered name, module:Name or ./file.py:Name")],
    json: Json = False,
) -> None:
    """Run the conformance checks with default settings on small data; exit code 1 when one fails."""
    results = {Checked.space: _space, Checked.strategy: _strategy, Checked.evaluator: _evaluator}[kind](
        plugin
    )
    failed = [name for name, message in results if message is not None]
    if json:
        print_json(
            [{"check": name, "passed": message is None, "message": message} for name, message in results]
        )
    else:
        for name, message in results:
            say(f"{'ok  ' if message is None else 'FAIL'} {name}" + (f": {message}" if message else ""))
        say(f"{len(results) - len(failed)} of {len(results)} checks passed")
    if failed:
        raise typer.Exit(1)


def _space(plugin: str) -> list[Finding]:
    """Checks of a space, whose modules run on digits where the space takes the task."""
    from nas.pairs import example_space
    from nas.space import Space
    from nas.testing import check_space

    task = _digits()
    space = _of_contract(example_space(_spec(plugin), {"task": task}), Space, plugin)
    return check_space(space, task.example(2))


def _strategy(plugin: str) -> list[Finding]:
    from nas import registry
    from nas.errors import must
    from nas.strategy import Strategy
    from nas.testing import check_strategy

    task = _digits()

    def make(space: Any, objectives: Any) -> Any:
        offers = {"space": space, "objectives": objectives, "known": None, "task": task}
        made = registry.create("strategy", _spec(plugin), offers, folder=Path.cwd())
        return _of_contract(made, Strategy, plugin)

    factory, _, _ = registry.resolve("strategy", _spec(plugin), Path.cwd())
    if isinstance(factory, type) and not issubclass(factory, Strategy):
        raise must(plugin, "be a nas.Strategy", factory.__name__)
    return check_strategy(make)


def _evaluator(plugin: str) -> list[Finding]:
    """Checks of an evaluator, or of a function as one, on two random networks for a few digits."""
    from nas.parts import Parts, Search
    from nas.proposal import Proposal
    from nas.rng import stream
    from nas.testing import check_evaluator

    search = Search("conv", "max accuracy", evaluators=[_spec(plugin)], task={"name": "digits", "limit": 100})
    parts = Parts(search)
    evaluator = parts.evaluators[0]
    metrics = tuple(sorted(evaluator.metrics))
    sampled = [parts.space.sample(stream(0, "check", i)) for i in range(2)]
    proposals = [Proposal(a, metrics) for a in sampled]
    return check_evaluator(evaluator, [*proposals, Proposal(sampled[0], metrics[:1])])


def _digits() -> Any:
    from nas import registry

    return registry.create("task", {"name": "digits", "limit": 100})


def _spec(plugin: str) -> dict[str, Any]:
    return {"factory": plugin} if ":" in plugin else {"name": plugin}


def _of_contract(made: Any, contract: type, plugin: str) -> Any:
    from nas.errors import must

    if not isinstance(made, contract):
        raise must(plugin, f"be a nas.{contract.__name__}", made)
    return made
