"""Answers from a table of real trainings, with the seconds that they took."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from nas.architecture import Architecture
from nas.decision import Real
from nas.errors import BadInput, must, unknown_metric
from nas.evaluator import Evaluator
from nas.proposal import Failure, Measurement, Outcome, Proposal
from nas.rng import stream
from nas.table import ROW, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nas.space import Space
    from nas.table import Metric, Rows


@final
class TabularEvaluator(Evaluator):
    """Looks candidates up in a table made by ``nas data import``.

    Metrics are the table's columns under their names there; accuracies are fractions. Those that a training
    gave are `functional`; sizes, latencies and energies are `cheap`. ``seconds`` of a measurement are the
    recorded cost of the trainings behind the asked metrics, so that a budget of ``seconds`` is simulated;
    what was not recorded costs none. Metrics with a learning curve follow the fidelity; all others ignore
    it, such as the 12-epoch accuracy of NAS-Bench-201, which is a schedule of its own and no part of the
    200-epoch one. An answer does not depend on the replicate, except for metrics in ``runs`` or with noise.

    A space whose only decision is the row number is looked up by it; any other must have just the table's
    decisions.

    Args:
        space: of the candidates.
        table: file, or ``synthetic``.
        metrics: names of objectives and the columns that stand for them, such as
            ``{accuracy: cifar10_hp12_valid_accuracy}``; they are added to the columns.
        runs: trained metrics that are answered with a single run, the replicate's (counted around the runs
            that the row has), instead of the mean.
        noise: standard deviation of the Gaussian noise put on trained metrics, in their unit; it is the
            same for the same run seed, architecture, metric, fidelity and replicate.
        checksum: of the table that is expected; None accepts any.

    Raises:
        BadInput: the table cannot be opened, is of another space, or lacks what a setting names.
    """

    batched: ClassVar[bool] = True
    builds: ClassVar[bool] = False

    def __init__(
        self,
        space: Space,
        table: str | Path | Table,
        *,
        metrics: Mapping[str, str] | None = None,
        runs: Sequence[str] = (),
        noise: float = 0.0,
        checksum: str | None = None,
    ) -> None:
        self.table = table if isinstance(table, Table) else Table.open(table, checksum)
        self._by_row = check_space(space, self.table)
        self._columns = named_columns(self.table, metrics)
        self._runs = self._checked_runs(runs)
        self._noise = _standard_deviation(noise)
        of = {name: self.table.metrics[column] for name, column in self._columns.items()}
        self.metrics = frozenset(of)
        self.functional = frozenset(name for name, m in of.items() if m.nature == "trained")
        self.cheap = frozenset(name for name, m in of.items() if m.nature == "static")
        self.multi_fidelity = frozenset(name for name, m in of.items() if m.fidelities)

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Look all of them up together.

        Raises:
            UnknownMetric: the table has no such column.
            BadInput: a candidate is no architecture of the space.
        """
        rows = self.rows([_architecture(p) for p in proposals])
        outcomes: list[Outcome | None] = [None] * len(proposals)
        for (metrics, fidelity, replicate), at in _alike(proposals).items():
            values = [self._values(m, rows[at], fidelity, replicate) for m in metrics]
            seconds = self.table.seconds([self._column(m) for m in metrics], rows[at], fidelity)
            table = np.stack(values, axis=1).astype(np.float64)
            for i, row, cost in zip(at, table.tolist(), seconds.tolist(), strict=True):
                found = dict(zip(metrics, row, strict=True))
                outcomes[i] = self._outcome(proposals[i], int(rows[i]), found, cost, seed)
        return [outcome for outcome in outcomes if outcome is not None]

    def rows(self, architectures: Sequence[Architecture]) -> Rows:
        """The table's rows of architectures, shape (n,); -1 where there is none."""
        if self._by_row:
            return np.array([a[ROW] for a in architectures], dtype=np.int64)
        return self.table.rows(architectures)

    def _values(self, name: str, rows: Rows, fidelity: float, replicate: int) -> NDArray[Any]:
        column = self._column(name)
        if column in self._runs:
            single = [self.table.values(run, fidelity)[rows] for run in self._runs[column]]
            return _single_run(np.stack(single), replicate)
        values: NDArray[Any] = self.table.values(column, fidelity)[rows]
        return values

    def _outcome(
        self, proposal: Proposal, row: int, values: dict[str, float], seconds: float, seed: int
    ) -> Outcome:
        if row < 0:
            return Failure("error", absent(self.table, proposal.candidate))
        for name, value in values.items():
            if not math.isfinite(value):
                metric = self.table.metrics[self._column(name)]
                return _failure(metric, proposal, seconds)
        if self._noise:
            values = {name: value + self._drawn(name, proposal, seed) for name, value in values.items()}
        return Measurement(values, seconds)

    def _drawn(self, name: str, proposal: Proposal, seed: int) -> float:
        if name not in self.functional:
            return 0.0
        path = ("table", "noise", proposal.candidate.key, name, str(proposal.fidelity), proposal.replicate)
        return self._noise * float(stream(seed, *path).standard_normal())

    def _column(self, name: str) -> str:
        try:
            return self._columns[name]
        except KeyError:
            raise unknown_metric(name, self.metrics) from None

    def _checked_runs(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        runs: dict[str, tuple[str, ...]] = {}
        for name in names:
            metric = self.table.metrics[self._column_of(name)]
            if not metric.runs:
                having = sorted(m.name for m in self.table.metrics.values() if m.runs)
                raise must("runs", f"name metrics with single runs: {', '.join(having) or 'none'}", name)
            runs[metric.name] = metric.runs
        return runs

    def _column_of(self, name: str) -> str:
        if name not in self._columns:
            raise unknown_metric(name, self._columns).at("runs")
        return self._columns[name]


def named_columns(table: Table, metrics: Mapping[str, str] | None) -> dict[str, str]:
    """Columns by the names that objectives may use: their own, and those of ``metrics``.

    Raises:
        BadInput: a column is unknown, or a name is one of another column.
    """
    columns = {name: name for name in table.metrics}
    for name, column in (metrics or {}).items():
        if column not in table.metrics:
            raise unknown_metric(column, table.metrics).at(f"metrics.{name}")
        if columns.get(name, column) != column:
            raise must(f"metrics.{name}", "stand for the column of that name, or be a new name", column)
        columns[name] = column
    return columns


def check_space(space: Space, table: Table) -> bool:
    """Whether the space addresses the table's rows by number; else it has just the table's decisions.

    Raises:
        BadInput: it has others, or lacks a value that the table has.
    """
    own = [leaf.name for leaf in space.leaves]
    if own == [ROW]:
        if space.leaves[0].size != table.size:
            raise must("the pool", f"have the {table.size:,} rows of {table.name}", space.leaves[0].size)
        return True
    names = [c.name for c in table.columns]
    if set(own) != set(names):
        apart = sorted(set(own) ^ set(names))[0]
        raise must(f"the space of table {table.name}", f"have the decisions {', '.join(names)}", apart)
    for column in table.columns:
        leaf = space.by_name[column.name]
        if isinstance(leaf, Real) != (not column.options):
            raise must(f"{column.name} of the space", "be real just where the table's is", repr(leaf))
        try:
            for value in column.options or table.column(column.name).tolist():
                leaf.canonical(value)
        except BadInput as error:
            remedy = "set the space as the table was made"
            raise must(
                f"the space of table {table.name}", "have all its values", error.message, remedy
            ) from error
    return False


def absent(table: Table, candidate: object) -> str:
    """Why a candidate has no row, and what can be done."""
    if table.complete:
        return f"{candidate!r} is not in the table {table.name}, which holds the whole space"
    return (
        f"{candidate!r} is not among the {table.size:,} rows of {table.name}, a sample of its space; "
        "search the rows with space: {name: pool, table: …}, or ask the evaluator tabular_surrogate"
    )


def _architecture(proposal: Proposal) -> Architecture:
    if not isinstance(proposal.candidate, Architecture):
        raise must("a candidate", "be an architecture to be looked up", proposal.candidate)
    return proposal.candidate


def _alike(proposals: Sequence[Proposal]) -> dict[tuple[tuple[str, ...], float, int], list[int]]:
    """Positions of the proposals that ask for the same metrics at the same fidelity and replicate."""
    groups: dict[tuple[tuple[str, ...], float, int], list[int]] = {}
    for i, p in enumerate(proposals):
        groups.setdefault((p.metrics, p.fidelity, p.replicate), []).append(i)
    return groups


def _single_run(runs: NDArray[Any], replicate: int) -> NDArray[Any]:
    """The replicate's run of each row, counted around those that it has; ``runs`` is (runs, n)."""
    order = np.argsort(np.isnan(runs), axis=0, kind="stable")
    there = np.maximum(1, (~np.isnan(runs)).sum(axis=0))
    columns = np.arange(runs.shape[1])
    values: NDArray[Any] = runs[order[replicate % there, columns], columns]
    return values


def _failure(metric: Metric, proposal: Proposal, seconds: float) -> Failure:
    reason = f"the table has no {metric.name} of {proposal.candidate!r}: {metric.missing}"
    return Failure("diverged" if "diverged" in metric.missing else "error", reason, seconds)


def _standard_deviation(noise: object) -> float:
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < math.inf:
        raise must("noise", "be a finite number of at least 0", noise)
    return float(noise)
