"""Any csv file as a table: the user says which columns are decisions, metrics and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import must
from nas.tables.draft import Draft
from nas.tables.sources import checksum, numbers, read_csv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST = 64
"""Columns of more different numbers than this are real or whole-numbered ranges, not lists of options."""


def load(
    path: Path, decisions: Sequence[str], metrics: Sequence[str], static: Sequence[str] = (), cost: str = ""
) -> Draft:
    """Read a csv file, which may be gzipped.

    A decision of texts, of whole numbers, or of at most 64 different numbers is a list of options; one of
    more different fractional numbers is real. An empty cell of a metric is a missing value.

    Args:
        path: of the file.
        decisions: columns that were chosen; every row must choose all of them, and no two rows the same.
        metrics: columns that a training gave.
        static: columns that are known without training, such as latencies.
        cost: column of the seconds that a training took; empty for none.

    Raises:
        BadInput: a column is missing, listed twice, or of another form.
    """
    if not decisions or not metrics:
        raise must(
            "--decisions and --metrics", "name at least one column each", [list(decisions), list(metrics)]
        )
    asked = [*decisions, *metrics, *static, *([cost] if cost else [])]
    twice = next((name for name in asked if asked.count(name) > 1), None)
    if twice is not None:
        raise must("columns", "be listed once", twice)
    columns = read_csv(path, asked)
    chosen = {name: _decision(name, columns[name]) for name in decisions}
    draft = Draft(path.name.partition(".")[0], "the user's own", {path.name: checksum(path)}, chosen)
    for name in metrics:
        draft.add(name, _metric(name, columns), cost=cost)
    for name in static:
        draft.add(name, _metric(name, columns), nature="static")
    if cost:
        draft.add(cost, _metric(cost, columns), "s", "seconds")
    return draft


def _metric(name: str, columns: dict[str, list[str]]) -> Any:
    try:
        values = numbers(columns[name])
    except ValueError as error:
        raise must(f"column {name}", "hold numbers and empty cells", str(error)) from None
    return np.where(np.isfinite(values), values, np.nan)


def _decision(name: str, cells: list[str]) -> Any:
    if "" in cells:
        raise must(f"decision {name}", "be chosen in every row", "an empty cell", "write 'none' or the like")
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return cells
    if not np.isfinite(values).all():
        raise must(f"decision {name}", "hold finite numbers or texts", cells[0])
    if all(v.is_integer() for v in values):
        return [int(v) for v in values]
    return values if len(set(values)) <= MOST else np.array(values)
