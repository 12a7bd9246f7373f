"""The decisions that a table lists, for benchmarks without a space of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, final

import numpy as np

from nas.decision import Categorical, Decision, Integer, Real
from nas.errors import must
from nas.space import Space
from nas.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from nas.architecture import Architecture
    from nas.table import Column


@final
class TableSpace(Space):
    """Every column of choices of a table as an independent decision; there is nothing to build.

    Whole numbers without gaps become `Integer`, other options `Categorical`, real columns `Real` between
    their extremes. In a sample of the space, most architectures have no row: search a pool, or ask the
    surrogate.

    Args:
        table: file, or ``synthetic``.

    Raises:
        BadInput: the table cannot be opened, or a decision is inactive in some of its rows, for what reason
            the table does not say.
    """

    def __init__(self, table: str | Path | Table = "synthetic") -> None:
        self.table = table if isinstance(table, Table) else Table.open(table)
        self.decisions = tuple(_decision(self.table, column) for column in self.table.columns)

    def build(self, architecture: Architecture) -> NoReturn:  # noqa: ARG002 - nothing is built
        """Refuse: a table says what was measured, not what was built.

        Raises:
            BadInput: always.
        """
        raise must("build", "be asked of a space of modules", f"table {self.table.name}", "look it up")


def _decision(table: Table, column: Column) -> Decision:
    if column.absent:
        remedy = "use the benchmark's own space, or a pool"
        raise must(f"{column.name} of {table.name}", "be chosen in every row", "inactive decisions", remedy)
    if not column.options:
        values = table.column(column.name)
        return Real(column.name, float(np.min(values)), float(np.max(values)))
    whole = [v for v in column.options if isinstance(v, int) and not isinstance(v, bool)]
    if 1 < len(whole) == len(column.options) == whole[-1] - whole[0] + 1:
        return Integer(column.name, whole[0], whole[-1])
    return Categorical(column.name, column.options)
