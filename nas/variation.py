"""Founders, mutation, crossover and neighbours, once for every space."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from nas.architecture import Architecture
from nas.errors import Infeasible
from nas.space import ATTEMPTS, DRAWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

    from nas.decision import Decision, Value
    from nas.space import Space


def sample_alike(space: Space, rng: np.random.Generator) -> Architecture:
    """A feasible architecture in which copies of one decision, as in repeated blocks, tend to agree.

    Where each copy is drawn on its own, whatever adds up over them, such as latency, comes out near its
    mean, so that a population begins far from the ends of its front. Here each copy repeats the first one
    with a chance that is drawn for the architecture from [0, 1]. Without copies, this is ``space.sample``.

    Raises:
        Infeasible: as in `Space.sample`, which is asked when 10,000 such draws were infeasible.
    """
    kinds = [_kind(leaf) for leaf in space.leaves]
    if len(set(kinds)) == len(kinds):
        return space.sample(rng)
    for drawn in range(1, ATTEMPTS + 1):
        agreement = rng.random()
        firsts: dict[tuple[str, Decision], Value] = {}
        values: dict[str, Value] = {}
        for leaf, kind in zip(space.leaves, kinds, strict=True):
            own = leaf.sample(rng)
            first = firsts.setdefault(kind, own)
            values[leaf.name] = first if rng.random() < agreement else own
        architecture = space.complete(values, rng)
        if space.feasible(architecture):
            return architecture
        if drawn == DRAWS and (near := space.repaired(architecture, rng)) is not None:
            return near
    return space.sample(rng)


def mutate(space: Space, parent: Architecture, rng: np.random.Generator) -> Architecture:
    """A feasible architecture that differs from its parent in one active decision.

    Decisions that the change switches on are drawn afresh. The decision is drawn uniformly among the
    active ones with more than one value; a space of a single architecture gives the parent back.

    Raises:
        Infeasible: 10,000 mutations were infeasible.
    """
    leaves = [space.by_name[name] for name in parent]
    if not any(leaf.size > 1 for leaf in leaves):
        return parent

    def child() -> Architecture:
        leaf = leaves[int(rng.random() * len(leaves))]
        if leaf.size <= 1:  # rare: then one among the others
            changeable = _changeable(space, parent)
            leaf = changeable[int(rng.random() * len(changeable))]
        return _changed(space, parent, [leaf], rng)

    return _feasible(space, child, rng)


def mutate_each(
    space: Space, parent: Architecture, rates: Mapping[str, float], rng: np.random.Generator
) -> Architecture:
    """A feasible architecture in which each active decision was changed with a chance of its own.

    At least one is: where none was drawn, one is taken with odds in proportion to the rates. Decisions that
    a change switches on are drawn afresh. Where no active decision may change, the parent comes back.

    Args:
        rates: chances in [0, 1] by decision; one that is not named has 1/n, with n the parent's active
            decisions of more than one value.

    Raises:
        Infeasible: 10,000 mutations were infeasible.
    """
    changeable = _changeable(space, parent)
    chances = [rates.get(leaf.name, 1.0 / len(changeable)) for leaf in changeable]
    if not sum(chances):
        return parent

    def child() -> Architecture:
        drawn = [i for i, u in enumerate(rng.random(len(chances)).tolist()) if u < chances[i]]
        leaves = [changeable[i] for i in drawn or [_weighted(chances, rng)]]
        return _changed(space, parent, leaves, rng)

    return _feasible(space, child, rng)


def crossover(
    space: Space, mother: Architecture, father: Architecture, rng: np.random.Generator
) -> Architecture:
    """A feasible architecture whose every decision comes from either parent with equal odds.

    Where the chosen parent has no value for an active decision, the other's is taken.

    Raises:
        Infeasible: 10,000 children were infeasible.
    """
    hers, his = mother.to_json(), father.to_json()

    def child() -> Architecture:
        values: dict[str, Value] = {}
        for leaf, u in zip(space.leaves, rng.random(len(space.leaves)).tolist(), strict=True):
            first, second = (hers, his) if u < 0.5 else (his, hers)
            if leaf.name in first:
                values[leaf.name] = first[leaf.name]
            elif leaf.name in second:
                values[leaf.name] = second[leaf.name]
        return space.complete(values, rng) if space.switches else Architecture(values)

    return _feasible(space, child, rng)


def neighbours(
    space: Space, architecture: Architecture, rng: np.random.Generator, step: float = 0.1
) -> Iterator[Architecture]:
    """Every feasible architecture one step away in one active decision, in the order of the decisions.

    Args:
        rng: draws the decisions that a step switches on; plain spaces do not use it.
        step: of numbers, as a share of their range.
    """
    for name, value in architecture.items():
        for other in space.by_name[name].neighbours(value, step):
            near = space.complete({**architecture.to_json(), name: other}, rng)
            if space.feasible(near):
                yield near


def _kind(leaf: Decision) -> tuple[str, Decision]:
    """What copies of a decision share: the path without its numbers, and the values."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", leaf.name), replace(leaf, name="*", when=())


def _changeable(space: Space, architecture: Architecture) -> list[Decision]:
    """The active decisions with more than one value."""
    return [leaf for leaf in map(space.by_name.__getitem__, architecture) if leaf.size > 1]


def _changed(
    space: Space, parent: Architecture, leaves: list[Decision], rng: np.random.Generator
) -> Architecture:
    """The parent with other values of these decisions, and what they switch on drawn."""
    values = parent.to_json()
    for leaf in leaves:
        values[leaf.name] = leaf.mutate(values[leaf.name], rng)
    if space.switches.isdisjoint(leaf.name for leaf in leaves):
        return Architecture(values)
    return space.complete(values, rng)


def _weighted(weights: list[float], rng: np.random.Generator) -> int:
    """A position, drawn in proportion to its weight; one of weight 0 is never drawn."""
    rest = rng.random() * sum(weights)
    for i, weight in enumerate(weights):
        rest -= weight
        if rest < 0:
            return i
    return max(i for i, weight in enumerate(weights) if weight)


def _feasible(space: Space, make: Callable[[], Architecture], rng: np.random.Generator) -> Architecture:
    """The first feasible one made; near bounds that hardly any meets, the one that the space makes of it."""
    for made in range(1, ATTEMPTS + 1):
        architecture = make()
        if space.feasible(architecture):
            return architecture
        if made == DRAWS and (near := space.repaired(architecture, rng)) is not None:
            return near
    raise Infeasible(
        f"{type(space).__name__} must have feasible neighbours, got none in {ATTEMPTS:,} tries; "
        "loosen feasible() or let it depend on fewer decisions at once"
    )
