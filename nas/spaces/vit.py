"""Vision transformers whose sizes share one set of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.decision import Categorical, Integer, Repeat
from nas.errors import must
from nas.sharing import (
    Elastic,
    ElasticLinear,
    ElasticNorm,
    ElasticSequential,
    ElasticSpace,
    Followed,
    Product,
)
from nas.spaces.residual import Residual
from nas.spaces.settings import classes_of, image_shape_of, whole, widths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.task import Task


@final
class VitSpace(ElasticSpace):
    """Width and depth of a vision transformer, and for each layer its heads and the ratio of its MLP.

    Every size uses the first of the largest network's weights; a head is the same rows of queries, keys and
    values in all of them. Non-overlapping patches are mapped linearly, get learned positions, pass layers
    that normalise before attention and MLP, and are averaged: there is no class token.

    Args:
        task: where the input shape and classes come from unless they are given.
        patch: side of a patch in pixels, by which both sides of an image must be divisible.
        embed_dims: the options of ``embed_dim``, ascending.
        heads: the options of a layer's ``heads``, ascending.
        head_size: channels of a head.
        mlp_ratios: the options of a layer's ``mlp_ratio``, ascending.
        least_depth, depth: fewest and most layers, in [1, 64].
        input_shape: (channels, height, width); (3, 32, 32) without a task.
        classes: 10 without a task.

    Raises:
        BadInput: a setting is out of its range.

    Source: Chen et al. 2021 (AutoFormer), sec. 3.2, weight entanglement, and table 2 scaled down to images
    of some 30 pixels; positions are learned and absolute only, and the average of all tokens stands for
    their class token.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        patch: int = 4,
        embed_dims: Sequence[int] = (48, 64, 96),
        heads: Sequence[int] = (2, 3, 4),
        head_size: int = 16,
        mlp_ratios: Sequence[int] = (1, 2, 3, 4),
        least_depth: int = 3,
        depth: int = 6,
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.input_shape = image_shape_of(task, input_shape, (3, 32, 32))
        self.classes = classes_of(task, classes, 10)
        self.patch = whole("patch", patch, 1, 1024)
        if any(side % self.patch for side in self.input_shape[1:]):
            raise must("patch", f"divide the sides of an image, {self.input_shape[1:]}", patch)
        self.head_size = whole("head_size", head_size, 1, 1024)
        self.depth = whole("depth", depth, 1, 64)
        self.embed_dims, self.heads = widths("embed_dims", embed_dims), widths("heads", heads)
        self.mlp_ratios = widths("mlp_ratios", mlp_ratios)
        layer = (Categorical("heads", self.heads), Categorical("mlp_ratio", self.mlp_ratios))
        count = Integer("count", whole("least_depth", least_depth, 1, self.depth), self.depth)
        self.decisions = (Categorical("embed_dim", self.embed_dims), Repeat("layer", count, layer))

    def elastic(self) -> nn.Module:
        """The largest transformer; maps images of shape (batch, *input_shape) to logits (batch, classes)."""
        width = self.embed_dims[-1]
        channels, height, across = self.input_shape
        patches = (height // self.patch) * (across // self.patch)
        return nn.Sequential(
            Patches(self.patch),
            ElasticLinear(channels * self.patch**2, width, out="embed_dim"),
            ElasticPositions(patches, width),
            ElasticSequential((self._layer(i) for i in range(self.depth)), depth="layer.count"),
            ElasticNorm(nn.LayerNorm(width)),
            Average(),
            nn.Dropout(0.0),
            ElasticLinear(width, self.classes),
        )

    def example(self) -> Tensor:
        """One image of zeros."""
        return torch.zeros(1, *self.input_shape)

    def _layer(self, i: int) -> nn.Module:
        width, mixed = self.embed_dims[-1], self.heads[-1] * self.head_size
        inner = self.mlp_ratios[-1] * width
        three_parts = Product(3 * self.head_size, f"layer.{i}.heads")
        attention = Attention(
            ElasticLinear(width, 3 * mixed, out=three_parts, parts=3),
            ElasticLinear(mixed, width, out="embed_dim"),
            self.head_size,
        )
        mlp = nn.Sequential(
            ElasticLinear(width, inner, out=Product("embed_dim", f"layer.{i}.mlp_ratio")),
            nn.GELU(),
            ElasticLinear(inner, width, out="embed_dim"),
        )
        return nn.Sequential(
            Residual(nn.Sequential(ElasticNorm(nn.LayerNorm(width)), attention)),
            Residual(nn.Sequential(ElasticNorm(nn.LayerNorm(width)), mlp)),
        )


@final
class Patches(nn.Module):
    """Cuts images into square patches, row by row.

    Args:
        side: of a patch in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, height, width) to (batch, patches, channels * side * side)."""
        return F.unfold(x, self.side, stride=self.side).transpose(1, 2)


@final
class Positions(nn.Module):
    """Adds a learned vector for each position.

    Args:
        length: number of positions.
        width: channels of a token.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Vectors of a standard deviation of 0.02."""
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, length, width), as the input."""
        return x + self.weight


@final
class ElasticPositions(Elastic):
    """The same for tokens of however many channels, of which the first are used.

    Args:
        length: number of positions.
        width: the most channels of a token.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.followed = Followed()
        self.positions = Positions(length, width)
        self.seen = width

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, length, channels), as the input."""
        self.seen = x.shape[-1]
        return x + self.positions.weight[:, : self.seen]

    def plain(self, memo: Mapping[int, nn.Module]) -> Positions:  # noqa: ARG002 - has nothing inside
        """Positions of the width last seen."""
        weight = self.positions.weight.detach()
        with torch.device("meta"):
            layer = Positions(len(weight), self.seen)
        layer.weight = nn.Parameter(weight[:, : self.seen].clone())
        return layer


@final
class Attention(nn.Module):
    """Every token looks at every other, in as many heads as the first map gives.

    Args:
        qkv: maps tokens to queries, keys and values of all heads.
        mixed: maps what all heads found to a token.
        head_size: channels of a head.

    Source: Vaswani et al. 2017, sec. 3.2.
    """

    def __init__(self, qkv: nn.Module, mixed: nn.Module, head_size: int) -> None:
        super().__init__()
        self.qkv, self.mixed, self.head_size = qkv, mixed, head_size

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, length, width), as the input."""
        b, length, _ = x.shape
        q, k, v = self.qkv(x).view(b, length, 3, -1, self.head_size).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.mixed(found.transpose(1, 2).flatten(2))
        return out


@final
class Average(nn.Module):
    """The mean of all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, length, width) to (batch, width)."""
        return x.mean(1)
