"""One labelled forward and backward pass, and the masks that tell of channels."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LAYERS = (_ConvNd, nn.Linear)
"""Layers that own weights, as all metrics understand it."""


@final
@dataclass(frozen=True, slots=True)
class Labelled:
    """What a labelled pass gives.

    Args:
        outputs: of the module, detached.
        gradients: of the mean loss, by parameter name; zeros where the loss does not reach.
        products: of `channel_masks`, by layer name; None without masks.
    """

    outputs: Tensor
    gradients: Mapping[str, Tensor]
    products: Mapping[str, Tensor] | None


def labelled(
    module: nn.Module, forward: Callable[[], tuple[Tensor, Tensor]], masks: Mapping[str, Tensor]
) -> Labelled:
    """Run forward and backward.

    Args:
        module: whose floating-point parameters want gradients.
        forward: gives the output and the mean loss.
        masks: filled while it runs; empty afterwards where there are none.
    """
    parameters = {n: p for n, p in module.named_parameters() if p.is_floating_point()}
    output, loss = forward()
    wanted = [*parameters.values(), *masks.values()]
    found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    count = len(parameters)
    products = dict(zip(masks, found[count:], strict=True)) if masks else None
    return Labelled(output.detach(), dict(zip(parameters, found[:count], strict=True)), products)


@contextmanager
def channel_masks(module: nn.Module, names: Mapping[Tensor, str]) -> Iterator[dict[str, Tensor]]:
    """Ones that multiply each channel of each sample of the outputs of layers, while passes run inside.

    Args:
        module: whose layers are masked.
        names: the name of each weight; layers that share one share a mask.

    Yields:
        Masks of shape (batch, channels), by name, once their layer was called.
    """
    masks: dict[str, Tensor] = {}

    def hook(layer: nn.Module, _: Any, output: Tensor) -> Tensor:
        name = names[cast("Tensor", layer.weight)]
        channel = -1 if isinstance(layer, nn.Linear) else 1
        if name not in masks:
            masks[name] = output.new_ones(len(output), output.shape[channel], requires_grad=True)
        shape = [1] * output.ndim
        shape[0], shape[channel] = masks[name].shape
        return output * masks[name].view(shape)

    handles = [layer.register_forward_hook(hook) for layer in module.modules() if owns_weight(layer)]
    try:
        yield masks
    finally:
        for handle in handles:
            handle.remove()


def owns_weight(module: nn.Module) -> bool:
    """Whether it is a layer with a weight of its own, which a parametrised one has not."""
    return isinstance(module, LAYERS) and "weight" in dict(module.named_parameters(recurse=False))
