"""Small residual convolutional networks, from 8x8 digits to images of some hundred pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from torch import nn

from nas.decision import Categorical, Integer, OneOf, Repeat
from nas.space import Space
from nas.spaces.settings import classes_of, image_shape_of, whole
from nas.spaces.settings import widths as checked_widths
from nas.spaces.stochastic_depth import StochasticDepth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from nas.architecture import Architecture
    from nas.task import Task


@final
class ConvSpace(Space):
    """Stages of residual blocks; each stage after the first halves the resolution.

    A stage chooses its depth, its width (stage i has ``width * 2**i`` channels) and its block: ``plain``
    (two 3x3 convolutions) or ``bottleneck`` (expansion, depthwise convolution, projection), which also
    chooses its kernel and expansion. Images of 16 pixels or more also choose the stride of the stem.
    Residual branches end in a `StochasticDepth` and the classifier is preceded by a dropout, both at 0,
    for a recipe to set. By default the space has more than 600,000 networks of some 700 to 500,000
    parameters.

    Args:
        task: where the input shape and classes come from unless they are given.
        stages: most stages of a network, in [1, 6].
        depth: most blocks of a stage, in [1, 16].
        widths: the options of ``width``, ascending.
        input_shape: (channels, height, width) of an image; (3, 32, 32) without a task.
        classes: 10 without a task.

    Raises:
        BadInput: a setting is out of its range.

    Source: plain blocks, He et al. 2016, fig. 2 with projection shortcuts; bottlenecks, Sandler et al.
    2018, table 1, with ReLU for ReLU6.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        stages: int = 3,
        depth: int = 3,
        widths: Sequence[int] = (8, 12, 16, 20),
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.input_shape = image_shape_of(task, input_shape, (3, 32, 32))
        self.classes = classes_of(task, classes, 10)
        stage = (
            Integer("depth", 1, whole("depth", depth, 1, 16)),
            Categorical("width", checked_widths("widths", widths)),
            OneOf("block", {"plain": (), "bottleneck": _BOTTLENECK}),
        )
        repeated = Repeat("stage", Integer("count", 1, whole("stages", stages, 1, 6)), stage)
        large = min(self.input_shape[1:]) >= 16
        self.decisions = (Categorical("stem_stride", (1, 2)), repeated) if large else (repeated,)

    def build(self, architecture: Architecture) -> nn.Module:
        """The network; maps images of shape (batch, *input_shape) to logits of shape (batch, classes)."""
        stages = architecture.repeated("stage")
        width = stages[0]["width"]
        stem = _conv(self.input_shape[0], width, 3, stride=architecture.get("stem_stride", 1))
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU()]
        for i, stage in enumerate(stages):
            before, width = width, stage["width"] * 2**i
            layers.append(_block(stage, before, width, stride=1 if i == 0 else 2))
            layers += [_block(stage, width, width, stride=1) for _ in range(stage["depth"] - 1)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0), nn.Linear(width, self.classes)]
        return nn.Sequential(*layers)


_BOTTLENECK = (Categorical("kernel", (3, 5)), Categorical("expansion", (2, 4, 6)))


@final
class Residual(nn.Module):
    """``after(shortcut(x) + stochastic_depth(branch(x)))``."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.drop = StochasticDepth()
        self.shortcut = shortcut
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, height, width) to the same with the branch's channels and stride."""
        out: Tensor = self.after(self.shortcut(x) + self.drop(self.branch(x)))
        return out


def _block(stage: Architecture, before: int, width: int, stride: int) -> Residual:
    """One block of a stage, from ``before`` to ``width`` channels."""
    shortcut: nn.Module = nn.Identity()
    if stride != 1 or before != width:
        shortcut = nn.Sequential(_conv(before, width, 1, stride), nn.BatchNorm2d(width))
    if stage["block"] == "plain":
        return Residual(_plain(before, width, stride), shortcut, nn.ReLU())
    inner = stage.part("block.bottleneck")
    branch = _bottleneck(before, width, stride, inner["kernel"], inner["expansion"])
    return Residual(branch, shortcut, nn.Identity())


def _plain(before: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(
        _conv(before, width, 3, stride),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        _conv(width, width, 3),
        nn.BatchNorm2d(width),
    )


def _bottleneck(before: int, width: int, stride: int, kernel: int, expansion: int) -> nn.Module:
    hidden = before * expansion
    return nn.Sequential(
        _conv(before, hidden, 1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        _conv(hidden, hidden, kernel, stride, groups=hidden),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        _conv(hidden, width, 1),
        nn.BatchNorm2d(width),
    )


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
