"""Mutation, crossover and neighbours, once for every space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.errors import Infeasible
from nas.space import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from nas.architecture import Architecture
    from nas.decision import Value
    from nas.space import Space


def mutate(space: Space, parent: Architecture, rng: np.random.Generator) -> Architecture:
    """A feasible architecture that differs from its parent in one active decision.

    Decisions that the change switches on are drawn afresh. The decision is drawn uniformly among the
    active ones with more than one value; a space of a single architecture gives the parent back.

    Raises:
        Infeasible: 10,000 mutations were infeasible.
    """
    changeable = [leaf for leaf in map(space.by_name.__getitem__, parent) if leaf.size > 1]
    if not changeable:
        return parent

    def child() -> Architecture:
        leaf = changeable[int(rng.random() * len(changeable))]
        values = parent.to_json()
        values[leaf.name] = leaf.mutate(values[leaf.name], rng)
        return space.complete(values, rng)

    return _feasible(space, child)


def crossover(
    space: Space, mother: Architecture, father: Architecture, rng: np.random.Generator
) -> Architecture:
    """A feasible architecture whose every decision comes from either parent with equal odds.

    Where the chosen parent has no value for an active decision, the other's is taken.

    Raises:
        Infeasible: 10,000 children were infeasible.
    """

    def child() -> Architecture:
        values: dict[str, Value] = {}
        for leaf in space.leaves:
            first, second = (mother, father) if rng.random() < 0.5 else (father, mother)
            if leaf.name in first:
                values[leaf.name] = first[leaf.name]
            elif leaf.name in second:
                values[leaf.name] = second[leaf.name]
        return space.complete(values, rng)

    return _feasible(space, child)


def neighbours(space: Space, architecture: Architecture, rng: np.random.Generator) -> Iterator[Architecture]:
    """Every feasible architecture one step away in one active decision, in the order of the decisions.

    Args:
        rng: draws the decisions that a step switches on; plain spaces do not use it.
    """
    for name, value in architecture.items():
        for other in space.by_name[name].neighbours(value):
            near = space.complete({**architecture.to_json(), name: other}, rng)
            if space.feasible(near):
                yield near


def _feasible(space: Space, make: Callable[[], Architecture]) -> Architecture:
    for _ in range(ATTEMPTS):
        architecture = make()
        if space.feasible(architecture):
            return architecture
    raise Infeasible(
        f"{type(space).__name__} must have feasible neighbours, got none in {ATTEMPTS:,} tries; "
        "loosen feasible() or let it depend on fewer decisions at once"
    )
