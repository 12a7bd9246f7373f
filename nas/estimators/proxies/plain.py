"""The signed sensitivity of the loss to all weights at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.estimators.proxies.probe import Probe


def plain(probe: Probe) -> float:
    """Σ θ·∂L/∂θ over all weights of layers; signed.

    Under batch normalisation the loss does not depend on the scale of the weights before it, so their terms
    cancel: what is left is the classifier's part and rounding.

    Source: Mozer & Smolensky 1988; Abdelfattah et al. 2021, the ``plain`` column.
    """
    return sum(float((w.double() * g.double()).sum()) for w, g in probe.weight_gradients())
