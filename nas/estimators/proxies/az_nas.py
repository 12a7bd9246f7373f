"""az_nas: how features and gradients change from block to block, and what it costs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.estimators.proxies import gaussian
from nas.estimators.proxies.probe import Undefined
from nas.estimators.proxies.size import macs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from nas.estimators.proxies.probe import Probe

BATCH = 64
"""Inputs, as published."""


def az_nas(probe: Probe) -> dict[str, float]:
    """The four components, each the higher the better.

    * ``az_nas_expressivity``: sum over the features of the entropy of their normalised principal variances;
    * ``az_nas_progressivity``: the smallest difference of that entropy between neighbouring features;
    * ``az_nas_trainability``: mean over neighbours of 2 − s − 1/s, at most 0, where s is the largest singular
      value of the mean product of gradients at both, for random signs at the later one; NaN where a block
      passes its input on unchanged;
    * ``az_nas_complexity``: multiply-accumulates for one input.

    The features are those of each block and of what stands before the first one, for Gaussian inputs and
    Kaiming weights. A block is a part with parts of its own, without those ``Sequential`` and ``ModuleList``
    that only hold blocks; in a module with fewer than two, each convolution and linear layer is one.
    The published score, a sum of logarithms of their ranks in a set of candidates, is `log_rank` of
    ``nas.surrogates.scores``.

    Raises:
        Undefined: there are fewer than two features of shape (batch, channels) or (batch, channels, height,
            width), or one does not depend on the one before.

    Source: Lee & Ham 2024 (AZ-NAS), with the authors' code: train mode, fan-in, batch 64. Deviations: blocks
    are found in any module; spectra in float64; multiply-accumulates, where the paper has FLOPs.
    """
    generator = probe.generator("az_nas")
    with probe.running("az_nas"):
        gaussian.redraw(probe.module, _kaiming, generator)
        x = gaussian.inputs(probe, BATCH, generator)
        features = _features(probe, x)
        entropies = [entropy(f.detach()) for f in features]
        slopes = [trainability(a, b, generator) for a, b in pairwise(features)]
    return {
        "az_nas_expressivity": sum(entropies),
        "az_nas_progressivity": min(b - a for a, b in pairwise(entropies)),
        "az_nas_trainability": sum(slopes) / len(slopes),
        "az_nas_complexity": macs(probe),
    }


def entropy(feature: Tensor) -> float:
    """Entropy of the normalised variances along principal components, in nats.

    Args:
        feature: shape (batch, channels) or (batch, channels, height, width); positions are samples.
    """
    rows = _rows(feature).double()
    rows = rows - rows.mean(dim=0)
    variances = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).clamp(min=0)
    share = variances / variances.sum()
    return float(-(share * (share + 1e-8).log()).sum())


def trainability(before: Tensor, after: Tensor, generator: torch.Generator) -> float:
    """2 − s − 1/s for what a block does to a gradient of random signs; −inf where it does nothing."""
    signs = torch.randint(0, 2, after.shape, generator=generator).to(after) * 2 - 1
    (back,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
    if back is None:
        raise Undefined("a block's output must depend on the block before, got one that does not")
    if back.shape == signs.shape and torch.equal(back, signs):
        return -torch.inf
    back = _unshuffled(back, signs)
    product = _rows(back).T @ _rows(signs) / len(_rows(signs))
    s = float(torch.linalg.matrix_norm(product.double(), 2))
    return 2 - s - 1 / (s + 1e-6)


def _unshuffled(x: Tensor, like: Tensor) -> Tensor:
    """Positions as channels, as many as it takes for both to have the same positions."""
    if x.shape[2:] == like.shape[2:]:
        return x
    if like.ndim != 4 or x.ndim != 4 or any(a % b for a, b in zip(x.shape[2:], like.shape[2:], strict=True)):
        raise Undefined(
            f"a block must divide the resolution, got {tuple(x.shape[2:])} to {tuple(like.shape[2:])}"
        )
    return F.pixel_unshuffle(x, x.shape[2] // like.shape[2])


def _rows(x: Tensor) -> Tensor:
    """Channels of every position of every sample: shape (samples · positions, channels)."""
    return x.movedim(1, -1).flatten(0, -2)


def _kaiming(weight: Tensor) -> float:
    return float((2 / weight[0].numel()) ** 0.5)


def _features(probe: Probe, x: Tensor) -> list[Tensor]:
    """What stands before the first block, and the output of each block, in order of calling."""
    for blocks in (list(_blocks(probe.module)), [layer for _, layer in probe.layers]):
        with probe.watching(*{type(block) for block in blocks}) as seen:
            probe.forward(x)
        names = {id(block) for block in blocks}
        calls = [call for call in seen if id(call.module) in names]
        stem = [call.inputs for call in calls[:1] if call.inputs.requires_grad]  # not the images
        features = [*stem, *(call.output for call in calls)]
        # A head that works on vectors is no block of a network of images.
        features = [f for f in features if f.ndim == features[0].ndim and f.ndim in (2, 4)]
        if len(features) > 1:
            return features
    raise Undefined("the module must have 2 blocks or more on (batch, channels, height, width), got fewer")


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Parts that have parts, without the containers that only hold such."""
    for part in module.children():
        if not any(True for _ in part.children()):
            continue
        if type(part) in (nn.Sequential, nn.ModuleList) and any(_blocks(part)):
            yield from _blocks(part)
        else:
            yield part
