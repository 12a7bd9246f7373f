"""How children come of parents, once for every evolutionary strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from nas.errors import must, unknown
from nas.variation import crossover, mutate, mutate_each

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from nas.architecture import Architecture
    from nas.space import Space

ATTEMPTS = 10
"""Mutations of a child that was seen before, one upon the other, until it is proposed all the same."""


@final
class Breeding:
    """Crossover with some chance, then mutation.

    Args:
        space: of the architectures.
        crossover: chance that a child has two parents, in [0, 1].
        mutation: None changes exactly one active decision. ``{"rate": …}`` changes each with a chance of its
            own, and at least one: ``"1/n"`` with n active decisions; a number in [0, 1]; or numbers by
            decision or by the path of a group of them (``block`` covers ``block.0.op``; the longest path
            counts), 1/n for all others.

    Raises:
        BadInput: a chance is out of its range, or a path is unknown.
    """

    def __init__(
        self, space: Space, crossover: float = 0.0, mutation: Mapping[str, Any] | None = None
    ) -> None:
        if not 0.0 <= crossover <= 1.0:
            raise must("crossover", "lie in [0, 1]", crossover)
        self._space = space
        self._crossover = crossover
        self._rates = None if mutation is None else _rates(space, mutation)

    def child(self, select: Callable[[], Architecture], rng: np.random.Generator) -> Architecture:
        """A child of parents that ``select`` draws."""
        parent = select()
        if self._crossover and rng.random() < self._crossover:
            parent = crossover(self._space, parent, select(), rng)
        return self.mutant(parent, rng)

    def mutant(self, parent: Architecture, rng: np.random.Generator) -> Architecture:
        """A changed parent."""
        if self._rates is None:
            return mutate(self._space, parent, rng)
        return mutate_each(self._space, parent, self._rates, rng)

    def new(
        self, child: Architecture, known: Callable[[Architecture], bool], rng: np.random.Generator
    ) -> Architecture:
        """The child, mutated on while it is known, ten times at most."""
        for _ in range(ATTEMPTS):
            if not known(child):
                break
            child = self.mutant(child, rng)
        return child


def _rates(space: Space, mutation: Mapping[str, Any]) -> dict[str, float]:
    """Chances by decision; those of 1/n are left out."""
    if not isinstance(mutation, Mapping) or set(mutation) != {"rate"}:
        raise must("mutation", "be None or hold rate alone", mutation, "such as mutation: {rate: 1/n}")
    rate = mutation["rate"]
    if rate == "1/n":
        return {}
    if not isinstance(rate, Mapping):
        return dict.fromkeys(space.by_name, _chance("mutation.rate", rate))
    rates: dict[str, float] = {}
    for path in sorted(rate, key=len):
        covered = [name for name in space.by_name if name == path or name.startswith(f"{path}.")]
        if not covered:
            raise unknown("decision", path, space.by_name).at("mutation.rate")
        rates.update(dict.fromkeys(covered, _chance(f"mutation.rate.{path}", rate[path])))
    return rates


def _chance(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise must(name, "be a number in [0, 1]", value, "or '1/n' for all, or numbers by decision")
    return float(value)
