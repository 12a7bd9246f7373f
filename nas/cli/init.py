"""``nas init``: a few questions, then a commented config that can be run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app, say

TEMPLATE = """\
# Made by 'nas init'. Try it with: nas search {path} --dry-run     then: nas search {path}
seed: 0

# What can be chosen. 'nas list spaces' shows others; {{join: [{space}, hyper]}} adds the recipe.
space: {space}

# The data. 'nas list tasks' shows others; {{factory: "./my_task.py:make_task"}} brings your own.
task: {task}

# The machine that latency refers to.
target: {target}

# What is wanted. Bounds are hard; '>= baseline - 0.01' is relative to baseline: below.
objectives:
  - {{metric: accuracy, goal: max}}
  - {{metric: latency_ms, goal: min{bound}}}

# How an architecture is judged. The full schedule is {epochs} epochs.
evaluators:
  - {{name: training, epochs: {epochs}}}

strategy: {{name: evolution, population: 16}}

# The first limit that is reached ends the search.
budget: {{wall_seconds: {seconds}}}
"""


@app.command("init")
def init_command(
    out: Annotated[Path, typer.Argument(help="file to write")] = Path("search.yaml"),
    task: Annotated[str | None, typer.Option(help="the data")] = None,
    space: Annotated[str | None, typer.Option(help="the models to search")] = None,
    target: Annotated[str | None, typer.Option(help="the machine")] = None,
    limit: Annotated[float | None, typer.Option(help="latency limit in ms; 0 for none", min=0)] = None,
    minutes: Annotated[float | None, typer.Option(help="time for the search", min=0.1)] = None,
) -> None:
    """Ask for data, model, target, limit and time, and write a commented config that runs."""
    from nas.config import search_of, validated
    from nas.errors import must
    from nas.parts import Parts
    from nas.yaml12 import parse_yaml

    if out.exists():
        raise must("the config file", "be new", str(out), "name another one")
    if not out.parent.is_dir():
        raise must("the config file", "lie in a folder that is there", str(out), f"make {out.parent}")
    chosen = {
        "task": _chosen("task", task, "Data", "digits"),
        "space": _chosen("space", space, "Models to search", "conv"),
        "target": _chosen("target", target, "Machine", "host"),
    }
    if limit is None:
        limit = typer.prompt("Latency limit in ms, 0 for none", default=0.0, type=float)
    if minutes is None:
        minutes = typer.prompt("Minutes for the search", default=5.0, type=float)
    text = TEMPLATE.format(
        path=out,
        epochs=15 if chosen["task"] == "digits" else 5,
        seconds=round(minutes * 60),
        bound=f", bound: {limit:g}" if limit else "",
        **chosen,
    )
    Parts(search_of(validated(parse_yaml(text)), Path.cwd()))  # what would not run is refused now
    out.write_text(text, encoding="utf-8")
    say(f"wrote {out}; try it with: nas search {out} --dry-run")


def _chosen(kind: str, given: str | None, question: str, default: str) -> str:
    """The name of a registered plugin, asked for unless it was given.

    Raises:
        UnknownName: there is no such plugin.
    """
    from nas import registry

    known = registry.names(kind)
    name: str = given or typer.prompt(f"{question} ({', '.join(known)})", default=default)
    registry.load(kind, name)
    return name
