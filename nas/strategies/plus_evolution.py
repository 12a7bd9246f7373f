"""The (1+λ) and (μ+λ) evolution strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.strategies.breeding import Breeding
from nas.strategies.generational import Generational
from nas.strategies.nsga2 import least_crowded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from nas.objective import Objective
    from nas.space import Space
    from nas.strategies.ranking import Record


def plus_evolution(
    space: Space,
    objectives: Sequence[Objective],
    population: int = 5,
    offspring: int = 10,
    crossover: float = 0.0,
    mutation: Mapping[str, Any] | None = None,
) -> Generational:
    """Parents drawn alike from the μ best of all so far bring forth λ children; the μ best of both stay.

    Source: Beyer & Schwefel 2002, sec. 3 ((μ+λ) selection). Deviations: those of `Generational`; violated
    bounds count before objectives, and several objectives by front and crowding (Deb et al. 2002, sec. III);
    a child replaces an equally good parent, so that the search drifts over plateaus.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
        population: μ, at least 1; 1 is a hill climber, several objectives want as many as the front shall
            hold. So many random architectures begin the search.
        offspring: λ, at least 1.
        crossover: chance that a child has two parents, in [0, 1].
        mutation: as in `Breeding`; None changes one decision.

    Raises:
        BadInput: a setting is out of its range.
    """
    return Generational(
        space, objectives, population, offspring, Breeding(space, crossover, mutation), _any, _youngest_first
    )


def _any(members: Sequence[Record], rng: np.random.Generator) -> Record:
    return members[int(rng.random() * len(members))]


def _youngest_first(records: Sequence[Record], size: int, rng: np.random.Generator) -> list[Record]:  # noqa: ARG001 - no draw decides
    """The best; of equals, the last born."""
    return least_crowded(records[::-1], size)
