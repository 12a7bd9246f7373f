"""A table before it is written: plain columns, which `Draft.write` codes, orders and checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.columnar import pack
from nas.errors import must
from nas.table import Metric, Nature, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nas.decision import Value


@final
@dataclass
class Draft:
    """What an importer read.

    Args:
        name: of the benchmark, and ``/part`` where it has several tables.
        paper: who measured it.
        files: the imported files' names and checksums.
        decisions: values of each decision, one a row. A list holds text, whole numbers, booleans or a few
            numbers, None where the decision is inactive; an array of float64 is a real decision.
        complete: number of rows that the whole space has; None for a sample of it.
        metrics, arrays: what was measured, and its values: shape (rows,), or (points, rows) with a curve.
        notes: what was masked or converted.
    """

    name: str
    paper: str
    files: Mapping[str, str]
    decisions: Mapping[str, Sequence[Value] | NDArray[np.float64]]
    complete: int | None = None
    metrics: list[Metric] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        values: NDArray[Any],
        unit: str = "1",
        nature: Nature = "trained",
        *,
        cost: str = "",
        runs: Sequence[str] = (),
        fidelities: Sequence[float] = (),
        missing: str = "it was not measured",
    ) -> None:
        """Add a metric; the arguments are those of `Metric`. Integers become float64."""
        array = values if values.dtype == np.float32 else values.astype(np.float64)
        absent = missing if np.isnan(array).any() else ""
        points = tuple(float(f) for f in fidelities)
        self.metrics.append(Metric(name, unit, nature, cost, tuple(runs), points, absent))
        self.arrays[name] = array

    def mask(self, name: str, values: NDArray[Any], faulty: NDArray[np.bool_], why: str) -> NDArray[Any]:
        """The values with NaN where they are faulty, which the notes count."""
        if faulty.any():
            self.notes.append(f"{name}: {int(faulty.sum()):,} values masked, {why}")
        return np.where(faulty, np.array(np.nan, values.dtype), values)

    def write(self, out: Path) -> bool:
        """Write the table; False when the file holds exactly this already.

        A sample's rows are put in an order in which near rows are alike, so that a step in the row number
        is a small change.

        Raises:
            BadInput: rows are missing or repeat, or the file holds something else.
        """
        data = self.packed()
        if out.is_file():
            if out.read_bytes() == data:
                return False
            raise must("--out", "be new, or hold just this table", str(out), "remove it or choose another")
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        part.write_bytes(data)
        part.replace(out)
        Table.open(out)
        return True

    def packed(self) -> bytes:
        """The bytes of the table.

        Raises:
            BadInput: rows are missing or repeat.
        """
        columns, arrays = self._coded()
        rows = len(next(iter(arrays.values())))
        self._check(arrays, rows)
        if self.complete is None:
            order = near_order(_unit(arrays))
            arrays = {name: a[order] for name, a in arrays.items()}
        else:
            order = np.arange(rows)
        header = {
            "name": self.name,
            "rows": rows,
            "complete": self.complete is not None,
            "source": {"paper": self.paper, "files": dict(self.files)},
            "notes": self.notes,
            "columns": columns,
            "metrics": [asdict(m) for m in self.metrics],
        }
        stored = {f"decision:{name}": a for name, a in arrays.items()}
        return pack(header, {**stored, **{f"metric:{n}": a[..., order] for n, a in self.arrays.items()}})

    def _coded(self) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
        columns, arrays = [], {}
        for name, values in self.decisions.items():
            if isinstance(values, np.ndarray):
                arrays[name] = np.array([float(f"{v:.12g}") for v in values])
                columns.append({"name": name, "options": [], "absent": False})
                continue
            options = sorted({v for v in values if v is not None}, key=_rank)
            code = {v: i for i, v in enumerate(options)} | {None: -1}
            dtype = np.int8 if len(options) < 128 else np.int16
            arrays[name] = np.array([code[v] for v in values], dtype=dtype)
            columns.append({"name": name, "options": options, "absent": bool((arrays[name] < 0).any())})
        return columns, arrays

    def _check(self, arrays: Mapping[str, NDArray[Any]], rows: int) -> None:
        if self.complete is not None and rows != self.complete:
            raise must(f"{self.name}: rows", f"be {self.complete:,}", rows, "fetch the whole table again")
        stacked = np.stack([a.astype(np.float64) for a in arrays.values()], axis=1)
        distinct, counts = np.unique(stacked, axis=0, return_counts=True)
        if len(distinct) < rows:
            first = int(np.nonzero((stacked == distinct[np.argmax(counts)]).all(axis=1))[0][1])
            raise must(f"{self.name}: rows", "hold each choice once", f"row {first} again", "average repeats")


def _rank(value: Value) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _unit(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Columns scaled by their ranks to [0, 1], shape (rows, decisions)."""
    ranks = [np.unique(a, return_inverse=True) for a in arrays.values()]
    return np.stack([inverse / max(1, len(values) - 1) for values, inverse in ranks], axis=1)


def near_order(vectors: NDArray[np.float64]) -> NDArray[np.int64]:
    """An order in which neighbours are alike: the set is halved along its widest column, again and again.

    Args:
        vectors: shape (n, d).

    Returns:
        Shape (n,): positions.

    Source: the leaves of a k-d tree (Bentley 1975), in order.
    """
    pieces, finished = [np.arange(len(vectors))], []
    while pieces:
        piece = pieces.pop()
        spread = vectors[piece].std(axis=0)
        if len(piece) <= 2 or not spread.any():
            finished.append(piece)
            continue
        ordered = piece[np.argsort(vectors[piece, int(np.argmax(spread))], kind="stable")]
        half = len(piece) // 2
        pieces += [ordered[half:], ordered[:half]]
    return np.concatenate(finished)
