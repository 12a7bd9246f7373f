"""``nas compare ranks RUN OTHER``: whether two measurements of the same architectures rank them alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.cli.app import print_json, say, say_table
from nas.cli.opened import opened
from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.cli.opened import Found

HEADER = ("", "value", "95 %", "by chance")


def compare_ranks(places: Sequence[Found], table: str | None, metrics: Sequence[str], *, json: bool) -> None:
    """Print rank correlations of a run's metric with another run's, or with a table's."""
    from nas.report.measured_twice import compared_with_run, compared_with_table

    if len(places) != (2 if table is None else 1):
        remedy = "nas compare ranks RUN OTHER, or nas compare ranks RUN --table TABLE"
        given = [at.words for at in places] + ([] if table is None else [f"--table {table}"])
        raise must("what is compared", "be two runs, or a run and --table", given, remedy)
    first, *others = map(opened, places)
    if table is None:
        compared = compared_with_run(first, others[0], metrics)
    else:
        compared = compared_with_table(first, table, metrics)
    if json:
        print_json(compared.to_json())
        return
    ranks, other = compared.agreement, table or places[1].words
    both = f"{compared.metric} of {places[0].words} and {compared.against} of {other}"
    say(f"{both}: {ranks.count} architectures")
    rows = [
        ["Kendall", f"{ranks.kendall:+.3f}", "{:+.2f} to {:+.2f}".format(*ranks.kendall_95), "0"],
        ["Spearman", f"{ranks.spearman:+.3f}", "{:+.2f} to {:+.2f}".format(*ranks.spearman_95), "0"],
    ]
    for top in ranks.top:
        interval = "{:.2f} to {:.2f}".format(*top.share_95)
        rows.append([f"of the best {top.k}", f"{top.share:.3f}", interval, f"{top.k / ranks.count:.3f}"])
    say_table(HEADER, rows)
