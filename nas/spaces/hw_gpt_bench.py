"""The space of HW-GPT-Bench at scale s: decoders whose layers choose their heads and widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.decision import Categorical, Integer, Repeat
from nas.space import Space
from nas.spaces.settings import whole

if TYPE_CHECKING:
    from torch import Tensor

    from nas.architecture import Architecture

HEAD_SIZE = 64


@final
class HwGptBenchSpace(Space):
    """Width, biases, depth, and for each layer the heads of 64 channels and the ratio of its gated MLP.

    Args:
        vocabulary: tokens; 50,254 in the benchmark.

    Raises:
        BadInput: the vocabulary is smaller than 1.

    Source: Sukthanker et al. 2024, sec. 3.1. The published sizes of all 10,000 sampled models fit this form
    exactly: heads of 64 channels whatever the width, three matrices in each MLP, layer norms with bias,
    and an output matrix of its own. What has no weights is taken from Touvron et al. 2023: rotary positions
    on whole heads and a SiLU gate.
    """

    decisions = (
        Categorical("embed_dim", (192, 384, 768)),
        Categorical("bias", (False, True)),
        Repeat(
            "layer",
            Integer("count", 10, 12),
            (Categorical("heads", (4, 8, 12)), Categorical("mlp_ratio", (2, 3, 4))),
        ),
    )

    def __init__(self, vocabulary: int = 50_254) -> None:
        self.vocabulary = whole("vocabulary", vocabulary, 1, 2**31)

    def build(self, architecture: Architecture) -> nn.Module:
        """The decoder; maps tokens of shape (batch, length) to logits (batch, length, vocabulary)."""
        width, bias = architecture["embed_dim"], architecture["bias"]
        layers = [Layer(width, a["heads"], a["mlp_ratio"], bias=bias) for a in architecture.repeated("layer")]
        return nn.Sequential(
            nn.Embedding(self.vocabulary, width),
            *layers,
            nn.LayerNorm(width),
            nn.Linear(width, self.vocabulary, bias=False),
        )


@final
class Layer(nn.Module):
    """Causal attention, then a gated MLP, each normalised before and added to its input.

    Args:
        width: channels of a token.
        heads: of 64 channels each.
        ratio: of the MLP's inner width to ``width``.
        bias: whether its linear maps have one.

    Shapes: B batch, L length, W width, H heads.
    """

    def __init__(self, width: int, heads: int, ratio: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * HEAD_SIZE, bias=bias)
        self.mixed = nn.Linear(heads * HEAD_SIZE, width, bias=bias)
        self.gate = nn.Linear(width, ratio * width, bias=bias)
        self.wide = nn.Linear(width, ratio * width, bias=bias)
        self.narrow = nn.Linear(ratio * width, width, bias=bias)

    def forward(self, x_BLW: Tensor) -> Tensor:  # noqa: N803 - letters are axes
        """Shape (batch, length, width), as the input."""
        b, length, _ = x_BLW.shape
        qkv = self.qkv(self.norm_attention(x_BLW)).view(b, length, 3, self.heads, HEAD_SIZE)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        x_BLW = x_BLW + self.mixed(mixed.transpose(1, 2).reshape(b, length, -1))  # noqa: N806
        y = self.norm_mlp(x_BLW)
        out: Tensor = x_BLW + self.narrow(F.silu(self.gate(y)) * self.wide(y))
        return out


def rotated(x: Tensor) -> Tensor:
    """Turn pairs of channels by angles that grow with the position; x is (..., length, channels).

    Source: Su et al. 2021 (RoFormer), eq. 15, halves paired.
    """
    length, channels = x.shape[-2:]
    rates = 10_000.0 ** (-torch.arange(0, channels, 2, device=x.device, dtype=torch.float32) / channels)
    angles = torch.arange(length, device=x.device, dtype=torch.float32)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
