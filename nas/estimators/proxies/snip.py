"""How much the loss would change if single weights went."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.estimators.proxies.probe import Probe


def snip(probe: Probe) -> float:
    """Σ|θ·∂L/∂θ| over all weights of layers; >= 0, higher is better.

    Source: Lee et al. 2019, eq. 6, summed as in Abdelfattah et al. 2021, eq. 1. The gradient by a mask of
    ones on the weights is θ·∂L/∂θ, so no mask is needed.
    """
    return sum(float((w.double() * g.double()).abs().sum()) for w, g in probe.weight_gradients())
