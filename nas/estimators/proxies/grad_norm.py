"""How large the first gradients are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from nas.estimators.proxies.probe import Probe


def grad_norm(probe: Probe) -> float:
    """Sum over layers of the Euclidean norm of the weight's gradient; >= 0, higher is better.

    Source: Abdelfattah et al. 2021, sec. 3.1; conv and linear weights, mean cross entropy, train mode.
    """
    return sum(float(torch.linalg.vector_norm(g.double())) for _, g in probe.weight_gradients())
