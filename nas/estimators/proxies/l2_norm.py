"""How large the fresh weights are: a stand-in for size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from nas.estimators.proxies.probe import Probe


def l2_norm(probe: Probe) -> float:
    """Sum over layers of the Euclidean norm of the weight; > 0, higher is better. Looks at no data.

    Source: Abdelfattah et al. 2021, as a baseline; conv and linear weights.
    """
    return sum(float(torch.linalg.vector_norm(w.detach().double())) for w in probe.weights.values())
