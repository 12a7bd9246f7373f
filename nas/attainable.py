"""Whether anything can meet the bounds on cheap metrics, asked before anything is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nas.errors import Infeasible
from nas.feasible import bounded, walk
from nas.objective import violations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from nas.architecture import Architecture
    from nas.evaluator import Known
    from nas.objective import Objective
    from nas.space import Space

SAMPLES = 256
"""Random architectures that are looked at, before the search walks on from the nearest one."""
WALKS = 3
"""Walks from the nearest one: where one is caught, another may pass."""


def check_attainable(
    space: Space, objectives: Sequence[Objective], known: Known, rng: np.random.Generator
) -> None:
    """Look for one architecture that meets every absolute bound on a cheap metric.

    Random sampling alone would give up tight bounds that a search reaches, so three walks go on from the
    nearest architecture, until no change of a single decision brings them nearer.

    Raises:
        Infeasible: there seems to be none; the nearest value is named, such as the fastest that was found.
    """
    wanted = bounded(objectives, known)
    if not wanted:
        return
    seen: dict[Architecture, Mapping[str, float]] = {}

    def miss(architecture: Architecture) -> float:
        if architecture not in seen:
            (seen[architecture],) = known.values([architecture], [o.metric for o in wanted])
        return float(violations([seen[architecture]], wanted)[0])

    nearest: tuple[float, Architecture] | None = None
    for _ in range(SAMPLES):
        tried = space.sample(rng)
        missed = miss(tried)
        if missed == 0.0:
            return
        if math.isfinite(missed) and (nearest is None or missed < nearest[0]):
            nearest = missed, tried
    if nearest is None:
        return
    reached = [walk(space, nearest[1], miss, rng) for _ in range(WALKS)]
    found, missed = min(reached, key=lambda end: end[1])
    if missed > 0.0:
        raise _unattainable(wanted, seen[found], len(seen))


def _unattainable(wanted: Sequence[Objective], values: Mapping[str, float], looked_at: int) -> Infeasible:
    for o in wanted:
        assert o.bound is not None
        if o.bound.violation(values[o.metric], None) > 0:
            extreme = "least" if o.bound.sense == "<=" else "most"
            return Infeasible(
                f"{o.metric} must be {o.bound}, got {values[o.metric]:g} at the nearest of "
                f"{looked_at:,} architectures, the {extreme} that was found; "
                "loosen the bound or widen the space",
                "objectives",
            )
    raise AssertionError("a miss violates a bound")
