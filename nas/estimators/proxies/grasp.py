"""How much the gradient flow would change if single weights went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from nas.estimators.proxies.probe import Probe


def grasp(probe: Probe) -> float:
    """−Σ θ·(Hg) over all weights of layers, H the Hessian of the loss and g its gradient; signed.

    Source: Wang et al. 2020, eq. 8 and alg. 2 with temperature 1, on one batch, with the sign of Abdelfattah
    et al. 2021. Deviation: Hg comes from one forward pass, where the published code takes two.
    """
    weights = list(probe.weights.values())
    batch = probe.raw_batch(0)
    # The fused attention has no second derivative.
    with probe.running(), sdpa_kernel(SDPBackend.MATH):
        loss = probe.loss(probe.forward(batch), batch)
        first = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
        flow = torch.stack([(g.detach() * g).sum() for g in first]).sum()
        second = torch.autograd.grad(flow, weights, materialize_grads=True)
    return -sum(
        float((w.detach().double() * hg.double()).sum()) for w, hg in zip(weights, second, strict=True)
    )
