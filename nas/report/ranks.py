"""How well cheap metrics rank architectures: correlation with an objective over a pool, with intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.budget import Budget
from nas.errors import must
from nas.evaluator import check_measured
from nas.objective import goals, minimised
from nas.parts import Parts
from nas.proposal import Proposal
from nas.report.statistics import kendall_and_interval, spearman, spearman_interval
from nas.rng import stream
from nas.strategy import Scripted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nas.architecture import Architecture
    from nas.parts import Search
    from nas.space import Space
    from nas.strategy import Rng, Script

FEWEST, MOST = 10, 3_000
"""Architectures of a pool; pairs of them are kept at once."""
SIZES = ("params", "macs", "flops")
"""Ends of the names of metrics that a training-free one is to beat."""


@final
@dataclass(frozen=True)
class Row:
    """One metric.

    Attributes:
        metric: its name.
        count: architectures with a finite value of it and of the objective.
        spearman, kendall: rank correlation with the objective, positive where more is better; Kendall's is
            tau-b. NaN below three architectures, or where all values are equal.
        spearman_95, kendall_95: the middle 95 % in 1,000 resamples of the pool.
    """

    metric: str
    count: int
    spearman: float
    spearman_95: tuple[float, float]
    kendall: float
    kendall_95: tuple[float, float]

    @property
    def is_size(self) -> bool:
        """Whether it only counts parameters or operations."""
        return self.metric.endswith(SIZES)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@final
@dataclass(frozen=True)
class Ranks:
    """A study of metrics.

    Attributes:
        objective: what they are compared with, such as ``max accuracy``.
        pool: architectures that were asked for.
        measured: those with a finite objective.
        rows: sizes first, then by Spearman's correlation, best first.
    """

    objective: str
    pool: int
    measured: int
    rows: Sequence[Row]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        rows = [row.to_json() for row in self.rows]
        return {"objective": self.objective, "pool": self.pool, "measured": self.measured, "metrics": rows}

    def better_than_size(self) -> list[str]:
        """Metrics whose lowest plausible correlation is above that of every size."""
        sizes = [row.spearman for row in self.rows if row.is_size]
        bar = max((s for s in sizes if np.isfinite(s)), default=np.nan)
        return [row.metric for row in self.rows if not row.is_size and row.spearman_95[0] > bar]


def rank_study(search: Search, pool: int = 300, metrics: Sequence[str] = ()) -> Ranks:
    """Measure a pool of a search's space, and correlate metrics with its first goal.

    What is `cheap` is looked up; all else is measured as the search would, one evaluation an architecture.
    Parameters and multiply-accumulates are always there: by a table's columns, or by the evaluator ``cost``.

    Args:
        search: its space, evaluators, objectives, executor and seed count; its strategy and budget do not.
        pool: distinct random architectures, in [10, 3000]; the whole space where it has fewer.
        metrics: names; all that need no training and no clock when empty.

    Raises:
        BadInput: as `Parts`, or the pool is out of its range.
        UnknownMetric: no evaluator measures one of the metrics.
    """
    if not FEWEST <= pool <= MOST:
        raise must("pool", f"lie in [{FEWEST}, {MOST:,}]", pool)
    parts = _with_sizes(search)
    target = goals(parts.objectives)[0]
    evaluator = parts.evaluator
    check_measured(metrics, evaluator.metrics)
    free = evaluator.metrics - evaluator.functional - evaluator.measured
    sizes = {m for m in free if m.endswith(SIZES)}
    names = sorted((set(metrics) | sizes if metrics else free) - {o.metric for o in parts.objectives})
    architectures = _drawn(parts.space, pool, search.seed)
    table = _measured(parts, architectures, [*names, target.metric])
    gains = -minimised([{target.metric: v} for v in table[:, -1]], (target,))[:, 0]
    rng = stream(search.seed, "ranks", "bootstrap")
    rows = [_row(name, table[:, i], gains, rng) for i, name in enumerate(names)]
    rows.sort(key=lambda row: (not row.is_size, -np.nan_to_num(row.spearman, nan=-2.0), row.metric))
    measured = int(np.isfinite(gains).sum())
    return Ranks(f"{target.goal} {target.metric}", len(architectures), measured, rows)


def _with_sizes(search: Search) -> Parts:
    """The parts, with an evaluator that counts parameters and operations where none does."""
    parts = Parts(search)
    if any(metric.endswith("params") for metric in parts.evaluator.metrics):
        return parts
    return Parts(replace(search, evaluators=[*search.evaluators, "cost"]))


def _drawn(space: Space, pool: int, seed: int) -> list[Architecture]:
    if space.size <= pool:
        return list(space.enumerate())
    rng, found = stream(seed, "ranks", "pool"), dict[Any, None]()
    for architecture in islice((space.sample(rng) for _ in range(20 * pool)), 20 * pool):
        found[architecture] = None
        if len(found) == pool:
            break
    return list(found)


def _measured(parts: Parts, pool: Sequence[Architecture], names: Sequence[str]) -> NDArray[np.float64]:
    """Metric values, shape (architectures, names); NaN where missing."""
    known, table = parts.offers["known"], np.full((len(pool), len(names)), np.nan)
    asked = tuple(name for name in names if name not in known.metrics)
    for column, name in enumerate(names):
        if name in known.metrics:
            table[:, column] = [row[name] for row in known.values(pool, [name])]
    if not asked:
        return table
    for row, values in enumerate(_evaluated(parts, [Proposal(a, asked) for a in pool])):
        for name in asked:
            table[row, names.index(name)] = values.get(name, np.nan)
    return table


def _evaluated(parts: Parts, proposals: Sequence[Proposal]) -> list[Any]:
    """Values by metric, in order, of one study that asks for just these; empty for a failure."""
    answered: list[Any] = []

    def script(rng: Rng) -> Script:  # noqa: ARG001 - nothing is drawn
        answered.extend((yield proposals))

    parts.strategy = Scripted(script)
    parts.study().run(Budget(trials=len(proposals)))
    return [trial.values for trial in answered]


def _row(name: str, values: NDArray[np.float64], gains: NDArray[np.float64], rng: np.random.Generator) -> Row:
    both = np.isfinite(values) & np.isfinite(gains)
    a, b, n = values[both], gains[both], int(both.sum())
    nan = float("nan")
    if n < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Row(name, n, nan, (nan, nan), nan, (nan, nan))
    tau, tau_95 = kendall_and_interval(a, b, rng)
    return Row(name, n, spearman(a, b), spearman_interval(a, b, rng), tau, tau_95)
