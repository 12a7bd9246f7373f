"""The space of NAS-Bench-Macro: a chain of eight blocks, each an inverted residual or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import nn

from nas.decision import Categorical
from nas.errors import must
from nas.sharing import Choice, ElasticSupernet
from nas.space import Graph, Node, Space
from nas.spaces.settings import classes_of, image_shape_of, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from nas.architecture import Architecture
    from nas.task import Task

BLOCKS = ("identity", "mb_k3_e3", "mb_k5_e6")
"""Blocks by the digit of the benchmark's strings."""
LAYERS = 8
_FIRST = (0, 2, 5)
_HEAD = 1280


@final
class NasBenchMacroSpace(Space):
    """Three stages of 2, 3 and 3 blocks at 2C, 4C and 8C channels; the first of a stage halves the image.

    Where the first block of a stage is the identity, a 1×1 convolution takes its place.

    Args:
        task: where the input shape and classes come from unless they are given.
        channels: C, of the stem; 32 in the benchmark.
        input_shape: (channels, height, width); (3, 32, 32) without a task.
        classes: 10 without a task.

    Raises:
        BadInput: a setting is out of its range.

    Source: Su et al. 2021, app. A; the sizes and multiply-accumulates of all 6,561 networks agree with the
    published ones.
    """

    decisions = tuple(Categorical(f"layer_{i}", BLOCKS) for i in range(LAYERS))

    def __init__(
        self,
        task: Task | None = None,
        *,
        channels: int = 32,
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.channels = whole("channels", channels, 1, 4096)
        self.input_shape = image_shape_of(task, input_shape, (3, 32, 32))
        self.classes = classes_of(task, classes, 10)

    def build(self, architecture: Architecture) -> nn.Module:
        """The network; maps images of shape (batch, *input_shape) to logits of shape (batch, classes)."""
        return self._network(lambda i, c, after, stride: _block(architecture[f"layer_{i}"], c, after, stride))

    def supernet(self) -> ElasticSupernet:
        """Every block in every layer; runs architectures and mixtures."""
        return ElasticSupernet(self._network(_any_block), self, torch.zeros(1, *self.input_shape))

    def _network(self, block: Callable[[int, int, int, int], nn.Module]) -> nn.Module:
        """Stem, chain and classifier; a block is made of its layer, channels before and after, and stride."""
        c = self.channels
        layers = [_conv(self.input_shape[0], c, 3)]
        for i in range(LAYERS):
            after = 2 * c if i in _FIRST else c
            layers.append(block(i, c, after, 2 if i in _FIRST else 1))
            c = after
        layers += [_conv(c, _HEAD, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, nn.Dropout(0.0), nn.Linear(_HEAD, self.classes))

    def graph(self, architecture: Architecture) -> Graph:
        """The chain; the first blocks of stages differ from others of the same kind."""
        nodes: list[Node] = [("input", ())]
        for i in range(LAYERS):
            block = architecture[f"layer_{i}"]
            if i in _FIRST:
                nodes.append((f"{block}_first_{i}", (i,)))
            else:
                nodes.append((block, (i,)))
        return Graph(nodes)

    def from_string(self, text: str) -> Architecture:
        """The architecture of a benchmark string: a digit a layer, such as ``02012100``.

        Raises:
            BadInput: the text is not eight digits of 0, 1 and 2.
        """
        if len(text) != LAYERS or set(text) - set("012"):
            raise must("the string of a network", "be eight digits of 0, 1 and 2", text)
        return self.architecture({f"layer_{i}": BLOCKS[int(d)] for i, d in enumerate(text)})

    def to_string(self, architecture: Architecture) -> str:
        """The benchmark's string of an architecture."""
        return "".join(str(BLOCKS.index(architecture[f"layer_{i}"])) for i in range(LAYERS))


@final
class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow; added to the input where the shape stays.

    Source: Sandler et al. 2018, sec. 3.3.
    """

    def __init__(self, before: int, after: int, kernel: int, expand: int, stride: int) -> None:
        super().__init__()
        inner = before * expand
        self.body = nn.Sequential(
            _conv(before, inner, 1),
            _conv(inner, inner, kernel, stride, inner),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.residual = before == after and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, after, height / stride, width / stride), rounded up."""
        out: Tensor = self.body(x)
        return x + out if self.residual else out


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU6())


def _block(name: str, before: int, after: int, stride: int) -> nn.Module:
    if name == "identity":
        if before == after and stride == 1:
            return nn.Identity()
        return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    kernel, expand = (3, 3) if name == "mb_k3_e3" else (5, 6)
    return InvertedResidual(before, after, kernel, expand, stride)


def _any_block(layer: int, before: int, after: int, stride: int) -> nn.Module:
    return Choice(f"layer_{layer}", {name: _block(name, before, after, stride) for name in BLOCKS})
