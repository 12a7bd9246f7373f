"""The space of HW-GPT-Bench at scale s: decoders whose layers choose their heads and widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.decision import Categorical, Integer, Repeat
from nas.sharing import (
    Elastic,
    ElasticEmbedding,
    ElasticLinear,
    ElasticNorm,
    ElasticSequential,
    ElasticSupernet,
    Followed,
    Product,
    specialised,
)
from nas.space import Space
from nas.spaces.settings import whole

if TYPE_CHECKING:
    from torch import Tensor

    from nas.architecture import Architecture

HEAD_SIZE = 64
_WIDTHS, _HEADS, _RATIOS, _LAYERS = (192, 384, 768), (4, 8, 12), (2, 3, 4), 12


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
        Categorical("embed_dim", _WIDTHS),
        Categorical("bias", (False, True)),
        Repeat(
            "layer",
            Integer("count", 10, _LAYERS),
            (Categorical("heads", _HEADS), Categorical("mlp_ratio", _RATIOS)),
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

    def supernet(self) -> ElasticSupernet:
        """The largest decoder, of whose weights every architecture uses the first."""
        return ElasticSupernet(SharedDecoder(self.vocabulary), self, torch.zeros(1, 2, dtype=torch.long))


@final
class Layer(nn.Module):
    """Causal attention, then a gated MLP, each normalised before and added to its input.

    Args:
        width: channels of a token.
        heads: of 64 channels each.
        ratio: of the MLP's inner width to ``width``.
        bias: whether its linear maps have one.

    Shapes: B batch, L length, W width.
    """

    def __init__(self, width: int, heads: int, ratio: int, *, bias: bool) -> None:
        super().__init__()
        self.norm_attention: nn.Module = nn.LayerNorm(width)
        self.norm_mlp: nn.Module = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * HEAD_SIZE, bias=bias)
        self.mixed = nn.Linear(heads * HEAD_SIZE, width, bias=bias)
        self.gate = nn.Linear(width, ratio * width, bias=bias)
        self.wide = nn.Linear(width, ratio * width, bias=bias)
        self.narrow = nn.Linear(ratio * width, width, bias=bias)

    def forward(self, x_BLW: Tensor) -> Tensor:  # noqa: N803 - letters are axes
        """Shape (batch, length, width), as the input."""
        b, length, _ = x_BLW.shape
        qkv = self.qkv(self.norm_attention(x_BLW)).view(b, length, 3, -1, HEAD_SIZE)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        x_BLW = x_BLW + self.mixed(mixed.transpose(1, 2).flatten(2))  # noqa: N806
        y = self.norm_mlp(x_BLW)
        out: Tensor = x_BLW + self.narrow(F.silu(self.gate(y)) * self.wide(y))
        return out


@final
class SharedDecoder(Elastic):
    """The decoder at its largest size; becomes the sequence that `HwGptBenchSpace.build` gives.

    Heads are the first ones of queries, keys and values each.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.followed = Followed()
        self.embed = ElasticEmbedding(vocabulary, _WIDTHS[-1], out="embed_dim")
        self.layers = ElasticSequential((_shared_layer(i) for i in range(_LAYERS)), depth="layer.count")
        self.norm = ElasticNorm(nn.LayerNorm(_WIDTHS[-1]))
        self.logits = ElasticLinear(_WIDTHS[-1], vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of shape (batch, length, vocabulary) for tokens of shape (batch, length)."""
        out: Tensor = self.logits(self.norm(self.layers(self.embed(tokens))))
        return out

    def plain(self, memo: dict[int, nn.Module]) -> nn.Sequential:
        """Embedding, layers, norm and output matrix, one after another."""
        layers = specialised(self.layers, memo).children()
        embed, norm, logits = (specialised(m, memo) for m in (self.embed, self.norm, self.logits))
        return nn.Sequential(embed, *layers, norm, logits)


def _shared_layer(i: int) -> Layer:
    """A layer at its largest size, of elastic maps."""
    width, heads, ratio = _WIDTHS[-1], _HEADS[-1], _RATIOS[-1]
    with torch.device("meta"):
        layer = Layer(width, heads, ratio, bias=True)
    inner = Product("embed_dim", f"layer.{i}.mlp_ratio")
    heads_of_three = Product(3 * HEAD_SIZE, f"layer.{i}.heads")
    mixed = heads * HEAD_SIZE
    layer.norm_attention = ElasticNorm(nn.LayerNorm(width))
    layer.norm_mlp = ElasticNorm(nn.LayerNorm(width))
    layer.qkv = ElasticLinear(width, 3 * mixed, bias="bias", out=heads_of_three, parts=3)
    layer.mixed = ElasticLinear(mixed, width, bias="bias", out="embed_dim")
    layer.gate = ElasticLinear(width, ratio * width, bias="bias", out=inner)
    layer.wide = ElasticLinear(width, ratio * width, bias="bias", out=inner)
    layer.narrow = ElasticLinear(ratio * width, width, bias="bias", out="embed_dim")
    return layer


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
