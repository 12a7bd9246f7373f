"""The space of NAS-Bench-201: a cell of five operations on the edges of a small DAG, as a network."""

from __future__ import annotations

import re
from functools import reduce
from itertools import islice, pairwise
from operator import add
from typing import TYPE_CHECKING, TypeAlias, final

import torch
from torch import nn

from nas.decision import Categorical
from nas.errors import must, unknown
from nas.sharing import Choice, Elastic, ElasticSupernet, Followed, Zero, specialised
from nas.space import Graph, Node, Space
from nas.spaces.settings import classes_of, image_shape_of, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor

    from nas.architecture import Architecture
    from nas.task import Task

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""Operations of an edge, in the benchmark's order."""

Edge: TypeAlias = tuple[int, int]
Plan: TypeAlias = dict[int, tuple[tuple[int, str], ...]]
Row: TypeAlias = tuple[tuple[tuple[str, dict[str, Node]], ...], tuple[Node, ...]]


@final
class NasBench201Space(Space):
    """Three stages of one repeated cell, at C, 2C and 4C channels.

    A cell is a fully connected DAG; the edge from node j to node i is the decision ``edge_j_i``, and a node
    is the sum of its edges. Edges are ordered as in the benchmark's strings.

    Args:
        task: where the input shape and classes come from unless they are given.
        cells: cells in each of the three stages (N); 5 in the benchmark.
        nodes: of a cell, its input included: 4 in the benchmark (15,625 cells), 3 (125 cells).
        channels: C, of the first stage; 16 in the benchmark.
        input_shape: (channels, height, width) of an image; (3, 32, 32) without a task.
        classes: 10 without a task.

    Raises:
        BadInput: a setting is out of its range.

    Source: Dong & Yang 2020, sec. 2.1. Deviations: odd image sizes are rounded up where the benchmark's
    shortcut would not fit; an operation whose node carries nothing (all of its edges are none) gives zero,
    where the benchmark gives the learned bias of its batch norm, so that cells which are equal by
    `graph` compute the same function. The weights of such operations exist and count, as in the benchmark.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        cells: int = 5,
        nodes: int = 4,
        channels: int = 16,
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.cells = whole("cells", cells, 1, 100)
        self.nodes = whole("nodes", nodes, 3, 4)
        self.channels = whole("channels", channels, 1, 4096)
        self.input_shape = image_shape_of(task, input_shape, (3, 32, 32))
        self.classes = classes_of(task, classes, 10)
        self.edges: tuple[Edge, ...] = tuple((j, i) for i in range(1, self.nodes) for j in range(i))
        self.decisions = tuple(Categorical(_name(edge), OPS) for edge in self.edges)
        self._rows = _rows(self.nodes)

    def build(self, architecture: Architecture) -> nn.Module:
        """The network; maps images of shape (batch, *input_shape) to logits of shape (batch, classes)."""
        ops = {edge: architecture[_name(edge)] for edge in self.edges}
        return self._network(lambda c: Cell({edge: operation(op, c) for edge, op in ops.items()}))

    def supernet(self) -> ElasticSupernet:
        """Every operation on every edge; runs architectures and mixtures."""
        network = self._network(lambda c: ElasticCell(self.edges, c))
        return ElasticSupernet(network, self, torch.zeros(1, *self.input_shape))

    def _network(self, cell: Callable[[int], nn.Module]) -> nn.Module:
        """Stem, three stages and classifier, with cells made for a number of channels."""
        c = self.channels
        layers: list[nn.Module] = [nn.Conv2d(self.input_shape[0], c, 3, padding=1, bias=False)]
        layers.append(nn.BatchNorm2d(c))
        layers += [cell(c) for _ in range(self.cells)]
        for before, after in pairwise((c, 2 * c, 4 * c)):
            layers.append(Reduction(before, after))
            layers += [cell(after) for _ in range(self.cells)]
        layers += [nn.BatchNorm2d(4 * c), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, nn.Dropout(0.0), nn.Linear(4 * c, self.classes))

    def graph(self, architecture: Architecture) -> Graph:
        """The cell: its input, one graph node an edge, and a sum for each node of several edges."""
        nodes: list[Node] = [("input", ())]
        for edges, total in self._rows:
            nodes += [table[architecture[name]] for name, table in edges]
            nodes += total
        return Graph(nodes)

    def from_string(self, text: str) -> Architecture:
        """The architecture of a benchmark string, such as ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

        Raises:
            BadInput: the text has another form, or names an unknown operation.
        """
        form = self._text("op" for _ in self.edges)
        match = re.fullmatch(re.escape(form).replace("op", "([^~|+]+)"), text)
        if match is None:
            raise must("the string of a cell", f"read {form}", text)
        for op in match.groups():
            if op not in OPS:
                raise unknown("operation", op, OPS)
        return self.architecture(dict(zip(map(_name, self.edges), match.groups(), strict=True)))

    def to_string(self, architecture: Architecture) -> str:
        """The benchmark's string of an architecture."""
        return self._text(architecture[_name(edge)] for edge in self.edges)

    def _text(self, ops: Iterable[str]) -> str:
        terms = iter([f"{op}~{j}" for op, (j, _) in zip(ops, self.edges, strict=True)])
        return "+".join(f"|{'|'.join(islice(terms, i))}|" for i in range(1, self.nodes))


