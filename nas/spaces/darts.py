"""The space of DARTS: a normal and a reduction cell, each of four nodes with two inputs."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np
import torch

from nas.decision import Categorical, When
from nas.errors import must, unknown
from nas.sharing import ElasticSupernet
from nas.space import Graph, Node, Space
from nas.spaces.darts_cells import (
    EDGES,
    NODES,
    PAIRS,
    Cell,
    DartsNetwork,
    ElasticCell,
    edge_name,
    ops_of,
    pair_name,
)
from nas.spaces.darts_operations import OPS
from nas.spaces.settings import classes_of, image_shape_of, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from torch import nn

    from nas.architecture import Architecture, Mixture
    from nas.decision import Decision
    from nas.spaces.darts_cells import Edge, Place
    from nas.task import Task

KINDS = ("normal", "reduce")
"""The kinds of cells, by which the paths of their decisions begin."""

Terms: TypeAlias = "list[tuple[str, int]]"


@final
class DartsSpace(Space):
    """A chain of cells that read the two before them; those at a third and at two thirds reduce.

    Of each kind of cell, ``inputs_i`` (for node 3, 4 and 5) is the pair of earlier nodes that node i reads,
    and ``edge_j_i`` the operation between two nodes, active where it is read. ``none`` is weighed by
    mixtures alone: no feasible architecture has it. All genotypes are drawn with equal odds.

    A mixture weighs 8 operations on each of 14 edges, and the pairs; `all_edges` has the weights of the pairs
    by which every edge counts once, as in the paper.

    Args:
        task: where the input shape and classes come from unless they are given.
        layers: cells; 8 in the paper's search, 20 in its evaluation.
        channels: of the first cells' nodes; 16 in the paper's search, 36 in its evaluation. The stem has
            three times as many.
        input_shape: (channels, height, width) of an image; (3, 32, 32) without a task.
        classes: 10 without a task.

    Raises:
        BadInput: a setting is out of its range.

    Source: Liu et al. 2019, sec. 2.1, 3.1 and app. A.1.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        layers: int = 8,
        channels: int = 16,
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.layers = whole("layers", layers, 3, 100)
        self.channels = whole("channels", channels, 2, 4096)
        self.input_shape = image_shape_of(task, input_shape, (3, 32, 32))
        self.classes = classes_of(task, classes, 10)
        self.decisions = tuple(decision for kind in KINDS for decision in _decisions(kind))

    def feasible(self, architecture: Architecture) -> bool:
        """Whether every edge that is read has an operation."""
        return "none" not in architecture.values()

    def redrawn(self, rng: np.random.Generator) -> Architecture:
        """A random genotype."""
        return self.repaired(self.complete({}, rng), rng)

    def repaired(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """The same with random operations in place of none."""
        drawn = {name: OPS[int(rng.integers(1, len(OPS)))] for name, v in architecture.items() if v == "none"}
        return self.architecture({**architecture, **drawn})

    def build(self, architecture: Architecture) -> nn.Module:
        """The network; maps images of shape (batch, *input_shape) to logits of shape (batch, classes)."""
        ops = {kind: ops_of(kind, architecture) for kind in KINDS}

        def cell(place: Place) -> nn.Module:
            inputs = place.inputs()
            return Cell(inputs, {edge: place.operation(edge, op) for edge, op in ops[place.kind].items()})

        return self._network(cell)

    def supernet(self) -> ElasticSupernet:
        """Every operation on every edge; runs architectures and mixtures."""
        return ElasticSupernet(self._network(ElasticCell), self, torch.zeros(1, *self.input_shape))

    def graph(self, architecture: Architecture) -> Graph:
        """A normal cell, and a reduction cell that reads it."""
        nodes: list[Node] = [("input", ())]
        for kind in KINDS:
            source, places = len(nodes) - 1, [len(nodes), len(nodes) + 1]
            nodes += [(f"{kind}_input_{j}", (source,)) for j in (0, 1)]
            ops = ops_of(kind, architecture)
            for end in NODES:
                terms = [(edge, op) for edge, op in ops.items() if edge[1] == end]
                nodes += [(_graph_op(kind, edge, op), (places[edge[0]],)) for edge, op in terms]
                nodes.append(("sum", (len(nodes) - 2, len(nodes) - 1)))
                places.append(len(nodes) - 1)
            nodes.append(("concat", tuple(places[2:])))
        return Graph(nodes)

    # --- mixtures ---------------------------------------------------------------------------------------

    @staticmethod
    def all_edges() -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """Weights of the pairs, by decision, under which each edge counts once."""
        return {
            pair_name(kind, end): np.full(len(PAIRS[end]), 1.0 / (end - 1))
            for kind in KINDS
            for end in NODES[1:]
        }

    def derived(self, mixture: Mixture) -> Architecture:
        """The architecture that a mixture stands for.

        An edge's strength is the weight of its heaviest operation but none; a node reads the pair whose
        weight times the sum of its strengths is largest, the first one on ties.

        Source: Liu et al. 2019, sec. 2.4, which is this with equal weights of pairs.
        """
        weights = mixture.weights
        choices: dict[str, str] = {}
        for kind in KINDS:
            strength = {}
            for edge in EDGES:
                name = f"{kind}.{edge_name(edge)}"
                strength[edge] = float(weights[name][1:].max())
                choices[name] = OPS[1 + int(weights[name][1:].argmax())]
            for end in NODES[1:]:
                sums = np.array([strength[a, end] + strength[b, end] for a, b in PAIRS[end]])
                best = PAIRS[end][int((weights[pair_name(kind, end)] * sums).argmax())]
                choices[pair_name(kind, end)] = _pair(best)
        return self.architecture(choices)

    # --- genotypes --------------------------------------------------------------------------------------

    def to_genotype(self, architecture: Architecture) -> str:
        """The text ``Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=…)``."""
        parts = []
        for kind in KINDS:
            terms = [(op, j) for (j, _), op in ops_of(kind, architecture).items()]
            parts.append(f"{kind}={terms!r}, {kind}_concat=range(2, 6)")
        return f"Genotype({', '.join(parts)})"

    def from_genotype(self, text: str) -> Architecture:
        """The architecture of a published genotype's text; nothing in it is evaluated.

        Raises:
            BadInput: the text has another form, an operation is unknown, a node reads one node twice or a
                later one, or not all nodes are concatenated.
        """
        fields = _fields(text)
        choices: dict[str, str] = {}
        for kind in KINDS:
            if fields[f"{kind}_concat"] not in (range(2, 6), [*NODES], NODES):
                raise must(f"{kind}_concat", "be range(2, 6)", fields[f"{kind}_concat"])
            terms = _terms(kind, fields[kind])
            for end in NODES:
                choices |= _node_choices(kind, end, terms[2 * end - 4 : 2 * end - 2])
        return self.architecture(choices)

    def _network(self, cell: Callable[[Place], nn.Module]) -> nn.Module:
        return DartsNetwork(cell, self.layers, self.channels, self.input_shape[0], self.classes)


def _decisions(kind: str) -> Iterator[Decision]:
    for end in NODES:
        if end > 2:
            yield Categorical(pair_name(kind, end), tuple(map(_pair, PAIRS[end])))
        for j in range(end):
            read = tuple(_pair(pair) for pair in PAIRS[end] if j in pair)
            when = When(pair_name(kind, end), read) if end > 2 else ()
            yield Categorical(f"{kind}.{edge_name((j, end))}", OPS, when=when)


def _pair(pair: Sequence[int]) -> str:
    return f"{pair[0]},{pair[1]}"


def _graph_op(kind: str, edge: Edge, op: str) -> str:
    """What an operation is in a graph: those that halve the image are others, also skips."""
    if op == "none":
        return "zero"
    if kind == "reduce" and edge[0] < 2:
        return f"{op}_stride_2"
    return "identity" if op == "skip_connect" else op


def _fields(text: str) -> Mapping[str, Any]:
    """The four fields of a genotype's text, as literals."""
    names = [name for kind in KINDS for name in (kind, f"{kind}_concat")]
    try:
        found = _keywords(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        found = {}
    if sorted(found) != sorted(names):
        raise must("a genotype", f"read Genotype({', '.join(f'{name}=…' for name in names)})", text)
    return found


def _keywords(text: str) -> dict[str, Any]:
    call = ast.parse(text.strip(), mode="eval").body
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "Genotype" or call.args:
        raise ValueError(text)
    return {str(field.arg): _literal(field.value) for field in call.keywords}


def _literal(node: ast.expr) -> Any:
    """A literal, or a range of two literals."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "range" and not node.keywords:
        return range(*(ast.literal_eval(bound) for bound in node.args))
    return ast.literal_eval(node)


def _terms(kind: str, given: Any) -> Terms:
    """The eight pairs of operation and node."""
    if not isinstance(given, list | tuple) or len(given) != 2 * len(NODES):
        raise must(kind, "list two (operation, node) for each of four nodes", given)
    for term in given:
        if not isinstance(term, list | tuple) or len(term) != 2 or type(term[1]) is not int:
            raise must(kind, "list two (operation, node) for each of four nodes", term)
        if term[0] not in OPS[1:]:
            raise unknown("operation", term[0], OPS[1:])
    return [(op, j) for op, j in given]


def _node_choices(kind: str, end: int, terms: Terms) -> dict[str, str]:
    """What one node reads, and by which operations."""
    pair = tuple(sorted(j for _, j in terms))
    if pair not in PAIRS[end]:
        raise must(f"node {end} of {kind}", "read two different earlier nodes", list(pair))
    choices = {f"{kind}.{edge_name((j, end))}": op for op, j in terms}
    return {**choices, pair_name(kind, end): _pair(pair)} if end > 2 else choices
