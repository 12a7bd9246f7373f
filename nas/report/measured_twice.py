"""Architectures that a run measured, beside what another run or a table says of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.architecture import Architecture
from nas.errors import must, unknown_metric
from nas.estimators.tabular import TabularEvaluator
from nas.objective import goals
from nas.proposal import Measurement, Proposal
from nas.report.agreement import FEWEST, Agreement, rank_agreement
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nas.result import Result

Column = dict[Architecture, float]
"""Values by architecture, larger is better."""


@final
@dataclass(frozen=True)
class MeasuredTwice:
    """What a run and somebody else say of the same architectures.

    Attributes:
        metric, against: names of the metrics.
        left, right: how many architectures each of the two has measured.
        agreement: on those that both have.
    """

    metric: str
    against: str
    left: int
    right: int
    agreement: Agreement

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        counts = {"measured": self.left, "measured_by_other": self.right}
        return {"metric": self.metric, "against": self.against, **counts, **self.agreement.to_json()}


def compared_with_run(run: Result, other: Result, metrics: Sequence[str] = ()) -> MeasuredTwice:
    """Ranks of a run's architectures, by it and by another run, such as one that trained them.

    Values are those of full fidelity, the mean over replicates. A metric is better where it is larger, unless
    an objective of its run minimises it.

    Args:
        run, other: of the same space.
        metrics: of the run and of the other, the first goal where none is named; the other's is of the same
            name where it measured such a one.

    Raises:
        UnknownMetric: no trial of a run has the metric.
        BadInput: fewer than 5 architectures are in both, or a metric is the same for all of them.
    """
    metric, named = _two(metrics)
    name = metric or goals(run.parts.objectives)[0].metric
    known = _metrics(other)
    against = named or (name if name in known else goals(other.parts.objectives)[0].metric)
    return _compared(name, _column(run, name), against, _column(other, against), run.parts.search.seed)


def compared_with_table(run: Result, table: str | Path, metrics: Sequence[str] = ()) -> MeasuredTwice:
    """Ranks of a run's architectures, by it and by a table of real trainings.

    Args:
        run: of the table's space; see `compared_with_run`.
        table: a file, or the name of a table that comes with the toolkit.
        metrics: of the run, and the table's column, which has the same name unless it is given.

    Raises:
        UnknownMetric: no trial of the run, or not the table, has the metric.
        BadInput: the table is of another space, fewer than 5 architectures are in both, or a metric is the
            same for all of them.
    """
    metric, named = _two(metrics)
    name = metric or goals(run.parts.objectives)[0].metric
    column, against = _column(run, name), named or name
    rows = TabularEvaluator(run.parts.space, table)
    if against not in rows.metrics:
        raise unknown_metric(against, rows.metrics)
    found = rows.evaluate([Proposal(a, (against,)) for a in column], seed=0)
    sign = _sign(run, against)
    right = {
        a: sign * o.values[against]
        for a, o in zip(column, found, strict=True)
        if isinstance(o, Measurement) and math.isfinite(o.values[against])
    }
    return _compared(name, column, against, right, run.parts.search.seed)


def _two(metrics: Sequence[str]) -> tuple[str | None, str | None]:
    if len(metrics) > 2:
        raise must("--metric", "name at most two: the run's and the other's", list(metrics))
    first, second = (*metrics, None, None)[:2]
    return first, second


def _compared(name: str, left: Column, against: str, right: Column, seed: int) -> MeasuredTwice:
    both = [a for a in left if a in right]
    if len(both) < FEWEST:
        has = f"{len(both)} of {len(left)} and {len(right)}"
        raise must("the architectures measured by both", f"be at least {FEWEST}", has, "measure more of them")
    a, b = (np.array([column[x] for x in both]) for column in (left, right))
    rng = stream(seed, "ranks", "agreement")
    agreement = rank_agreement(a, b, rng=rng, names=(f"{name} of the run", f"{against} of the other"))
    return MeasuredTwice(name, against, len(left), len(right), agreement)


def _metrics(run: Result) -> set[str]:
    return {metric for trial in run.history.trials for metric in trial.values}


def _column(run: Result, metric: str) -> Column:
    """The metric of each architecture that the run measured at full fidelity, the mean over replicates."""
    if metric not in (known := _metrics(run)):
        raise unknown_metric(metric, known)
    found: dict[Architecture, dict[int, float]] = {}
    for trial in run.history.trials:
        a, value = trial.proposal.candidate, trial.values.get(metric, math.nan)
        if isinstance(a, Architecture) and trial.proposal.fidelity == 1.0 and math.isfinite(value):
            found.setdefault(a, {})[trial.proposal.replicate] = value
    sign = _sign(run, metric)
    return {a: sign * _mean(values) for a, values in found.items()}


def _mean(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values)


def _sign(run: Result, metric: str) -> float:
    """-1 for what the run minimises."""
    return -1.0 if any(o.metric == metric and o.goal == "min" for o in run.parts.objectives) else 1.0
