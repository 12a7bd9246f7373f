"""Whether anything can meet the bounds on cheap metrics, asked before anything is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nas.errors import Infeasible
from nas.objective import violations
from nas.variation import mutate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from nas.architecture import Architecture
    from nas.evaluator import Known
    from nas.objective import Objective
    from nas.space import Space

SAMPLES = 256
"""Random architectures that are looked at, and then as many mutants of the nearest one."""


def check_attainable(
    space: Space, objectives: Sequence[Objective], known: Known, rng: np.random.Generator
) -> None:
    """Look for one architecture that meets every absolute bound on a cheap metric.

    Random sampling alone would give up tight bounds that a search reaches, so half of the attempts climb
    from the nearest architecture so far.

    Raises:
        Infeasible: none of 512 architectures does; the nearest value is named.
    """
    bounded = [o for o in objectives if o.bound and not o.bound.relative and o.metric in known.metrics]
    if not bounded:
        return
    nearest: tuple[float, Architecture, Mapping[str, float]] | None = None
    for i in range(2 * SAMPLES):
        tried = space.sample(rng) if nearest is None or i < SAMPLES else mutate(space, nearest[1], rng)
        (values,) = known.values([tried], [o.metric for o in bounded])
        miss = float(violations([values], bounded)[0])
        if miss == 0.0:
            return
        if math.isfinite(miss) and (nearest is None or miss < nearest[0]):
            nearest = miss, tried, values
    if nearest is not None:
        raise _unattainable(bounded, nearest[2])


def _unattainable(bounded: Sequence[Objective], values: Mapping[str, float]) -> Infeasible:
    for o in bounded:
        assert o.bound is not None
        if o.bound.violation(values[o.metric], None) > 0:
            return Infeasible(
                f"{o.metric} must be {o.bound}, got {values[o.metric]:g} at the nearest of "
                f"{2 * SAMPLES} architectures; loosen the bound or widen the space",
                "objectives",
            )
    raise AssertionError("a miss violates a bound")
