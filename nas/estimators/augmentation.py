"""Random changes of a batch of images, drawn from torch's current RNG.

Shapes: ``x`` is (N, C, H, W), that is images, channels, height, width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the field's name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def flip(x: Tensor) -> Tensor:
    """Every image mirrored left to right with probability 1/2."""
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


def crop(x: Tensor) -> Tensor:
    """Every image shifted by up to an eighth of its sides, at least a pixel, with zeros moved in.

    Source: He et al. 2016, sec. 4.2: 4 pixels of padding for images of 32 pixels.
    """
    n, channels, height, width = x.shape
    dy, dx = max(1, height // 8), max(1, width // 8)
    padded = F.pad(x, (dx, dx, dy, dy))
    rows = torch.randint(2 * dy + 1, (n, 1), device=x.device) + torch.arange(height, device=x.device)
    columns = torch.randint(2 * dx + 1, (n, 1), device=x.device) + torch.arange(width, device=x.device)
    image = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


AUGMENTATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "crop": crop,
    "flip": flip,
    "crop_flip": lambda x: flip(crop(x)),
}
