"""Shared weights that run under a candidate: the protocol between spaces and one-shot evaluators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.architecture import Architecture, Candidate


@runtime_checkable
class Supernet(Protocol):
    """One module whose weights serve every architecture of a space.

    Attributes:
        mixtures: whether `forward` accepts a `Mixture`, as differentiable strategies need.
    """

    mixtures: bool

    @property
    def signature(self) -> str:
        """32 hexadecimal digits of the space and of the weights' shapes, by which a checkpoint is known."""

    def forward(self, x: Tensor, candidate: Candidate) -> Tensor:
        """The output for inputs of shape (batch, ...) under an architecture or a mixture."""

    def path(self, architecture: Architecture) -> nn.Module:
        """The stand-alone module of one architecture, with a copy of the shared weights it uses."""
