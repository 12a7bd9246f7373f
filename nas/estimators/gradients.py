"""Gradients of shared weights: their norms, of which option they are, and sums over paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from nas.architecture import Architecture
from nas.sharing import Choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from nas.architecture import Candidate


@final
class GradientSum:
    """Gradients of several backward passes, each of which leaves only its own on the weights."""

    def __init__(self, module: nn.Module) -> None:
        self._weights = list(module.parameters())
        self._sums: dict[int, Tensor] = {}

    def add(self) -> None:
        """Take what lies on the weights."""
        for i, p in enumerate(self._weights):
            if p.grad is not None:
                self._sums[i] = p.grad if i not in self._sums else self._sums[i].add_(p.grad)
                p.grad = None

    def put_back(self) -> None:
        """Lay the sums on the weights."""
        for i, total in self._sums.items():
            self._weights[i].grad = total


def choices(module: nn.Module) -> dict[str, list[Choice]]:
    """The places where each decision chooses an option."""
    found: dict[str, list[Choice]] = {}
    for part in module.modules():
        if isinstance(part, Choice):
            found.setdefault(part.name, []).append(part)
    return found


def norm(module: nn.Module) -> float:
    """The L2 norm of all gradients together."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


def gradients(relaxed: Mapping[str, Tensor] | None) -> dict[str, NDArray[Any]] | None:
    """The gradients by a mixture's weights; 0 for those that nothing depends on."""
    if relaxed is None:
        return None
    found = {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in relaxed.items()}
    return {name: g.double().cpu().numpy() for name, g in found.items()}


def option_norms(
    places: Mapping[str, Sequence[Choice]], candidate: Candidate
) -> dict[str, NDArray[np.float64]]:
    """Norms of the gradients of each weight of a path's chosen options, summed by decision.

    Args:
        places: where each decision chooses, as `choices` finds.
        candidate: an architecture; others have no chosen options.

    Returns:
        ``gradient_norm.<decision>``, shape (1,), for each decision that the architecture makes.
    """
    if not isinstance(candidate, Architecture):
        return {}
    sums = {decision: 0.0 for decision in places if decision in candidate}
    owned = [
        (decision, p.grad)
        for decision in sums
        for choice in places[decision]
        for p in choice.options[str(candidate[decision])].parameters()
        if p.grad is not None
    ]
    if owned:
        norms = torch.stack(torch._foreach_norm([g for _, g in owned])).tolist()
        for (decision, _), length in zip(owned, norms, strict=True):
            sums[decision] += length
    return {f"gradient_norm.{decision}": np.array([total]) for decision, total in sums.items()}
