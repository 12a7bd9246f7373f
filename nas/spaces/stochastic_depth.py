"""Stochastic depth: residual branches that are dropped at random while training."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from torch import nn

from nas.errors import must

if TYPE_CHECKING:
    from torch import Tensor


@final
class StochasticDepth(nn.Module):
    """Drop a residual branch, sample by sample, in training; the identity in evaluation.

    What is kept is scaled by 1 / (1 - p), so that the expectation is the branch itself. Drawn from torch's
    current RNG.

    Args:
        p: probability of dropping, in [0, 1).

    Raises:
        BadInput: p is outside.

    Source: Huang et al. 2016, sec. 3. Deviations: dropped by sample instead of by batch, and scaled in
    training instead of in evaluation, as is common today.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise must("p", "lie in [0, 1)", p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """The branch's output of shape (batch, ...), with whole samples set to zero in training."""
        if not self.training or self.p == 0.0:
            return x
        keep = 1.0 - self.p
        mask = x.new_empty((x.shape[0], *(1,) * (x.ndim - 1))).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        """Shown in the module's text."""
        return f"p={self.p:g}"
