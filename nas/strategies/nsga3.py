"""NSGA-III for many objectives."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Any, final

import numpy as np
from pymoo.algorithms.moo.nsga3 import HyperplaneNormalization, associate_to_niches
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from pymoo.util.ref_dirs import get_reference_directions

from nas.errors import must
from nas.objective import goals
from nas.strategies.breeding import Breeding
from nas.strategies.generational import Generational

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nas.objective import Objective
    from nas.space import Space
    from nas.strategies.ranking import Record


def nsga3(
    space: Space,
    objectives: Sequence[Objective],
    population: int = 50,
    partitions: int | None = None,
    crossover: float = 0.9,
    mutation: Mapping[str, Any] | None = None,
) -> Generational:
    """Keeps the best fronts and, within the last one that fits, members of the emptiest directions.

    Source: Deb & Jain 2014, Algorithms 1 to 4; Jain & Deb 2014, secs. II and III for constraints.
    Deviations: those of `Generational`; one layer of reference directions however many the objectives.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
        population: members that survive a generation, and offspring of one, at least 2; so many random
            architectures begin the search.
        partitions: divisions of each axis by the reference directions, at least 1; None for as many as give
            no more directions than members.
        crossover: chance that a child has two parents, in [0, 1].
        mutation: as in `Breeding`; None changes one decision.

    Raises:
        BadInput: a setting is out of its range.
    """
    if population < 2:
        raise must("population", "be at least 2", population)
    dimensions = len(goals(objectives))
    if partitions is None:
        partitions = _partitions(dimensions, population)
    if partitions < 1:
        raise must("partitions", "be at least 1", partitions)
    directions = get_reference_directions("das-dennis", dimensions, n_partitions=partitions)
    breeding = Breeding(space, crossover, mutation)
    return Generational(
        space, objectives, population, population, breeding, _less_violating, Niching(directions)
    )


def _partitions(dimensions: int, population: int) -> int:
    """The most divisions whose directions are no more than the members; at least 1, at most the population.

    Source: Deb & Jain 2014, eq. 3.
    """
    fits = [p for p in range(1, population + 1) if comb(dimensions + p - 1, p) <= population]
    return max(fits, default=1)


def _less_violating(members: Sequence[Record], rng: np.random.Generator) -> Record:
    """Of two random members the less violating one, else the first: the fronts do not count here."""
    first, second = (members[int(rng.random() * len(members))] for _ in range(2))
    return second if second.violation < first.violation else first


@final
class Niching:
    """Survival by reference directions; ideal and extreme points outlast a generation.

    Args:
        directions: shape (directions, goals), each of sum 1.
    """

    def __init__(self, directions: NDArray[np.float64]) -> None:
        self._directions = directions
        self._plane = HyperplaneNormalization(directions.shape[1])

    def __call__(self, records: Sequence[Record], size: int, rng: np.random.Generator) -> list[Record]:
        """Feasible records by niches; where they are too few, all of them and the least violating others."""
        feasible = [record for record in records if record.violation == 0]
        broken = sorted((r for r in records if r.violation > 0), key=lambda record: record.violation)
        if not feasible:
            return broken[:size]
        costs = np.array([record.costs for record in feasible])
        fronts = NonDominatedSorting().do(costs, n_stop_if_ranked=size)
        self._plane.update(costs, nds=fronts[0])
        if len(feasible) <= size:
            return (feasible + broken)[:size]
        order = np.concatenate(fronts)
        niche, distance, _ = associate_to_niches(
            costs[order], self._directions, self._plane.ideal_point, self._plane.nadir_point
        )
        sure = len(order) - len(fronts[-1])
        places = [*range(sure), *self._fill(niche, distance, sure, size, rng)]
        return [feasible[i] for i in order[places].tolist()]

    def _fill(
        self,
        niche: NDArray[np.intp],
        distance: NDArray[np.float64],
        sure: int,
        size: int,
        rng: np.random.Generator,
    ) -> list[int]:
        """Positions from ``sure`` on that fill up to ``size``, one at a time into an emptiest niche.

        Source: Deb & Jain 2014, Algorithm 4.
        """
        count = np.bincount(niche[:sure], minlength=len(self._directions))
        waiting: dict[int, list[int]] = {}
        for i in range(sure, len(niche)):
            waiting.setdefault(int(niche[i]), []).append(i)
        taken: list[int] = []
        while sure + len(taken) < size:
            least = min(count[j] for j in waiting)
            emptiest = [j for j in waiting if count[j] == least]
            j = emptiest[int(rng.random() * len(emptiest))]
            near = min(waiting[j], key=lambda i: distance[i])
            i = near if least == 0 else waiting[j][int(rng.random() * len(waiting[j]))]
            waiting[j].remove(i)
            if not waiting[j]:
                del waiting[j]
            count[j] += 1
            taken.append(i)
        return taken
