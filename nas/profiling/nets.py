"""Networks to measure a machine with: random architectures of spaces, at the sizes of their tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from nas import registry
from nas.evaluator import seeded_module
from nas.kernels.capture import capture
from nas.proposal import Proposal
from nas.rng import derive, stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from nas.kernels.capture import Trace
    from nas.space import Space


_SHAPES = frozenset({"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones"})
"""Operations that look at nothing but a shape."""
ATTEMPTS = 20
"""Architectures that are drawn at most for one network."""


@final
@dataclass(frozen=True)
class Source:
    """A space that networks are drawn from.

    Args:
        family: name that its networks carry.
        space: a finished one.
        shape: of one input, without the batch.
    """

    family: str
    space: Space
    shape: tuple[int, ...]


@final
@dataclass(frozen=True)
class Net:
    """A network of a source.

    Args:
        name: such as ``conv-17``; the same for the same seed.
        source: that it is of.
        proposal: the architecture.
        seed: of weights and input.
        batch_size: inputs at once.
        trace: its operations.
    """

    name: str
    source: Source
    proposal: Proposal
    seed: int
    batch_size: int
    trace: Trace

    def module(self) -> nn.Module:
        """With weights, in evaluation mode."""
        found: nn.Module = seeded_module(self.source.space, self.proposal, self.seed).eval()
        return found

    def example(self) -> Tensor:
        """Random input of shape (batch, *shape)."""
        generator = torch.Generator().manual_seed(derive(self.seed, "input", self.name))
        return torch.randn((self.batch_size, *self.source.shape), generator=generator)


SPACES: Sequence[tuple[str, str, Mapping[str, Any], tuple[int, ...]]] = (
    ("conv", "conv", {"widths": (8, 12, 16, 20)}, (3, 32, 32)),
    ("conv", "conv", {"widths": (16, 32, 48), "stages": 4}, (3, 64, 64)),
    ("conv", "conv", {}, (1, 8, 8)),
    ("nasbench201", "nasbench201", {"cells": 2}, (3, 32, 32)),
    ("nasbench201", "nasbench201", {"channels": 24, "cells": 1}, (3, 32, 32)),
    ("transnasbench101_micro", "transnasbench101_micro", {"channels": 16}, (3, 64, 64)),
    ("transnasbench101_micro", "transnasbench101_micro", {"channels": 32}, (3, 64, 64)),
    ("mlp", "mlp", {"widths": (64, 128, 256, 512)}, (3, 32, 32)),
    ("mlp", "mlp", {}, (1, 8, 8)),
)
"""Family, space, settings and input shape of what machines are measured with by default."""


def default_sources() -> list[Source]:
    """Spaces of the toolkit from tiny chains to cells, at 8 to 64 pixels."""
    return [
        Source(family, registry.load("space", name)(**settings, input_shape=shape, classes=10), shape)
        for family, name, settings, shape in SPACES
    ]


def drawn_nets(
    sources: Sequence[Source], count: int, seed: int, batch_size: int = 1, dtype: str = "float32"
) -> list[Net]:
    """``count`` networks, in turn of each source; of the same seed, more begin with the same.

    Args:
        sources: at least one.
        count: how many.
        seed: of architectures, weights and inputs.
        batch_size: inputs at once.
        dtype: that traces count in.
    """
    return [_net(sources[i % len(sources)], i, seed, (batch_size, dtype)) for i in range(count)]


def _net(source: Source, number: int, seed: int, of: tuple[int, str]) -> Net:
    """A network that computes something of its input, as not every cell does."""
    rng = stream(seed, "profile", number)
    batch_size, dtype = of
    for _ in range(ATTEMPTS):
        proposal = Proposal(source.space.sample(rng), ("latency_ms",))
        with torch.device("meta"):
            module = seeded_module(source.space, proposal, seed).eval()
            trace = capture(module, torch.empty((batch_size, *source.shape)), dtype=dtype)
        if reads_input(trace):
            break
    return Net(f"{source.family}-{number}", source, proposal, seed, batch_size, trace)


def reads_input(trace: Trace) -> bool:
    """Whether the result depends on what stands in the input, not on its shape alone."""
    left, seen = list(trace.outputs), set[int]()
    while left:
        i = left.pop()
        if i < 0:
            return True
        if i not in seen and trace.calls[i].op.name not in _SHAPES:
            seen.add(i)
            left.extend(trace.calls[i].inputs)
    return False
