"""Records front by front, and where each stands among all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nas.strategies.ranking import Record


def fronts(records: Sequence[Record], size: int) -> Iterator[list[int]]:
    """Positions front by front, until ``size`` are reached; each amount of violation has fronts of its own.

    Records of equal violation are told apart by their objectives. Best first.
    """
    violation = np.array([record.violation for record in records])
    reached = 0
    for level in np.unique(violation):
        members = np.flatnonzero(violation == level)
        for front in _sorted([records[i] for i in members.tolist()], size - reached):
            yield members[front].tolist()
            reached += len(front)
        if reached >= size:
            return


def _sorted(records: Sequence[Record], size: int) -> list[NDArray[np.intp]]:
    """Fronts of records of equal violation; by plain sorting where there is one goal or one record."""
    costs = np.array([record.costs for record in records])
    if len(records) > 1 and costs.shape[1] > 1:
        found: list[NDArray[np.intp]] = NonDominatedSorting().do(costs, n_stop_if_ranked=size)
        return found
    order = np.argsort(costs[:, 0], kind="stable")
    return np.split(order, np.flatnonzero(np.diff(costs[order, 0])) + 1)


def standing(records: Sequence[Record | None]) -> NDArray[np.float64]:
    """How good each is among all: the share of the others that stand on a worse front, ties counting half.

    Scale-free, equal for one objective and for several, and blind to how bad an outlier is.

    Args:
        records: n records; None for what could not be measured, which stands below all others.

    Returns:
        Shape (n,), in [0, 1]; 0.5 for a single one.
    """
    level = np.full(len(records), np.inf)
    known = [i for i, record in enumerate(records) if record is not None]
    measured = [record for record in records if record is not None]
    for depth, front in enumerate(fronts(measured, len(measured)) if measured else ()):
        for i in front:
            level[known[i]] = depth
    _, front_of, sizes = np.unique(level, return_inverse=True, return_counts=True)
    worse = len(records) - np.cumsum(sizes)
    share: NDArray[np.float64] = (worse + (sizes - 1) / 2)[front_of] / max(1, len(records) - 1)
    return np.full(1, 0.5) if len(records) == 1 else share
