"""What every evaluator must keep to, as plain functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from nas.proposal import Failure, Measurement, Outcome, Proposal
from nas.testing.expect import expect, generators_untouched, torch_generator_untouched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nas.evaluator import Evaluator

SEED = 11
"""The run's seed in every check."""


def check_declarations(evaluator: Evaluator, proposals: Sequence[Proposal]) -> None:
    """Metrics are named, the special ones are among them, and the proposals ask for nothing else."""
    expect(evaluator.metrics, "metrics must name what is measured, got none")
    for kind in ("functional", "measured", "cheap"):
        extra = getattr(evaluator, kind) - evaluator.metrics
        expect(not extra, f"{kind} must be among the metrics, got {sorted(extra)}")
    both = evaluator.measured & evaluator.cheap
    expect(not both, f"cheap metrics must be exactly repeatable, got the clock readings {sorted(both)}")
    asked = {metric for p in proposals for metric in p.metrics}
    expect(asked <= evaluator.metrics, f"proposals must ask for its metrics, got {sorted(asked)}")


def check_empty_in_empty_out(evaluator: Evaluator, proposals: Sequence[Proposal]) -> None:  # noqa: ARG001
    """No proposals, no outcomes."""
    outcomes = evaluator.evaluate([], seed=SEED)
    expect(outcomes == [], f"evaluate([]) must give [], got {outcomes!r}")


def check_only_asked_metrics(evaluator: Evaluator, proposals: Sequence[Proposal]) -> None:
    """One outcome a proposal: a finite number for each asked metric, or why it is missing, or a failure."""
    outcomes = evaluator.evaluate(proposals, seed=SEED)
    expect(len(outcomes) == len(proposals), f"outcomes must be {len(proposals)}, got {len(outcomes)}")
    for proposal, outcome in zip(proposals, outcomes, strict=True):
        expect(isinstance(outcome, Outcome), f"outcomes must be Measurement or Failure, got {outcome!r}")
        expect(outcome.seconds >= 0, f"seconds must be at least 0, got {outcome.seconds}")
        if isinstance(outcome, Measurement):
            _expect_metrics(evaluator, proposal, outcome)


def check_independent_of_batching(evaluator: Evaluator, proposals: Sequence[Proposal]) -> None:
    """Evaluating one by one gives exactly what evaluating together gives."""
    if evaluator.pure:
        together = evaluator.evaluate(proposals, seed=SEED)
        alone = [evaluator.evaluate([p], seed=SEED)[0] for p in proposals]
        _expect_equal(evaluator, together, alone, "evaluating one by one")


def check_independent_of_order(evaluator: Evaluator, proposals: Sequence[Proposal]) -> None:
    """Evaluating backwards gives the same outcomes backwards: order is kept, and nothing is carried over."""
    if evaluator.pure:
        forwards = evaluator.evaluate(proposals, seed=SEED)
        backwards = evaluator.evaluate(proposals[::-1], seed=SEED)[::-1]
        _expect_equal(evaluator, forwards, backwards, "evaluating in reverse order")


def check_global_generators_untouched(evaluator: Evaluator, proposals: Sequence[Proposal]) -> None:
    """Evaluating leaves the global generators of Python, NumPy and torch alone."""
    with generators_untouched("evaluate"), torch_generator_untouched("evaluate"):
        evaluator.evaluate(proposals[:1], seed=SEED)


Check: TypeAlias = "Callable[[Evaluator, Sequence[Proposal]], None]"

EVALUATOR_CHECKS: tuple[Check, ...] = (
    check_declarations,
    check_empty_in_empty_out,
    check_only_asked_metrics,
    check_independent_of_batching,
    check_independent_of_order,
    check_global_generators_untouched,
)
"""Called with an evaluator and two or more different proposals for metrics of it."""


def _expect_metrics(evaluator: Evaluator, proposal: Proposal, outcome: Measurement) -> None:
    got, asked = set(outcome.values), set(proposal.metrics)
    expect(asked <= got, f"values must hold the asked {sorted(asked)}, got {sorted(got)}")
    expect(
        got <= evaluator.metrics, f"values must be declared metrics, got {sorted(got - evaluator.metrics)}"
    )
    for metric in asked:
        value, why = outcome.values[metric], outcome.notes.get(f"missing.{metric}")
        expect(
            math.isfinite(value) or (math.isnan(value) and bool(why)),
            f"{metric} must be finite, got {value}; give a Failure instead, or NaN and say why in the note "
            f"missing.{metric}",
        )


def _expect_equal(
    evaluator: Evaluator, first: Sequence[Outcome], second: Sequence[Outcome], how: str
) -> None:
    """The same kinds of outcomes, with equal values in all metrics that no clock was read for."""
    for a, b in zip(first, second, strict=True):
        x, y = _comparable(evaluator, a), _comparable(evaluator, b)
        expect(x == y, f"{how} must not change a result, got {y} for {x}")


def _comparable(evaluator: Evaluator, outcome: Outcome) -> object:
    if isinstance(outcome, Failure):
        return outcome.kind
    return {m: v for m, v in outcome.values.items() if m not in evaluator.measured}
