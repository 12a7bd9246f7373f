"""The rows of a table as candidates, for samples whose space they do not fill."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nas.decision import Integer
from nas.errors import must
from nas.space import Space
from nas.table import ROW, Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from nas.architecture import Architecture
    from nas.operators import Operator
    from nas.space import Graph


@final
class PoolSpace(Space):
    """One decision: the number of a row in a table.

    Rows of a sample are too rare in their space to be met by choosing decisions one by one: there is no
    neighbour one decision away. So a candidate is a row as such. Every architecture of the pool has a
    measurement, sampling is uniform over the rows, and as samples are written in an order in which near
    rows are alike (the leaves of a k-d tree), a step of the number is a small change of the architecture.
    What is lost is the structure: a model sees one number. To search by decisions, ask `TabularSurrogate`.

    Args:
        table: file, or ``synthetic``.
        of: the space that the rows are architectures of, which builds them; without it nothing is built.

    Raises:
        BadInput: the table cannot be opened.
    """

    def __init__(self, table: str | Path | Table = "synthetic", *, of: Space | None = None) -> None:
        self.table = table if isinstance(table, Table) else Table.open(table)
        self.of = of
        self.decisions = (Integer(ROW, 0, self.table.size - 1),)

    def chosen(self, architecture: Architecture) -> dict[str, object]:
        """The choices of the row."""
        return dict(self.table.choices(architecture[ROW]))

    def build(self, architecture: Architecture) -> nn.Module:
        """The row's module.

        Raises:
            BadInput: it is not known of which space the rows are.
        """
        return self._space().build(self._space().architecture(self.chosen(architecture)))

    def graph(self, architecture: Architecture) -> Graph | None:
        """The row's graph, where its space is known and has graphs."""
        return None if self.of is None else self.of.graph(self.of.architecture(self.chosen(architecture)))

    @property
    def operators(self) -> Mapping[str, Operator]:
        """Those of the rows' space, where it is known."""
        return {} if self.of is None else self.of.operators

    def _space(self) -> Space:
        if self.of is None:
            remedy = f"build one from Table.choices(row) with the space of {self.table.name}"
            raise must("a pool", "be told of which space its rows are, to build them", None, remedy)
        return self.of