@final
class Cell(nn.Module):
    """One cell, at a constant number of channels.

    Args:
        operations: of each edge (from node, to node), by ascending end; None gives nothing.
    """

    def __init__(self, operations: Mapping[Edge, nn.Module | None]) -> None:
        super().__init__()
        there = {edge: module for edge, module in operations.items() if module is not None}
        self.edges = nn.ModuleDict({_name(edge): module for edge, module in there.items()})
        self.last = max(end for _, end in operations)
        self.plan = _plan(there, self.last)

    def forward(self, x: Tensor) -> Tensor:
        """The last node, of the input's shape (batch, channels, height, width)."""
        return _run(self.plan, self.edges, self.last, x)


@final
class ElasticCell(Elastic):
    """A cell with every operation on every edge, of which an architecture runs one and a mixture all.

    What carries nothing does not run, as in `Cell`. Under a mixture by which there may be a gradient every
    edge carries something, so that a node whose edges all have weight 0 gives the biases of what follows.

    Args:
        edges: (from node, to node), by ascending end.
        channels: of every node.

    Source: Dong & Yang 2020, sec. 4, weight sharing: one set of weights an edge and operation.
    """

    def __init__(self, edges: Sequence[Edge], channels: int) -> None:
        super().__init__()
        self.followed = Followed()
        self.edges = nn.ModuleDict({_name(edge): _choice(edge, channels) for edge in edges})
        self.seen = dict.fromkeys(edges, OPS[0])

    def forward(self, x: Tensor) -> Tensor:
        """The last node, of the input's shape (batch, channels, height, width)."""
        last = max(end for _, end in self.seen)
        return _run(_plan(self._carrying(), last), self.edges, last, x)

    def plain(self, memo: dict[int, nn.Module]) -> Cell:
        """The cell of the operations last seen, those that did not run included."""
        return Cell({edge: self._kept(edge, op, memo) for edge, op in self.seen.items()})

    def _kept(self, edge: Edge, op: str, memo: dict[int, nn.Module]) -> nn.Module | None:
        choice = self.edges[_name(edge)]
        assert isinstance(choice, Choice)
        return None if op == "none" else specialised(choice.options[op], memo)

    def _carrying(self) -> list[Edge]:
        """Edges that give more than zeros for an input."""
        relaxed = self.followed.relaxed
        if relaxed is not None:
            return [edge for edge in self.seen if _weighs(relaxed[_name(edge)])]
        if self.followed.architecture is not None:
            self.seen = {edge: self.followed.value(_name(edge)) for edge in self.seen}
        return [edge for edge, op in self.seen.items() if op != "none"]


@final
class Reduction(nn.Module):
    """The residual basic block between stages: half the resolution (rounded up), ``after`` channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _relu_conv_bn(before, after, 3, stride=2), _relu_conv_bn(after, after, 3, stride=1)
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, after, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, after, ceil(height / 2), ceil(width / 2))."""
        out: Tensor = self.shortcut(x) + self.branch(x)
        return out


def _relu_conv_bn(before: int, after: int, kernel: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(after))


def operation(op: str, channels: int) -> nn.Module | None:
    """The module of an operation; None for ``none``."""
    match op:
        case "none":
            return None
        case "skip_connect":
            return nn.Identity()
        case "nor_conv_1x1":
            return _relu_conv_bn(channels, channels, 1, stride=1)
        case "nor_conv_3x3":
            return _relu_conv_bn(channels, channels, 3, stride=1)
        case _:
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _choice(edge: Edge, channels: int) -> nn.Module:
    """Every operation of one edge."""
    return Choice(_name(edge), {op: operation(op, channels) or Zero() for op in OPS})


def _weighs(weights: Tensor) -> bool:
    """Whether an operation other than none has a weight, or may get one by a gradient."""
    return weights.requires_grad or any(w != 0.0 for w in weights.tolist()[1:])


def _plan(carrying: Iterable[Edge], last: int) -> Plan:
    """The edges that each node sums, as (from node, name); without edges from nodes that sum nothing."""
    there: set[Edge] = set(carrying)
    plan: Plan = {}
    for end in range(1, last + 1):
        if sources := [j for j in (0, *plan) if (j, end) in there]:
            plan[end] = tuple((j, _name((j, end))) for j in sources)
    return plan


def _run(plan: Plan, edges: nn.ModuleDict, last: int, x: Tensor) -> Tensor:
    """The last node, of the input's shape; zeros where the plan does not reach it."""
    values = {0: x}
    for end, incoming in plan.items():
        values[end] = reduce(add, [edges[name](values[j]) for j, name in incoming])
    return values[last] if last in values else torch.zeros_like(x)


def _name(edge: Edge) -> str:
    return f"edge_{edge[0]}_{edge[1]}"


def _rows(nodes: int) -> tuple[Row, ...]:
    """For each node but the input: its edges' entries by operation, and the sum of them when several."""
    rows: list[Row] = []
    places, following = [0], 1
    for end in range(1, nodes):
        edges = tuple(
            (_name((j, end)), {op: _entry(op, source) for op in OPS}) for j, source in enumerate(places)
        )
        inputs = tuple(range(following, following + end))
        total: tuple[Node, ...] = (("sum", inputs),) if end > 1 else ()
        following += end + len(total)
        places.append(following - 1)
        rows.append((edges, total))
    return tuple(rows)


def _entry(op: str, source: int) -> Node:
    if op == "none":
        return ("zero", (source,))
    return ("identity" if op == "skip_connect" else op, (source,))
