"""Random inputs and weights, for metrics that look at neither data nor the weights at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas.estimators.proxies.probe import LAYERS
from nas.estimators.proxies.synflow import NORMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from nas.estimators.proxies.probe import Probe


def inputs(probe: Probe, samples: int, generator: torch.Generator) -> Tensor:
    """Standard Gaussian inputs of shape (samples, ...), on the module's device.

    Raises:
        Undefined: the module's inputs are not real numbers, or several tensors.
    """
    like = probe.real_inputs
    return torch.randn(samples, *like.shape[1:], generator=generator).to(like)


def redraw(module: nn.Module, deviation: Callable[[Tensor], float], generator: torch.Generator) -> None:
    """Draw the weights of convolutions and linear layers anew, centred Gaussians; normalisations do nothing.

    Args:
        module: changed in place; biases become 0, scales of normalisations 1. Other parameters stay.
        deviation: standard deviation for a weight.
        generator: on the CPU, so that devices agree.
    """
    with torch.no_grad():
        for part in module.modules():
            own = dict(part.named_parameters(recurse=False))
            if isinstance(part, LAYERS):
                own["weight"].copy_(
                    torch.randn(own["weight"].shape, generator=generator) * deviation(own["weight"])
                )
            elif isinstance(part, NORMS) and "weight" in own:
                own["weight"].fill_(1.0)
            if isinstance(part, (*LAYERS, *NORMS)) and "bias" in own:
                own["bias"].zero_()
