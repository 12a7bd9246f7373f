"""How much the units of a trained network matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Part(NamedTuple):
    """A weight, or a slice of one, that belongs to units.

    Attributes:
        weight: the parameter.
        axis: along which units lie, each as equally many neighbours.
        rows: the slice of the first axis; all of it where empty.
    """

    weight: nn.Parameter
    axis: int = 0
    rows: slice = slice(None)

    def by_unit(self, tensor: Tensor, units: int) -> Tensor:
        """A tensor of the parameter's shape as shape (units, ...)."""
        return tensor[self.rows].movedim(self.axis, 0).reshape(units, -1)


class Units(NamedTuple):
    """Units of which some can be left out.

    Attributes:
        number: how many there are.
        written: weights that make them; a batch norm's scales where it undoes those before.
        read: weights that are applied to them.
    """

    number: int
    written: Sequence[Part]
    read: Sequence[Part]


def by_weights(units: Units) -> Tensor:
    """The product of the L1 norms of a unit's written and its read weights, shape (number,).

    Source: Li et al. 2017 (pruning filters), sec. 3.1, L1 norm of the filter; times that of the weights that
    read it, since a unit's effect is scaled by both.
    """
    norms = [sum(_norm(p, units.number) for p in parts) for parts in (units.written, units.read) if parts]
    return torch.stack([n for n in norms if isinstance(n, Tensor)]).prod(0)


def _norm(part: Part, count: int) -> Tensor:
    return part.by_unit(part.weight.detach(), count).abs().mean(1)


def by_loss(units: Iterable[Units], model: nn.Module, loss: Callable[[], Tensor]) -> list[Tensor]:
    """The first-order change of a loss when a unit is left out, shape (number,) for each group of units.

    Args:
        units: groups of them.
        model: in evaluation mode; its gradients are left empty.
        loss: of the model on a batch, a scalar.

    Source: Molchanov et al. 2019, eq. 8, the squared sum of gradient times weight; over the weights that
    read a unit, for which the sum is that of gradient times output, their eq. 9's gate.
    """
    model.zero_grad(set_to_none=True)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    for p in frozen:
        p.requires_grad = True
    with torch.enable_grad():
        loss().backward()  # type: ignore[no-untyped-call]
    scores = [sum((_effect(part, u.number) for part in u.read), torch.zeros(())).square() for u in units]
    for p in frozen:
        p.requires_grad = False
    model.zero_grad(set_to_none=True)
    return scores


def _effect(part: Part, count: int) -> Tensor:
    weight, gradient = part.weight.detach(), part.weight.grad
    product = torch.zeros_like(weight) if gradient is None else weight * gradient
    return part.by_unit(product, count).sum(1)


def order(importance: Tensor) -> Tensor:
    """Units from the most to the least important, the earlier first among equals; shape (units,)."""
    return importance.argsort(descending=True, stable=True)
