"""``nas compare RUN…``: runs of the same objectives side by side; ``metrics CONFIG``; ``ranks RUN OTHER``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, Storage, app, print_json, say, say_table
from nas.cli.compare_metrics import compare_metrics
from nas.cli.compare_ranks import compare_ranks
from nas.cli.opened import Found, found, opened
from nas.errors import must

METRICS, CONFIGS = Path("metrics"), (".yaml", ".yml", ".json")
"""In place of a run, and what a config's name ends with: runs are folders."""
RANKS = Path("ranks")
"""In place of a run, where there is no run of that name."""


@app.command("compare")
def compare_command(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="folders of runs; or 'metrics' and a config; or 'ranks' and one or two runs",
            metavar="RUN… | metrics CONFIG | ranks RUN [OTHER]",
        ),
    ] = None,
    storage: Storage = None,
    names: Annotated[
        list[str] | None, typer.Option("--run", help="name of one in the storage; repeatable", metavar="NAME")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="write a page with fronts and hypervolumes, too", dir_okay=False)
    ] = None,
    pool: Annotated[int, typer.Option(help="metrics: architectures to measure, 10 to 3,000")] = 300,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="metrics: one to study; repeatable; all that need no training. ranks: the run's, the other's"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="metrics: override a value: a.b=c", metavar="A.B=C")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="ranks: compare with this table of real trainings", metavar="TABLE")
    ] = None,
    json: Json = False,
) -> None:
    """Compare runs: best values, hypervolume in one box, trials, time, failures, reuse, seeds.

    'nas compare metrics CONFIG' measures a pool of a config's space instead, and tells how well each metric
    that needs no training ranks it by the first objective, beside parameters and multiply-accumulates.
    'nas compare ranks RUN OTHER' tells whether two runs rank the architectures that both measured alike,
    such as by inherited and by stand-alone accuracy; with --table in place of OTHER, a run and a table.
    """
    named = runs is not None and len(runs) == 2 and runs[1].suffix in CONFIGS
    if runs and runs[0] == METRICS and (named or not METRICS.is_dir()):
        if not named:
            given = " ".join(map(str, runs[1:]))
            raise must("CONFIG", f"be one file ({', '.join(CONFIGS)})", given, "nas compare metrics CONFIG")
        compare_metrics(runs[1], pool, metric or (), settings or (), json=json)
        return
    if runs and runs[0] == RANKS and not (RANKS / "run.json").exists():
        compare_ranks(_places(runs[1:], storage, names or ()), table, metric or (), json=json)
        return
    if table is not None:
        raise must("--table", "go with 'ranks' and a run", table, "nas compare ranks RUN --table TABLE")
    _compare_runs(_places(runs or (), storage, names or ()), html, json=json)


def _places(runs: Sequence[Path], storage: str | None, names: Sequence[str]) -> list[Found]:
    return [found(run, None, None) for run in runs] + [found(None, storage, name) for name in names]


def _compare_runs(places: Sequence[Found], html: Path | None, *, json: bool) -> None:
    from nas.report.compare import compare, comparison_page, figures, header, remarks
    from nas.run import write_text

    if not places:
        raise must("RUN", "name at least one run", "none")
    results = [opened(at) for at in places]
    comparison = compare(results)
    if html is not None:
        write_text(html, comparison_page(results))
    if json:
        print_json(
            {
                "runs": [row.to_json() for row in comparison.rows],
                "groups": [group.to_json() for group in comparison.groups],
                "differences": list(comparison.differences),
                "html": None if html is None else str(html),
            }
        )
        return
    rows = [[row.name, str(row.seed), *figures(row.figures)] for row in comparison.rows]
    for group in comparison.groups:
        rows.append([f"mean of {group.seeds} seeds", "", *figures(group.mean)])
        rows.append(["± std", "", *figures(group.spread)])
    say_table(header(comparison), rows)
    for remark in remarks(comparison):
        say(remark)
    if html is not None:
        say(f"{html} ({html.stat().st_size / 1e6:.1f} MB)")
