"""Sign patterns of ReLUs: those of all layers side by side, and how many of them differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nas.estimators.proxies.probe import Undefined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def joined(codes: Sequence[Tensor]) -> Tensor:
    """Bool, shape (batch, units of all layers), from one of shape (batch, units) for each layer.

    Raises:
        Undefined: layers do not have one row a sample.
    """
    sizes = {len(code) for code in codes}
    if len(sizes) > 1:
        raise Undefined(f"all ReLUs must see the batch on their first axis, got lengths {sorted(sizes)}")
    return torch.cat(list(codes), dim=1)


def distinct(rows: Tensor) -> int:
    """Number of different rows of a bool matrix."""
    packed = np.packbits(rows.cpu().numpy(), axis=1)
    return len(np.unique(np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))))
