"""The space of NAS-Bench-Graph: four computing nodes with a source and an operation each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, final

from nas.decision import Categorical
from nas.errors import must
from nas.space import Graph, Node, Space

if TYPE_CHECKING:
    from nas.architecture import Architecture

LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
"""The node that each computing node reads; 0 is the raw input. A link's position is its number there."""
OPS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
"""Operations in the benchmark's order."""


@final
class NasBenchGraphSpace(Space):
    """Nine ways to link four nodes, and nine operations for each; leaves are joined to the output.

    The raw input must not reach the output through skips alone, which leaves 53,056 of 59,049 choices for
    26,206 truly different networks; the table gives all choices of one network the same record.

    Source: Qin et al. 2022, sec. 3.1.
    """

    decisions = (Categorical("link", LINKS), *(Categorical(f"op_{i}", OPS) for i in range(4)))

    def build(self, architecture: Architecture) -> NoReturn:  # noqa: ARG002 - nothing is built
        """Refuse: the benchmark's training pipeline is not part of this toolkit, only its table.

        Raises:
            BadInput: always.
        """
        remedy = "look it up with the evaluator tabular"
        raise must("build", "be asked of a space of modules", "nasbench_graph", remedy)

    def feasible(self, architecture: Architecture) -> bool:
        """Whether every path from the raw input to the output has an operation other than skip."""
        link = architecture["link"]
        raw = [True]
        for i, source in enumerate(map(int, link)):
            raw.append(raw[source] and architecture[f"op_{i}"] == "skip")
        return not any(raw[node] for node in range(1, 5) if str(node) not in link)

    def graph(self, architecture: Architecture) -> Graph:
        """The raw input, the four nodes, and the sum of the leaves, which stands for their joining."""
        nodes: list[Node] = [("input", ())]
        link = architecture["link"]
        for i, source in enumerate(map(int, link)):
            op = architecture[f"op_{i}"]
            nodes.append(("identity" if op == "skip" else op, (source,)))
        leaves = tuple(node for node in range(1, 5) if str(node) not in link)
        return Graph([*nodes, ("sum", leaves)])

    def from_hash(self, number: int) -> Architecture:
        """The architecture of the benchmark's hash: the link's number, then a digit for each operation.

        Raises:
            BadInput: the number is none of a choice.
        """
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(LINKS) * 10**4:
            raise must("hash", f"be a whole number in [0, {len(LINKS) * 10**4 - 1}]", number)
        digits = list(map(int, f"{number:05d}"))
        if max(digits[1:]) >= len(OPS):
            raise must("hash", "have operations 0 to 8 in its last four digits", number)
        ops = {f"op_{i}": OPS[d] for i, d in enumerate(digits[1:])}
        return self.architecture({"link": LINKS[digits[0]], **ops})

    def to_hash(self, architecture: Architecture) -> int:
        """The number of a choice; the table lists only one of those that describe the same network."""
        ops = [OPS.index(architecture[f"op_{i}"]) for i in range(4)]
        return int("".join(map(str, [LINKS.index(architecture["link"]), *ops])))
