"""A module with elastic layers as the supernet of a space."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from nas.architecture import Architecture, Mixture, digest
from nas.errors import must
from nas.sharing.elastic import Elastic, Followed, Relaxed, specialised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nas.architecture import Candidate
    from nas.space import Space


@final
class ElasticSupernet(nn.Module):
    """Shared weights of all architectures of a space.

    Args:
        module: the largest network; its elastic layers follow the candidate it runs under.
        space: whose architectures choose.
        example: one input of the module, shape (1, ...), by which sizes are found; on the module's device.

    Attributes:
        mixtures: whether some layer relaxes every decision, as a `Choice` does its own, so that mixtures can
            run.
    """

    def __init__(self, module: nn.Module, space: Space, example: Tensor) -> None:
        super().__init__()
        self.module = module
        self._space = space
        self._example: Tensor
        self.register_buffer("_example", example, persistent=False)  # so that it goes where the module goes
        self.followed = Followed()
        layers = [layer for layer in module.modules() if isinstance(layer, Elastic)]
        for layer in layers:
            layer.followed = self.followed
        relaxed = {name for layer in layers for name in layer.relaxes}
        self.mixtures = relaxed == set(space.by_name)

    @property
    def signature(self) -> str:
        """32 hexadecimal digits of the space and of the weights' shapes, by which a checkpoint is known."""
        shapes = {name: list(t.shape) for name, t in self.module.state_dict().items()}
        return digest({"space": self._space.signature, "weights": shapes})

    def forward(self, x: Any, candidate: Candidate | Relaxed) -> Tensor:
        """The module's output for inputs of shape (batch, ...) under a candidate.

        Args:
            x: inputs.
            candidate: an architecture, a mixture, or a mixture's weights as tensors, by which there may be
                a gradient then.

        Raises:
            BadInput: the candidate is not of the supernet's space.
        """
        self._follow(candidate)
        out: Tensor = self.module(x)
        return out

    def path(self, architecture: Architecture) -> nn.Module:
        """The stand-alone module of one architecture, with a copy of the shared weights it uses."""
        with self._evaluating(), torch.no_grad():
            self(self._example, architecture)
        return specialised(self.module)

    def _follow(self, candidate: Candidate | Relaxed) -> None:
        followed = self.followed
        if isinstance(candidate, Architecture):
            followed.architecture, followed.relaxed = self._space.architecture(candidate), None
            return
        if isinstance(candidate, Mixture):
            like = next(self.module.parameters())
            weights = {k: torch.as_tensor(w.copy()).to(like) for k, w in candidate.weights.items()}
        elif isinstance(candidate, dict):
            weights = candidate
        else:
            raise must("candidate", "be an architecture or a mixture of the supernet's space", candidate)
        if not self.mixtures:
            raise must("candidate", "be an architecture: this supernet runs no mixtures", candidate)
        if others := set(self._space.by_name) ^ set(weights):
            raise must("mixture", f"weigh {', '.join(self._space.by_name)}", sorted(others))
        followed.architecture, followed.relaxed = None, weights

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode, so that the probing leaves statistics alone."""
        modes = [(m, m.training) for m in self.module.modules()]
        self.module.eval()
        try:
            yield
        finally:
            for m, training in modes:
                m.training = training
