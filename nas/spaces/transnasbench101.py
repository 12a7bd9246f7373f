"""The two spaces of TransNAS-Bench-101: a cell on its edges (micro), and a chain of modules (macro)."""

from __future__ import annotations

import re
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.decision import Categorical, Integer, Repeat
from nas.errors import must
from nas.space import Graph, Node, Space
from nas.spaces.settings import classes_of, image_shape_of, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from nas.architecture import Architecture
    from nas.task import Task

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
"""Operations of an edge by digit."""
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Edges (from node, to node) in the order of the benchmark's strings."""
MODULES = ("normal", "widen", "downsample", "widen_downsample")
"""Modules of the macro space; the digit is the position plus 1."""
_LAST = 3


@final
class TransNasBench101Micro(Space):
    """A cell of four nodes, twice in each of five modules; modules 1, 3 and 5 halve the image and widen it.

    Built as an image classifier, the form of the benchmark's ``class_object`` and ``class_scene``.

    Args:
        task: where the input shape and classes come from unless they are given.
        channels: of the stem; 64 in the benchmark.
        input_shape: (channels, height, width); (3, 256, 256) without a task.
        classes: 100 without a task, as of ``class_object``.

    Raises:
        BadInput: a setting is out of its range.

    Source: Duan et al. 2021, sec. 3.1. The sizes of all 711 measured cells fit this form exactly. As in
    `NasBench201Space`, an operation whose node carries nothing gives zero.
    """

    decisions = tuple(Categorical(f"edge_{j}_{i}", OPS) for j, i in EDGES)

    def __init__(
        self,
        task: Task | None = None,
        *,
        channels: int = 64,
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.channels = whole("channels", channels, 2, 4096)
        self.input_shape = image_shape_of(task, input_shape, (3, 256, 256))
        self.classes = classes_of(task, classes, 100)

    def build(self, architecture: Architecture) -> nn.Module:
        """The network; maps images of shape (batch, *input_shape) to logits of shape (batch, classes)."""
        ops = {(j, i): architecture[f"edge_{j}_{i}"] for j, i in EDGES}
        c = self.channels
        layers: list[nn.Module] = [_stem(self.input_shape[0], c)]
        for module in range(5):
            after = c if module % 2 else 2 * c
            layers += [Cell(ops, c, after), Cell(ops, after, after)]
            c = after
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0)]
        return nn.Sequential(*layers, nn.Linear(c, self.classes))

    def graph(self, architecture: Architecture) -> Graph:
        """The cell; a skip from its input is no identity, as it has weights where the image is halved."""
        nodes: list[Node] = [("input", ())]
        places = {0: 0}
        for end in range(1, _LAST + 1):
            first = len(nodes)
            nodes += [_entry(architecture[f"edge_{j}_{end}"], j, places[j]) for j in range(end)]
            nodes.append(("sum", tuple(range(first, first + end))))
            places[end] = len(nodes) - 1
        return Graph(nodes)

    def from_string(self, text: str) -> Architecture:
        """The architecture of a string such as ``64-41414-1_02_333``, ``1_02_333`` or ``102333``.

        Raises:
            BadInput: the text has another form.
        """
        match = re.fullmatch(r"(?:64-41414-)?([0-3])_?([0-3]{2})_?([0-3]{3})", text)
        if match is None:
            raise must("the string of a cell", "read 64-41414-1_02_333 with digits 0 to 3", text)
        digits = "".join(match.groups())
        return self.architecture(
            {f"edge_{j}_{i}": OPS[int(d)] for (j, i), d in zip(EDGES, digits, strict=True)}
        )

    def to_string(self, architecture: Architecture) -> str:
        """The benchmark's string of an architecture."""
        digits = "".join(str(OPS.index(architecture[f"edge_{j}_{i}"])) for j, i in EDGES)
        return f"64-41414-{digits[0]}_{digits[1:3]}_{digits[3:]}"


