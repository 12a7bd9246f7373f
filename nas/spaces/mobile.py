"""Mobile networks of inverted residual blocks whose sizes share one set of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from nas.decision import Categorical, Integer, Repeat
from nas.errors import must
from nas.sharing import (
    ElasticConv2d,
    ElasticLinear,
    ElasticNorm,
    ElasticResize,
    ElasticSequential,
    ElasticSpace,
    Product,
    Rule,
)
from nas.spaces.residual import Residual
from nas.spaces.settings import classes_of, image_shape_of, whole
from nas.spaces.settings import widths as checked_widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.architecture import Architecture
    from nas.task import Task

MULTIPLIERS = (0.5, 0.75, 1.0)
"""Options of a stage's ``width``: the share of its channels that are used."""
_HEAD = 4
"""Channels before the classifier, by those of the last stage."""


@final
class MobileSpace(ElasticSpace):
    """Image size, and for each stage its width, depth, and each block's kernel and expansion.

    Every size uses the first of the largest network's channels, and the centre of its kernels. A stage
    begins with a block that may halve the image; the blocks after it are residual. By default the space has
    some 10^14 networks of 18 to 340 thousand parameters.

    Args:
        task: where the input shape and classes come from unless they are given.
        width: multiplies the channels of stem and stages, which stay multiples of 4; in (0, 16].
        stages: channels of each stage at their widest, before ``width``.
        strides: of the first block of each stage, 1 or 2.
        depth: most blocks of a stage, in [1, 16].
        kernels: the options of a block's ``kernel``, odd and ascending.
        expansions: the options of a block's ``expansion``, ascending.
        resolutions: the options of the height to which images are scaled, ascending, the last of them that
            of the images; None for it and its multiples of 4 near 3/4 and 7/8 of it.
        input_shape: (channels, height, width); (3, 32, 32) without a task.
        classes: 10 without a task.

    Raises:
        BadInput: a setting is out of its range.

    Source: Cai et al. 2020 (once-for-all), sec. 3.2-3.3, with widths as in Yu et al. 2020 (BigNAS), sec. 3;
    blocks and activations of Howard et al. 2019 (MobileNetV3), table 1, without squeeze-and-excitation.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        width: float = 1.0,
        stages: Sequence[int] = (16, 24, 40, 64),
        strides: Sequence[int] = (2, 2, 2, 1),
        depth: int = 3,
        kernels: Sequence[int] = (3, 5, 7),
        expansions: Sequence[int] = (3, 4, 6),
        resolutions: Sequence[int] | None = None,
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.input_shape = image_shape_of(task, input_shape, (3, 32, 32))
        self.classes = classes_of(task, classes, 10)
        if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 16:
            raise must("width", "lie in (0, 16]", width)
        self.channels = tuple(_fours(width * whole("stages", c, 1, 65_536)) for c in stages)
        self.strides = tuple(whole("strides", s, 1, 2) for s in strides)
        if not stages or len(self.strides) != len(self.channels):
            raise must("strides", f"be as many as stages ({len(stages)}, at least 1)", tuple(strides))
        self.depth = whole("depth", depth, 1, 16)
        self.kernels, self.expansions = (
            checked_widths("kernels", kernels),
            checked_widths("expansions", expansions),
        )
        if any(k % 2 == 0 for k in self.kernels):
            raise must("kernels", "be odd", self.kernels)
        self.decisions = (
            Categorical("resolution", _resolutions(self.input_shape[1], resolutions)),
            Repeat("stage", len(self.channels), self._stage_decisions()),
        )

    def _stage_decisions(self) -> tuple[Categorical | Repeat, ...]:
        block = (Categorical("kernel", self.kernels), Categorical("expansion", self.expansions))
        return (
            Categorical("width", MULTIPLIERS),
            Repeat("block", Integer("count", 1, self.depth), block),
        )

    def elastic(self) -> nn.Module:
        """The largest network; maps images of shape (batch, *input_shape) to logits (batch, classes)."""
        stem, last = self.channels[0], self.channels[-1]
        head = _HEAD * last
        channels, height, across = self.input_shape
        return nn.Sequential(
            ElasticResize(height, across, out="resolution"),
            _conv(channels, stem, 3, out=Channels(0, stem)),
            nn.Hardswish(),
            *(self._stage(i) for i in range(len(self.channels))),
            _conv(last, head, 1),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.0),
            ElasticLinear(head, self.classes),
        )

    def example(self) -> Tensor:
        """One image of zeros."""
        return torch.zeros(1, *self.input_shape)

    def _stage(self, i: int) -> ElasticSequential:
        blocks = (self._block(i, j) for j in range(self.depth))
        return ElasticSequential(blocks, depth=f"stage.{i}.block.count")

    def _block(self, stage: int, j: int) -> nn.Module:
        """Block j of a stage, of which the first takes the channels and the size of the stage before."""
        source = max(stage - 1, 0) if j == 0 else stage
        before, after = self.channels[source], self.channels[stage]
        name = f"stage.{stage}.block.{j}"
        inner = before * self.expansions[-1]
        activation = nn.ReLU if 2 * stage < len(self.channels) else nn.Hardswish
        body = nn.Sequential(
            _conv(before, inner, 1, out=Product(Channels(source, before), f"{name}.expansion")),
            activation(),
            _depthwise(inner, self.kernels, self.strides[stage] if j == 0 else 1, f"{name}.kernel"),
            activation(),
            _conv(inner, after, 1, out=Channels(stage, after)),
        )
        return Residual(body) if j else body


@final
@dataclass(frozen=True)
class Channels:
    """A rule: how many of a stage's channels are used.

    Attributes:
        stage: its index.
        most: its channels at a width of 1.
    """

    stage: int
    most: int

    def __call__(self, architecture: Architecture) -> int:
        """The channels under an architecture, a multiple of 4."""
        return _fours(self.most * architecture[f"stage.{self.stage}.width"])


def _conv(before: int, after: int, kernel: int, *, out: Rule | None = None) -> nn.Module:
    conv = ElasticConv2d(before, after, kernel, bias=False, out=out)
    return nn.Sequential(conv, ElasticNorm(nn.BatchNorm2d(after)))


def _depthwise(channels: int, kernels: Sequence[int], stride: int, rule: str) -> nn.Module:
    conv = ElasticConv2d(
        channels, channels, kernels[-1], stride, channels, bias=False, kernel=rule, kernel_sizes=kernels
    )
    return nn.Sequential(conv, ElasticNorm(nn.BatchNorm2d(channels)))


def _fours(channels: float) -> int:
    """The nearest multiple of 4, at least 4; the larger of two."""
    return max(4, 4 * int(channels / 4 + 0.5))


def _resolutions(side: int, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is None:
        smaller = (4 * round(side * share / 4) for share in (0.75, 0.875))
        return (*sorted({s for s in smaller if 0 < s < side}), side)
    checked = checked_widths("resolutions", given)
    if checked[-1] != side:
        raise must("resolutions", f"end with the height of the images ({side})", checked)
    return checked
