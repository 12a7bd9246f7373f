"""Cells and networks of the space of DARTS, for one architecture and for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import add
from typing import TYPE_CHECKING, TypeAlias, final

import torch
from torch import nn

from nas.errors import must
from nas.sharing import Choice, Elastic, Followed, specialised
from nas.spaces.darts_operations import OPS, FactorizedReduce, operation, relu_conv_bn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from nas.architecture import Architecture
    from nas.decision import Value

NODES = (2, 3, 4, 5)
"""The nodes of a cell that are computed; 0 and 1 are the outputs of the two cells before it."""
PAIRS: Mapping[int, tuple[tuple[int, int], ...]] = {end: tuple(combinations(range(end), 2)) for end in NODES}
"""The pairs of nodes that each node may read."""

Edge: TypeAlias = tuple[int, int]
EDGES: tuple[Edge, ...] = tuple((j, end) for end in NODES for j in range(end))
"""All 14 edges, as (from node, to node)."""


def edge_name(edge: Edge) -> str:
    """The name of an edge, within its cell."""
    return f"edge_{edge[0]}_{edge[1]}"


@final
@dataclass(frozen=True)
class Place:
    """What a cell's place in the chain says of it.

    Attributes:
        before, last: channels of what the two cells before it give.
        channels: of each of its nodes.
        reduces: whether its edges from the inputs halve the image.
        reduced: whether the last cell did, so that what the one before it gave is larger.
    """

    before: int
    last: int
    channels: int
    reduces: bool
    reduced: bool

    @property
    def kind(self) -> str:
        """``normal`` or ``reduce``, by which the paths of its decisions begin."""
        return "reduce" if self.reduces else "normal"

    def inputs(self) -> list[nn.Module]:
        """What brings both inputs to the cell's channels and size."""
        c = self.channels
        first = FactorizedReduce(self.before, c) if self.reduced else relu_conv_bn(self.before, c)
        return [first, relu_conv_bn(self.last, c)]

    def operation(self, edge: Edge, op: str) -> nn.Module:
        """An operation of an edge."""
        return operation(op, self.channels, 2 if self.reduces and edge[0] < 2 else 1)


@final
class DartsNetwork(nn.Module):
    """Stem, a chain of cells that read the two before them, and a classifier.

    Args:
        cell: makes a cell for its place.
        layers: how many; those at a third and at two thirds reduce.
        channels: of the first cells' nodes.
        image_channels, classes: what it reads and answers.

    Source: Liu et al. 2019, sec. 3.1.2 and app. A.1.2; without auxiliary head and drop path.
    """

    def __init__(
        self,
        cell: Callable[[Place], nn.Module],
        layers: int,
        channels: int,
        image_channels: int,
        classes: int,
    ) -> None:
        super().__init__()
        stem = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        )
        self.cells = nn.ModuleList()
        before, last, reduced = stem, stem, False
        for i in range(layers):
            reduces = i in (layers // 3, 2 * layers // 3)
            channels = 2 * channels if reduces else channels
            self.cells.append(cell(Place(before, last, channels, reduces, reduced)))
            before, last, reduced = last, len(NODES) * channels, reduces
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (batch, classes) for images of shape (batch, channels, height, width)."""
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        out: Tensor = self.head(last)
        return out


@final
class Cell(nn.Module):
    """A cell of one architecture.

    Args:
        inputs: bring what the two cells before give to one number of channels and one size.
        edges: the operation of each edge that is read, two a node.
    """

    def __init__(self, inputs: Sequence[nn.Module], edges: Mapping[Edge, nn.Module]) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(inputs)
        self.edges = nn.ModuleDict({edge_name(edge): module for edge, module in edges.items()})
        self.incoming = {end: tuple(j for j, i in edges if i == end) for end in NODES}

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """The nodes' outputs, shape (batch, 4 * channels, height, width), height and width maybe halved."""
        values = [prepare(x) for prepare, x in zip(self.inputs, (before, last), strict=True)]
        for end, sources in self.incoming.items():
            values.append(reduce(add, [self.edges[edge_name((j, end))](values[j]) for j in sources]))
        return torch.cat(values[2:], 1)


@final
class ElasticCell(Elastic):
    """A cell with every operation on every edge: an architecture runs two edges a node, a mixture all.

    Under a mixture an edge counts as much as the pairs that it is in weigh together.

    Args:
        place: in the chain.

    Source: Liu et al. 2019, eq. 2 and fig. 1. Deviation: the operations are those of the final network, so
    pooling is not normalised, and batch norms scale and shift.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.followed = Followed()
        self.kind = place.kind
        self.inputs = nn.ModuleList(place.inputs())
        self.edges = nn.ModuleDict()
        for edge in EDGES:
            options: dict[Value, nn.Module] = {op: place.operation(edge, op) for op in OPS}
            self.edges[edge_name(edge)] = Choice(f"{self.kind}.{edge_name(edge)}", options)
        self.seen = {(j, end): OPS[0] for end in NODES for j in PAIRS[end][0]}

    @property
    def relaxes(self) -> frozenset[str]:
        """The choices of pairs."""
        return frozenset(pair_name(self.kind, end) for end in NODES[1:])

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """As `Cell.forward`."""
        if self.followed.architecture is not None:
            self.seen = ops_of(self.kind, self.followed.architecture)
        values = [prepare(x) for prepare, x in zip(self.inputs, (before, last), strict=True)]
        for end in NODES:
            values.append(self._node(end, values))
        return torch.cat(values[2:], 1)

    def plain(self, memo: dict[int, nn.Module]) -> Cell:
        """The cell of the operations last seen."""
        inputs = [specialised(module, memo) for module in self.inputs]
        return Cell(
            inputs, {edge: specialised(self._option(edge, op), memo) for edge, op in self.seen.items()}
        )

    def _option(self, edge: Edge, op: str) -> nn.Module:
        choice = self.edges[edge_name(edge)]
        assert isinstance(choice, Choice)
        return choice.options[op]

    def _node(self, end: int, values: Sequence[Tensor]) -> Tensor:
        relaxed = self.followed.relaxed
        if relaxed is None:
            terms = [self.edges[edge_name((j, end))](values[j]) for j, i in self.seen if i == end]
        else:
            shares = _shares(end, relaxed.get(pair_name(self.kind, end)))
            terms = [
                share * self.edges[edge_name((j, end))](values[j])
                for j, share in enumerate(shares)
                if share.requires_grad or float(share) != 0.0
            ]
        out: Tensor = reduce(add, terms)
        return out


def pair_name(kind: str, end: int) -> str:
    """The decision about which two nodes a node reads; node 2 has no choice."""
    return f"{kind}.inputs_{end}"


def ops_of(kind: str, architecture: Architecture) -> dict[Edge, str]:
    """The operations of the edges that the cells of a kind read, by ascending end."""
    ops = {}
    for end in NODES:
        pair = architecture.get(pair_name(kind, end), "0,1")
        for j in map(int, pair.split(",")):
            ops[j, end] = architecture[f"{kind}.{edge_name((j, end))}"]
    return ops


def _shares(end: int, weights: Tensor | None) -> list[Tensor]:
    """For each earlier node, the weights of the pairs that it is in, summed; 1 where there is one pair."""
    if weights is None:
        return [torch.tensor(1.0) for _ in range(end)]
    if len(weights) != len(PAIRS[end]):
        raise must(f"mixture.inputs_{end}", f"have {len(PAIRS[end])} weights", len(weights))
    return [weights[[n for n, pair in enumerate(PAIRS[end]) if j in pair]].sum() for j in range(end)]
