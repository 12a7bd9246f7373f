"""``nas compare RUN…``: runs of the same objectives side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, app, print_json, say, say_table
from nas.cli.opened import opened


@app.command("compare")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs", metavar="RUN…")],
    html: Annotated[Path | None, typer.Option(help="write a page with fronts and hypervolumes, too")] = None,
    json: Json = False,
) -> None:
    """Compare runs: best values, hypervolume in one box, trials, time, failures, reuse, seeds."""
    from nas.report.compare import compare, comparison_page, figures, header, remarks
    from nas.run import write_text

    results = [opened(run) for run in runs]
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
