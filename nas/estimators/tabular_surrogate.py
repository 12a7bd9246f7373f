"""Predictions for a whole space from a sample of it: extra trees fitted to a table's rows."""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from nas.architecture import Architecture
from nas.errors import BadInput, must, unknown_metric
from nas.evaluator import Evaluator, check_measured
from nas.proposal import Measurement, Outcome, Proposal
from nas.rng import derive, stream
from nas.table import ROW, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nas.objective import Objective
    from nas.space import Space

log = logging.getLogger(__name__)

HELD_OUT = 0.2
"""Share of the rows that the forests never see and are judged by."""
TREES = 100


@final
class TabularSurrogate(Evaluator):
    """Predicts a table's metrics for any architecture of its space.

    For each metric, a forest of extra trees is fitted to four fifths of the rows (options as ascending
    positions, -1 where a decision is inactive) and judged on the rest: its R², rank correlation and mean
    absolute error are logged, and kept in the notes of every measurement. It learns ranks, which are turned
    back into the metric's unit, so that a few wild readings or exploded losses do not spoil the rest.
    Everything is a function of the table alone; rows without the metric are left out, so a diverged training
    is never predicted. Metrics with a curve are predicted at full fidelity. ``seconds`` are the predicted
    costs, where costs were recorded.

    Args:
        space: with the table's decisions; all their values must occur in the table.
        table: file, or ``synthetic``.
        objectives: whose metrics are predicted unless ``predict`` is given.
        metrics: as in `TabularEvaluator`.
        predict: names of the metrics to fit; None for the objectives'.
        checksum: of the table that is expected; None accepts any.

    Raises:
        BadInput: the table cannot be opened, is of another space, or has fewer than 20 rows with a metric.

    Source: Geurts et al. 2006, with the default settings of scikit-learn and 100 trees; deviation: the target
    is the rank.
    """

    batched: ClassVar[bool] = True
    builds: ClassVar[bool] = False

    def __init__(
        self,
        space: Space,
        table: str | Path | Table,
        *,
        objectives: Sequence[Objective] = (),
        metrics: Mapping[str, str] | None = None,
        predict: Sequence[str] | None = None,
        checksum: str | None = None,
    ) -> None:
        self.table = table if isinstance(table, Table) else Table.open(table, checksum)
        self._codes = _codes_of(space, self.table)
        named = {**{n: n for n in self.table.metrics}, **(metrics or {})}
        wanted = [o.metric for o in objectives if o.metric in named] if predict is None else list(predict)
        for name in wanted:
            if name not in named:
                raise unknown_metric(name, named).at("predict")
            if named[name] not in self.table.metrics:
                raise unknown_metric(named[name], self.table.metrics).at(f"metrics.{name}")
        if not wanted:
            raise must("predict", "name at least one metric of the table", wanted)
        self._columns = {name: named[name] for name in wanted}
        costs = {self.table.metrics[c].cost for c in self._columns.values()} - {""}
        self._forests = {c: fitted(self.table, c) for c in (*self._columns.values(), *sorted(costs))}
        self._known: dict[Architecture, dict[str, float]] = {}
        nature = {name: self.table.metrics[c].nature for name, c in self._columns.items()}
        self.metrics = frozenset(nature)
        self.functional = frozenset(n for n, kind in nature.items() if kind == "trained")
        self.cheap = frozenset(n for n, kind in nature.items() if kind == "static")
        self.notes = {f"{c} predicted": str(errors) for c, (_, errors) in self._forests.items()}

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:  # noqa: ARG002
        """Predict all of them together; the same architecture is predicted once.

        Raises:
            UnknownMetric: a metric was not fitted.
        """
        for proposal in proposals:
            if not isinstance(proposal.candidate, Architecture):
                raise must("a candidate", "be an architecture to be predicted", proposal.candidate)
            check_measured(proposal.metrics, self.metrics)
        self._learn([p.candidate for p in proposals if p.candidate not in self._known])  # type: ignore[misc]
        return [self._outcome(p) for p in proposals]

    def errors(self, metric: str) -> Errors:
        """The held-out errors of a metric's forest.

        Raises:
            UnknownMetric: it was not fitted.
        """
        if metric not in self._columns:
            raise unknown_metric(metric, self.metrics)
        return self._forests[self._columns[metric]][1]

    def _learn(self, architectures: Sequence[Architecture]) -> None:
        fresh = list(dict.fromkeys(architectures))
        if not fresh:
            return
        x = np.array([[code(a) for code in self._codes] for a in fresh], dtype=np.float64)
        predicted = {column: forest.predict(x).tolist() for column, (forest, _) in self._forests.items()}
        for i, a in enumerate(fresh):
            self._known[a] = {column: values[i] for column, values in predicted.items()}

    def _outcome(self, proposal: Proposal) -> Measurement:
        known = self._known[proposal.candidate]  # type: ignore[index]
        columns = [self._columns[m] for m in proposal.metrics]
        costs = {self.table.metrics[c].cost for c in columns} - {""}
        seconds = sum(known[cost] for cost in costs)
        values = {m: known[c] for m, c in zip(proposal.metrics, columns, strict=True)}
        return Measurement(values, seconds, notes=self.notes)


@final
@dataclass(frozen=True)
class Errors:
    """How a forest does on rows that it never saw.

    Args:
        rows: their number.
        r2: share of the variance that is explained; at most 1.
        spearman: rank correlation, in [-1, 1].
        mae: mean absolute error, in the metric's unit.
        spread: standard deviation of the metric, in its unit.
    """

    rows: int
    r2: float
    spearman: float
    mae: float
    spread: float

    def __str__(self) -> str:
        return (
            f"R2 {self.r2:.4f}, rank correlation {self.spearman:.4f}, mean absolute error {self.mae:.4g} "
            f"(spread {self.spread:.4g}) on {self.rows:,} held-out rows"
        )


