"""NSGA-II for several objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

from nas.errors import must
from nas.strategies.breeding import Breeding
from nas.strategies.generational import Generational
from nas.strategies.sorting import fronts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.objective import Objective
    from nas.space import Space
    from nas.strategies.ranking import Record


def nsga2(
    space: Space,
    objectives: Sequence[Objective],
    population: int = 20,
    tournament: int = 2,
    crossover: float = 0.5,
    mutation: Mapping[str, Any] | None = None,
) -> Generational:
    """Keeps the best fronts and, within the last one that fits, the least crowded members.

    Source: Deb et al. 2002, secs. III and VI-A (constrained dominance, Definition 1). Deviations: those of
    `Generational`; of two members with equal rank and crowding the earlier one wins the tournament; the
    defaults are for some hundred evaluations, where a population of 20 and less crossover were ahead of 50
    (Deb: 100) and 0.9 on toys, NAS-Bench-Macro, NAS-Bench-Graph and the CPUs of HW-GPT-Bench.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
        population: members that survive a generation, and offspring of one, at least 2; so many random
            architectures begin the search.
        tournament: members drawn (with replacement) for each parent, the best of which is taken; >= 1.
        crossover: chance that a child has two parents, in [0, 1].
        mutation: as in `Breeding`; None changes one decision.

    Raises:
        BadInput: a setting is out of its range.
    """
    if population < 2:
        raise must("population", "be at least 2", population)
    if tournament < 1:
        raise must("tournament", "be at least 1", tournament)

    def winner(members: Sequence[Record], rng: np.random.Generator) -> Record:
        """The smallest place, as the population is sorted."""
        n = len(members)
        return members[min([int(u * n) for u in rng.random(tournament).tolist()])]

    breeding = Breeding(space, crossover, mutation)
    return Generational(
        space,
        objectives,
        population,
        population,
        breeding,
        winner,
        lambda records, n, _: least_crowded(records, n),
    )


def least_crowded(records: Sequence[Record], size: int) -> list[Record]:
    """At most ``size`` records, best first: by front, then by crowding distance, then in the given order.

    Source: Deb et al. 2002, secs. III-A to III-C.
    """
    kept: list[Record] = []
    for front in fronts(records, size):
        distance = get_crowding_function("cd").do(np.array([records[i].costs for i in front]))
        kept.extend(records[front[i]] for i in np.argsort(-distance, kind="stable").tolist())
    return kept[:size]
