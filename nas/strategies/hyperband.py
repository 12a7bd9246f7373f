"""Hyperband: successive halving that also begins higher up, in case short trainings mislead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.strategies.halving import Halving
from nas.strategies.rungs import fidelities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.objective import Objective
    from nas.space import Space
    from nas.strategy import Strategy


def hyperband(
    space: Space,
    objectives: Sequence[Objective],
    strategy: Strategy | None = None,
    eta: float = 3.0,
    min_fidelity: float = 1 / 27,
) -> Halving:
    """`Halving` in as many brackets as there are rungs; the last one trains everything in full.

    Source: Li et al. 2018, Algorithm 1. Deviations: those of `Halving`; brackets run side by side and share
    the budget evenly, instead of one after the other.

    Args:
        space, objectives, strategy, eta, min_fidelity: as in `Halving`.

    Raises:
        BadInput: a setting is out of its range.
    """
    brackets = len(fidelities(eta, min_fidelity))
    return Halving(space, objectives, strategy, eta, min_fidelity, brackets)
