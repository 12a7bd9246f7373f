"""Tables of real trainings: every measured architecture as a row, looked up by its choices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import numpy as np

from nas import columnar
from nas.architecture import Architecture
from nas.errors import must, unknown_metric
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nas.decision import Value

SUFFIX = ".table"
ROW = "row"
"""The decision of a space that addresses the rows of a table by number."""
SHIPPED = Path(__file__).parent / "tables"
"""Folder of the tables that come with the toolkit."""
NAMED = ("synthetic", "cell125")
"""Their names: a small invented table, and the cells of ``benchmarks/cell125.py``."""

Nature: TypeAlias = Literal["trained", "static", "seconds"]
Rows: TypeAlias = "NDArray[np.int64]"

_DENSE = 2**24


@final
@dataclass(frozen=True)
class Column:
    """A decision as a table holds it.

    Args:
        name: as in the space.
        options: the values that occur, ascending; a row stores a position in it, -1 where the decision is
            inactive. Empty for a real decision, whose values are stored themselves.
        absent: whether the decision is inactive in some rows.
    """

    name: str
    options: tuple[Value, ...]
    absent: bool


@final
@dataclass(frozen=True)
class Metric:
    """A measured column.

    Args:
        name: as objectives name it.
        unit: ``1`` for fractions and counts.
        nature: ``trained`` depends on the computed function only; ``static`` (sizes, latencies, energies)
            is known without training; ``seconds`` is a recorded cost.
        cost: column of the seconds that a training for it took; empty where none is recorded.
        runs: columns of its single runs, which differ in their seeds.
        fidelities: share of the full schedule at each point of its curve, ascending; empty without one.
        missing: why a value can be missing; empty where none is.
    """

    name: str
    unit: str = "1"
    nature: Nature = "trained"
    cost: str = ""
    runs: tuple[str, ...] = ()
    fidelities: tuple[float, ...] = ()
    missing: str = ""


class _Index(dict[Any, int]):
    """Rows by the values of their decisions; -1 where there is none."""

    def __missing__(self, values: object) -> int:
        return -1


@final
class Table:
    """A memory-mapped table, as `Table.open` gives it.

    Attributes:
        name: of the benchmark, and ``/part`` where it has several tables.
        size: number of rows.
        complete: whether every feasible architecture of the space has a row; else it is a sample.
        checksum: 32 hexadecimal digits of the contents.
        columns: the decisions, in order.
        metrics: by name.
        source: who measured, and the files that were imported with their checksums.
        notes: what the import masked or converted.
    """

    def __init__(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], checksum: str) -> None:
        self.name: str = header["name"]
        self.size: int = header["rows"]
        self.complete: bool = header["complete"]
        self.source: Mapping[str, Any] = header["source"]
        self.notes: tuple[str, ...] = tuple(header["notes"])
        self.checksum = checksum
        self.columns = tuple(Column(c["name"], tuple(c["options"]), c["absent"]) for c in header["columns"])
        self.metrics: Mapping[str, Metric] = {
            m["name"]: Metric(**{**m, "runs": tuple(m["runs"]), "fidelities": tuple(m["fidelities"])})
            for m in header["metrics"]
        }
        self._arrays = arrays

    @classmethod
    def open(cls, path: str | Path, checksum: str | None = None) -> Table:
        """Map a file made by ``nas data import``.

        Args:
            path: of the file, or the name of a table that comes with the toolkit (`NAMED`).
            checksum: the contents that are expected; None accepts any.

        Raises:
            BadInput: there is no such file, or it is damaged, of another version, or of other contents.
        """
        place = SHIPPED / f"{path}{SUFFIX}" if str(path) in NAMED else Path(path)
        if not place.is_file():
            remedy = "make it with 'nas data import KIND PATH' (docs/tables.md names what to fetch)"
            condition = f"be a file made by 'nas data import', or {' or '.join(NAMED)}"
            raise must("table", condition, str(path), remedy)
        table = cls(*columnar.unpack(place))
        if checksum is not None and table.checksum != checksum:
            raise must(f"{path}: checksum", f"be {checksum}", table.checksum, "import the same data")
        return table

    # --- rows --------------------------------------------------------------------------------------

    def choices(self, row: int) -> dict[str, Value]:
        """The choices of a row; inactive decisions are absent.

        Raises:
            BadInput: there is no such row.
        """
        if isinstance(row, bool) or not isinstance(row, int | np.integer) or not 0 <= row < self.size:
            raise must("row", f"be a whole number in [0, {self.size - 1}]", row)
        found: dict[str, Value] = {}
        for column in self.columns:
            code = self.column(column.name)[row]
            if not column.options:
                found[column.name] = float(code)
            elif code >= 0:
                found[column.name] = column.options[code]
        return found

    def column(self, name: str) -> NDArray[Any]:
        """What is stored of a decision, shape (rows,): positions in its options, or values."""
        return self._arrays[f"decision:{name}"]

    @cached_property
    def codes(self) -> NDArray[np.int16]:
        """Positions in the options of every decision, shape (rows, decisions); -1 where it is inactive.

        Raises:
            BadInput: a decision is real, so that it has no options.
        """
        real = next((c.name for c in self.columns if not c.options), None)
        if real is not None:
            raise must("codes", "be asked of categorical and whole-numbered decisions", real, "use rows()")
        return np.stack([self.column(c.name).astype(np.int16) for c in self.columns], axis=1)

    def rows(self, architectures: Sequence[Architecture]) -> Rows:
        """The row of each architecture, shape (n,); -1 where there is none.

        Raises:
            BadInput: an architecture lacks a decision that all rows have.
        """
        values = map(self._values_of, map(Architecture.to_json, architectures))
        try:
            return np.fromiter(map(self._index.__getitem__, values), np.int64, len(architectures))
        except KeyError as error:
            remedy = f"{self.name} is a table of another space"
            raise must("an architecture", f"choose {error.args[0]}", "none", remedy) from None

    def find(self, codes: NDArray[Any]) -> Rows:
        """The same for positions in the options, shape (n, decisions): pure numpy, for many at once.

        Raises:
            BadInput: the shape is another, a position is out of its range, or a decision is real.
        """
        own, given = self.codes, np.asarray(codes)
        if given.ndim != 2 or given.shape[1] != len(self.columns):
            raise must("codes", f"have shape (n, {len(self.columns)})", given.shape)
        outside = (given < self._lowest) | (given > self._highest)
        if outside.any():
            column = int(np.nonzero(outside.any(axis=0))[0][0])
            bounds = f"lie in [{self._lowest[column]}, {self._highest[column]}]"
            raise must(
                f"codes of {self.columns[column].name}", bounds, int(given[outside[:, column], column][0])
            )
        packed = self._packed(given)
        dense, keys, order = self._places
        if dense is not None:
            return dense[packed.astype(np.int64)].astype(np.int64)
        at = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
        rows: Rows = order[at]
        return np.where((own[rows] == given).all(axis=1), rows, -1)

    @cached_property
    def _values_of(self) -> Callable[[Any], Any]:
        """What gives the values of choices as a tuple in the order of the columns."""
        names = [c.name for c in self.columns]
        if len(names) > 1 and not any(c.absent for c in self.columns):
            return itemgetter(*names)
        return lambda choices: tuple(map(choices.get, names))

    @cached_property
    def _index(self) -> _Index:
        columns = [self._decoded(c) for c in self.columns]
        return _Index(zip(zip(*columns, strict=True), range(self.size), strict=True))

    def _decoded(self, column: Column) -> list[Any]:
        stored = self.column(column.name).tolist()
        return [column.options[i] if i >= 0 else None for i in stored] if column.options else stored

    @cached_property
    def _lowest(self) -> NDArray[np.int64]:
        return np.array([-1 if c.absent else 0 for c in self.columns])

    @cached_property
    def _highest(self) -> NDArray[np.int64]:
        return np.array([len(c.options) - 1 for c in self.columns])

    @cached_property
    def _weights(self) -> NDArray[np.uint64]:
        """Mixed-radix weights where the number fits into 64 bits, odd random ones elsewhere."""
        radices = (self._highest - self._lowest + 1).tolist()
        if math.prod(radices) < 2**63:
            return np.array([math.prod(radices[i + 1 :]) for i in range(len(radices))], dtype=np.uint64)
        drawn = stream(0, "table", "hash").integers(2**63, size=len(radices), dtype=np.uint64)
        return drawn * np.uint64(2) + np.uint64(1)

    def _packed(self, codes: NDArray[Any]) -> NDArray[np.uint64]:
        total = np.zeros(len(codes), dtype=np.uint64)
        for i, weight in enumerate(self._weights):
            total += (codes[:, i] - self._lowest[i]).astype(np.uint64) * weight
        return total

    @cached_property
    def _places(self) -> tuple[NDArray[np.int32] | None, NDArray[np.uint64], Rows]:
        """A dense array from packed codes to rows where it is small, else the sorted keys and their rows."""
        packed = self._packed(self.codes)
        span = math.prod((self._highest - self._lowest + 1).tolist())
        order = np.argsort(packed, kind="stable")
        if span > _DENSE:
            return None, packed[order], order
        dense = np.full(span, -1, dtype=np.int32)
        dense[packed.astype(np.int64)] = np.arange(self.size, dtype=np.int32)
        return dense, packed[:0], order[:0]

    # --- values ------------------------------------------------------------------------------------

    def metric(self, name: str) -> Metric:
        """A metric by its name.

        Raises:
            UnknownMetric: the table has no such column.
        """
        if name not in self.metrics:
            raise unknown_metric(name, self.metrics)
        return self.metrics[name]

    def values(self, name: str, fidelity: float = 1.0) -> NDArray[Any]:
        """A metric of every row, shape (rows,), in its unit; NaN where it is missing.

        Args:
            name: of the metric.
            fidelity: share of the full schedule, in (0, 1]; the last point of the curve within it counts,
                at least the first. Metrics without a curve ignore it.

        Raises:
            UnknownMetric: the table has no such column.
        """
        metric, stored = self.metric(name), self._arrays.get(f"metric:{name}")
        assert stored is not None
        return stored[self.point(metric, fidelity)] if metric.fidelities else stored

    def point(self, metric: Metric, fidelity: float) -> int:
        """Position on the metric's curve at a fidelity."""
        return max(0, int(np.searchsorted(metric.fidelities, fidelity + 1e-9, side="right")) - 1)

    def missing(self, name: str) -> int:
        """Number of rows without the metric at full fidelity."""
        return int(np.isnan(self.values(name)).sum())

    def seconds(self, metrics: Sequence[str], rows: Rows, fidelity: float = 1.0) -> NDArray[np.float64]:
        """Recorded seconds of the trainings that give these metrics, shape (n,); each cost counts once.

        A metric with a curve takes the fidelity's share of its cost; one without pays it whole. What was
        not recorded is 0.
        """
        total = np.zeros(len(rows))
        costs = {self.metric(m).cost: self.metric(m) for m in metrics if self.metric(m).cost}
        for cost, metric in costs.items():
            whole = self.metric(cost).fidelities
            taken = self.values(cost, fidelity)[rows].astype(np.float64)
            share = fidelity if metric.fidelities and not whole else 1.0
            total += np.nan_to_num(taken) * share
        return total