@final
class Forest:
    """Regression trees as flat arrays, so that a few architectures are predicted without overhead.

    Args:
        trees: scikit-learn's trees, fitted to ranks in [0, 1].
        values: the metric of the rows that were learned from, ascending: what the ranks stand for.
    """

    def __init__(self, trees: Sequence[Any], values: NDArray[np.float64]) -> None:
        self._values = values
        starts = np.cumsum([0, *[t.node_count for t in trees]])
        self._roots = starts[:-1]
        self._feature = np.concatenate([np.maximum(t.feature, 0) for t in trees]).astype(np.int16)
        self._threshold = np.concatenate([t.threshold for t in trees])
        self._value = np.concatenate([t.value[:, 0, 0] for t in trees])
        self._left = _children([t.children_left for t in trees], starts)
        self._right = _children([t.children_right for t in trees], starts)
        self._depth = max(t.max_depth for t in trees)

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric at the mean rank over the trees, shape (n,), for vectors of shape (n, d)."""
        # scikit-learn compares features in single precision.
        x = x.astype(np.float32)
        node = np.broadcast_to(self._roots, (len(x), len(self._roots)))
        rows = np.arange(len(x))[:, None]
        for _ in range(self._depth):
            left = x[rows, self._feature[node]] <= self._threshold[node]
            node = np.where(left, self._left[node], self._right[node])
        # One row at a time, so that the sum does not depend on what else is predicted.
        ranks = np.array([row.mean() for row in self._value[node]])
        found: NDArray[np.float64] = np.interp(ranks, np.linspace(0.0, 1.0, len(self._values)), self._values)
        return found


def _children(parts: Sequence[NDArray[Any]], starts: NDArray[Any]) -> NDArray[np.int32]:
    """Positions of children in the joined arrays; a leaf is its own child."""
    joined = []
    for part, start in zip(parts, starts, strict=False):
        own = np.arange(len(part))
        joined.append(np.where(part < 0, own, part) + start)
    return np.concatenate(joined).astype(np.int32)


_fitted: dict[tuple[str, str], tuple[Forest, Errors]] = {}


def fitted(table: Table, column: str) -> tuple[Forest, Errors]:
    """The forest of a column and its held-out errors, which are logged; fitted once in a process.

    Raises:
        BadInput: fewer than 20 rows have the metric.
    """
    known = _fitted.get((table.checksum, column))
    if known is None:
        known = _fitted[table.checksum, column] = _fit(table, column)
    return known


def _fit(table: Table, column: str) -> tuple[Forest, Errors]:
    start = time.perf_counter()
    y = np.asarray(table.values(column), dtype=np.float64)
    rows = np.nonzero(np.isfinite(y))[0]
    if len(rows) < 20:
        raise must(f"{column} of {table.name}", "be in at least 20 rows to be fitted", len(rows))
    rows = rows[stream(0, "table", "held out").permutation(len(rows))]
    cut = max(1, int(HELD_OUT * len(rows)))
    x = np.stack([table.column(c.name).astype(np.float64) for c in table.columns], axis=1)
    model = ExtraTreesRegressor(TREES, random_state=derive(0, "table", "forest") % 2**31)
    seen = y[rows[cut:]]
    model.fit(x[rows[cut:]], (_ranks(seen) - 1) / (len(seen) - 1))
    forest = Forest([t.tree_ for t in model.estimators_], np.sort(seen))
    judged = _errors(y[rows[:cut]], forest.predict(x[rows[:cut]]))
    log.info("%s of %s: %s, fitted in %.1f s", column, table.name, judged, time.perf_counter() - start)
    return forest, judged


def _errors(true: NDArray[np.float64], predicted: NDArray[np.float64]) -> Errors:
    spread = float(true.std())
    r2 = 1 - float(((true - predicted) ** 2).mean()) / max(spread**2, 1e-300)
    rank = 0.0
    if spread and predicted.std():
        a, b = (_ranks(values) - (len(true) + 1) / 2 for values in (true, predicted))
        rank = float((a * b).mean() / (a.std() * b.std()))
    return Errors(len(true), r2, rank, float(np.abs(true - predicted).mean()), spread)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean ranks, equal for equal values."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return means


def _codes_of(space: Space, table: Table) -> list[Any]:
    """For each column, what gives an architecture's number in it.

    Raises:
        BadInput: the space has other decisions, or values that never occur in the table.
    """
    names = {c.name for c in table.columns}
    apart = sorted(set(space.by_name) ^ names)
    if apart:
        remedy = "a pool is looked up by 'tabular'" if ROW in apart else "name the table's own space"
        raise must(f"the space of table {table.name}", "have just its decisions", apart[0], remedy)
    codes: list[Any] = []
    for column in table.columns:
        if not column.options:
            codes.append(functools.partial(_real, column.name))
            continue
        position = {value: i for i, value in enumerate(column.options)}
        unseen = [v for v in space.by_name[column.name].values if v not in position]
        if unseen:
            raise BadInput(f"{column.name}={unseen[0]!r} never occurs in the table {table.name}")
        codes.append(functools.partial(_option, column.name, position))
    return codes


def _real(name: str, architecture: Architecture) -> float:
    return float(architecture[name])


def _option(name: str, position: Mapping[Any, int], architecture: Architecture) -> int:
    return position[architecture[name]] if name in architecture else -1
