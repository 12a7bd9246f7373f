"""``nas compare metrics CONFIG``: how well metrics that need no training rank architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.cli.app import print_json, say, say_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nas.report.ranks import Row


HEADER = ("metric", "Spearman", "95 %", "Kendall", "95 %", "architectures")


def compare_metrics(
    config: Path, pool: int, metrics: Sequence[str], overrides: Sequence[str], *, json: bool
) -> None:
    """Measure a pool and print the rank correlations."""
    from nas.config import load, search_of
    from nas.report.ranks import rank_study

    ranks = rank_study(search_of(*load(config, list(overrides))), pool, metrics)
    if json:
        print_json(ranks.to_json())
        return
    say(f"rank correlation with {ranks.objective}: {ranks.measured} of {ranks.pool} architectures measured")
    say_table(HEADER, [_cells(row) for row in ranks.rows])
    better = ranks.better_than_size()
    say("reliably better than counting parameters or operations: " + (", ".join(better) or "none"))


def _cells(row: Row) -> list[str]:
    return [
        row.metric,
        f"{row.spearman:+.3f}",
        _interval(row.spearman_95),
        f"{row.kendall:+.3f}",
        _interval(row.kendall_95),
        str(row.count),
    ]


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:+.2f} to {ends[1]:+.2f}"
