"""The operations on the edges of the space of DARTS."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

if TYPE_CHECKING:
    from torch import Tensor

OPS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Operations of an edge, in the paper's order."""


def operation(op: str, channels: int, stride: int) -> nn.Module:
    """One operation of an edge; a stride of 2 halves the image, rounded up."""
    c, s = channels, stride
    match op:
        case "none":
            return Nothing(s)
        case "max_pool_3x3":
            return nn.MaxPool2d(3, s, 1)
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, s, 1, count_include_pad=False)
        case "skip_connect":
            return nn.Identity() if s == 1 else FactorizedReduce(c, c)
        case "sep_conv_3x3" | "sep_conv_5x5":
            k = int(op[-1])
            return nn.Sequential(*_separable(c, k, s), *_separable(c, k, 1))
        case _:
            return nn.Sequential(*_separable(c, int(op[-1]), s, dilation=2))


@final
class Nothing(nn.Module):
    """Zeros, of the image's size divided by the stride and rounded up."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


@final
class FactorizedReduce(nn.Module):
    """Half the image, rounded up, by two 1×1 convolutions of stride 2 that read pixels one step apart.

    Source: Liu et al. 2019, published code. Deviation: images of odd size are padded, where it would fail.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(before, after // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(before, after - after // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, after, ceil(height / 2), ceil(width / 2))."""
        x = self.relu(x)
        height, width = x.shape[-2:]
        shifted = F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
        out: Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted[:, :, 1:, 1:])], 1))
        return out


def _separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    c, padding = channels, dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        nn.BatchNorm2d(c),
    ]


def relu_conv_bn(before: int, after: int) -> nn.Module:
    """What brings an input of a cell to another number of channels."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
