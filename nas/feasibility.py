"""What a target asks of the objectives: its memory limits as constraints, and bounds only on known times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nas.errors import must
from nas.objective import Bound, Objective

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.target import Target


def limited(objectives: Sequence[Objective], target: Target) -> tuple[Objective, ...]:
    """The objectives with the target's limits: as bounds of those that name a metric, as new ones else.

    Raises:
        BadInput: a metric that the target limits has a lower bound or one relative to the baseline.
    """
    named = [_tightened(o, target) for o in objectives]
    missing = target.limits.keys() - {o.metric for o in objectives}
    added = [Objective(m, "limit", Bound("<=", target.limits[m])) for m in target.limits if m in missing]
    return (*named, *added)


def _tightened(objective: Objective, target: Target) -> Objective:
    limit, bound = target.limits.get(objective.metric), objective.bound
    if limit is None:
        return objective
    if bound is None:
        return replace(objective, bound=Bound("<=", limit))
    if bound.relative or bound.sense == ">=":
        condition = f"be bounded by a number from above: {target.name} has a limit of {limit:g}"
        raise must(f"objectives.{objective.metric}", condition, str(bound))
    return replace(objective, bound=Bound("<=", min(limit, bound.offset)))


def check_calibrated(objectives: Sequence[Objective], target: Target) -> None:
    """Refuse absolute bounds on times and energies that a datasheet alone stands behind.

    Raises:
        BadInput: there is one.
    """
    for o in objectives:
        factor = target.band(o.metric)
        if factor is not None and o.bound is not None and not o.bound.relative:
            raise must(
                f"the bound {o.metric} {o.bound}",
                "be on a calibrated target",
                f"{target.name}, whose times come from its datasheet",
                f"measure nets on it with nas profile, or take predictions within a factor of {factor:g} "
                "by --accept-uncalibrated (accept_uncalibrated: true)",
            )


def bands(objectives: Sequence[Objective], target: Target) -> Mapping[str, float]:
    """The factor within which each objective's values are to be taken, for those that are guesses."""
    found = {o.metric: target.band(o.metric) for o in objectives}
    return {metric: factor for metric, factor in found.items() if factor is not None}
