"""Spaces that are declared by their largest network alone."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import nn

from nas.errors import must
from nas.sharing.supernet import ElasticSupernet
from nas.space import Space

if TYPE_CHECKING:
    from torch import Tensor

    from nas.architecture import Architecture


class ElasticSpace(Space):
    """A space whose architectures are parts of one network with elastic layers.

    Subclasses set `decisions` and give `elastic` and `example`; building, the supernet and stand-alone paths
    follow. Modules with weights of their own must have ``reset_parameters()``, as those of torch do.
    """

    @abstractmethod
    def elastic(self) -> nn.Module:
        """The largest network, with fresh weights drawn from torch's current RNG only."""

    @abstractmethod
    def example(self) -> Tensor:
        """One input of the network, shape (1, ...)."""

    def build(self, architecture: Architecture) -> nn.Module:
        """The architecture's own network with fresh weights.

        Raises:
            BadInput: a module in it cannot draw fresh weights.
        """
        module = self._skeleton.path(architecture)
        tied = _tied(module)
        module.to_empty(device=torch.get_default_device())  # the meta device, where only sizes matter
        for places in tied:
            (first, name), *others = places
            for part, other in others:
                setattr(part, other, getattr(first, name))
        for name, part in module.named_modules():
            _reset(name, part)
        return module.train()

    def supernet(self) -> ElasticSupernet:
        """The network as shared weights of all architectures."""
        return ElasticSupernet(self.elastic(), self, self.example())

    @cached_property
    def _skeleton(self) -> ElasticSupernet:
        """The supernet without numbers, from which sizes are taken."""
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return ElasticSupernet(self.elastic(), self, self.example().to("meta"))


def _tied(module: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """The places of each parameter that has several."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for part in module.modules():
        for name, p in part.named_parameters(recurse=False):
            places.setdefault(id(p), []).append((part, name))
    return [found for found in places.values() if len(found) > 1]


def _reset(name: str, part: nn.Module) -> None:
    own = any(True for _ in part.parameters(recurse=False)) or any(True for _ in part.buffers(recurse=False))
    if not own:
        return
    reset = getattr(part, "reset_parameters", None)
    if reset is None:
        raise must(f"{name or 'the network'} ({type(part).__name__})", "have reset_parameters()", "none")
    reset()
