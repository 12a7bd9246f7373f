"""Evolution, whichever suits the number of objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.objective import goals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.objective import Objective
    from nas.space import Space
    from nas.strategy import Strategy


def evolution(
    space: Space,
    objectives: Sequence[Objective],
    population: int | None = None,
    tournament: int | None = None,
    crossover: float | None = None,
    mutation: Mapping[str, Any] | None = None,
) -> Strategy:
    """Aging evolution for one objective, NSGA-II for several.

    Args:
        space: what is searched.
        objectives: limits do not count as objectives here.
        population: living members, at least 2; None for the algorithm's own (50, or 20 for NSGA-II).
        tournament: members drawn for each parent; None for the algorithm's own (10, or 2 for NSGA-II).
        crossover: chance that a child has two parents; None for the algorithm's own (0, or 0.5).
        mutation: as in `Breeding`; None changes one decision.

    Raises:
        BadInput: a setting is out of its range.
    """
    if len(goals(objectives)) == 1:
        from nas.strategies.aging_evolution import AgingEvolution

        return AgingEvolution(
            space,
            objectives,
            50 if population is None else population,
            tournament=10 if tournament is None else tournament,
            crossover=0.0 if crossover is None else crossover,
            mutation=mutation,
        )
    from nas.strategies.nsga2 import nsga2

    return nsga2(
        space,
        objectives,
        20 if population is None else population,
        tournament=2 if tournament is None else tournament,
        crossover=0.5 if crossover is None else crossover,
        mutation=mutation,
    )
