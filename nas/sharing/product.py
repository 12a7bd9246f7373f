"""Sizes that are products of what an architecture chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from nas.architecture import Architecture
    from nas.sharing.elastic import Rule


@final
@dataclass(frozen=True, init=False)
class Product:
    """A rule for a size: ``Product("embed_dim", "mlp_ratio")`` is the product of both choices.

    Args:
        factors: fixed whole numbers, names of decisions, and functions of the architecture.
    """

    factors: tuple[int | Rule, ...]

    def __init__(self, *factors: int | Rule) -> None:
        object.__setattr__(self, "factors", factors)

    def __call__(self, architecture: Architecture) -> int:
        """The product under an architecture."""
        product = 1
        for factor in self.factors:
            match factor:
                case int():
                    product *= factor
                case str():
                    product *= int(architecture[factor])
                case _:
                    product *= int(factor(architecture))
        return product