@final
class TransNasBench101Macro(Space):
    """Four to six modules of two residual blocks; one to three of them widen, one to four halve the image.

    Args:
        task, channels, input_shape, classes: as in `TransNasBench101Micro`.

    Raises:
        BadInput: a setting is out of its range.

    Source: Duan et al. 2021, sec. 3.1: 3,256 networks. The sizes of all measured ones fit this form exactly.
    """

    decisions = (Repeat("layer", Integer("count", 4, 6), (Categorical("type", MODULES),)),)

    def __init__(
        self,
        task: Task | None = None,
        *,
        channels: int = 64,
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.channels = whole("channels", channels, 2, 4096)
        self.input_shape = image_shape_of(task, input_shape, (3, 256, 256))
        self.classes = classes_of(task, classes, 100)

    def feasible(self, architecture: Architecture) -> bool:
        """Whether one to three modules widen, and one to four halve the image."""
        types = [a["type"] for a in architecture.repeated("layer")]
        return 1 <= sum("widen" in t for t in types) <= 3 and 1 <= sum("downsample" in t for t in types) <= 4

    def build(self, architecture: Architecture) -> nn.Module:
        """The network; maps images of shape (batch, *input_shape) to logits of shape (batch, classes)."""
        c = self.channels
        layers: list[nn.Module] = [_stem(self.input_shape[0], c)]
        for layer in architecture.repeated("layer"):
            after = 2 * c if "widen" in layer["type"] else c
            stride = 2 if "downsample" in layer["type"] else 1
            layers += [BasicBlock(c, after, stride), BasicBlock(after, after, 1)]
            c = after
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0)]
        return nn.Sequential(*layers, nn.Linear(c, self.classes))

    def from_string(self, text: str) -> Architecture:
        """The architecture of a string such as ``64-1234-basic``, ``1234`` or ``123400``.

        Raises:
            BadInput: the text has another form, or the network is not of the space.
        """
        match = re.fullmatch(r"(?:64-)?([1-4]{4,6})0{0,2}(?:-basic)?", text)
        if match is None:
            raise must("the string of a network", "read 64-1234-basic with four to six digits 1 to 4", text)
        types = {f"layer.{i}.type": MODULES[int(d) - 1] for i, d in enumerate(match[1])}
        architecture = self.architecture({"layer.count": len(match[1]), **types})
        if not self.feasible(architecture):
            raise must("a network", "widen one to three times and halve the image one to four times", text)
        return architecture

    def to_string(self, architecture: Architecture) -> str:
        """The benchmark's string of an architecture."""
        digits = "".join(str(MODULES.index(a["type"]) + 1) for a in architecture.repeated("layer"))
        return f"64-{digits}-basic"


@final
class Cell(nn.Module):
    """One cell.

    Args:
        ops: operation of each edge.
        before, after: channels of its input and of every other node; where they differ, edges from the
            input halve the image.
    """

    def __init__(self, ops: Mapping[tuple[int, int], str], before: int, after: int) -> None:
        super().__init__()
        self.after, self.stride = after, 1 if before == after else 2
        self.edges = nn.ModuleDict()
        for (j, i), op in ops.items():
            if op != "none":
                shape = (before, after, self.stride) if j == 0 else (after, after, 1)
                self.edges[f"edge_{j}_{i}"] = _operation(op, *shape)
        self.plan: dict[int, tuple[tuple[int, str], ...]] = {}
        for end in range(1, _LAST + 1):
            sources = [j for j in (0, *self.plan) if ops[j, end] != "none"]
            if sources:
                self.plan[end] = tuple((j, f"edge_{j}_{end}") for j in sources)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, after, height, width), halved where the cell widens (rounded up)."""
        values = {0: x}
        for end, incoming in self.plan.items():
            values[end] = reduce(add, [self.edges[name](values[j]) for j, name in incoming])
        if _LAST in values:
            return values[_LAST]
        height, width = ((n + self.stride - 1) // self.stride for n in x.shape[2:])
        return x.new_zeros(x.shape[0], self.after, height, width)


@final
class FactorizedReduction(nn.Module):
    """Half the resolution by two 1×1 convolutions on pixels that lie one apart diagonally, then joined.

    Source: Zoph et al. 2018, app. A.1 (as in the public implementations of DARTS).
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(before, after // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(before, after - after // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, after, ceil(height / 2), ceil(width / 2))."""
        x = F.relu(x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        out: Tensor = self.norm(torch.cat((self.even(x), self.odd(shifted)), dim=1))
        return out


@final
class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is a 1×1 convolution where the shape changes.

    Source: He et al. 2016, fig. 5.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        same = before == after and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else _projection(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, after, height / stride, width / stride), rounded up."""
        return F.relu(self.body(x) + self.shortcut(x))


def _projection(before: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


def _stem(before: int, channels: int) -> nn.Module:
    """A quarter of the resolution (rounded up)."""
    return nn.Sequential(
        nn.Conv2d(before, channels // 2, 3, 2, 1, bias=False),
        nn.BatchNorm2d(channels // 2),
        nn.ReLU(),
        nn.Conv2d(channels // 2, channels, 3, 2, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def _operation(op: str, before: int, after: int, stride: int) -> nn.Module:
    if op == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduction(before, after)
    kernel = 1 if op == "nor_conv_1x1" else 3
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(after))


def _entry(op: str, source: int, place: int) -> Node:
    if op == "none":
        return ("zero", ())
    return ("identity" if op == "skip_connect" and source else op, (place,))
