"""A branch added to its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


@final
class Residual(nn.Module):
    """``x + branch(x)``.

    Args:
        branch: gives the shape of its input.

    Source: He et al. 2016, eq. 1.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape."""
        out: Tensor = x + self.branch(x)
        return out
