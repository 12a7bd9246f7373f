"""A space says only what can be chosen, and how to build it; everything else follows from its decisions."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, final

from nas.architecture import Architecture, Candidate, Fixed, digest
from nas.decision import Decision, Declared, Value, check_conditions, flatten
from nas.errors import Infeasible, must, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import networkx
    import numpy as np
    from torch import nn

    from nas.operators import Operator
    from nas.supernet import Supernet

ATTEMPTS = 10_000
"""Random architectures tried before a space is called infeasible."""
DRAWS = 20
"""Infeasible ones in a row after which a space that knows a better way than drawing is asked."""


@final
class Graph(tuple["Node", ...]):
    """The computed function as a DAG: nodes ``(op, inputs)`` in topological order, the last is the output.

    ``inputs`` are positions of earlier nodes. The ops ``input``, ``zero``, ``identity`` and ``sum`` have
    their usual meaning; every other op is a function of its inputs, with fresh weights of its own where it
    has any. Two architectures with equal graphs must compute the same function up to their weights.
    """

    __slots__ = ()

    def checked(self) -> Graph:
        """The graph itself.

        Raises:
            BadInput: a node reads itself or a later node, so that there is a cycle.
        """
        for i, (op, inputs) in enumerate(self):
            for j in inputs:
                if not 0 <= j < i:
                    raise must(f"graph node {i} ({op})", "read earlier nodes only", j)
        return self

    def to_networkx(self) -> networkx.MultiDiGraph:
        """The same graph for drawing and algorithms: attribute ``op`` on nodes, ``position`` on edges."""
        import networkx

        g = networkx.MultiDiGraph()
        for i, (op, inputs) in enumerate(self):
            g.add_node(i, op=op)
            for position, j in enumerate(inputs):
                g.add_edge(j, i, position=position)
        return g


Node: TypeAlias = tuple[str, tuple[int, ...]]


class Space(ABC):
    """What can be chosen and how to build it.

    Subclasses set `decisions` (in the class or in ``__init__``) and implement `build`; the other hooks are
    optional. What is marked final works from the decisions alone.
    """

    decisions: Declared

    # --- hooks ------------------------------------------------------------------------------------

    @abstractmethod
    def build(self, architecture: Architecture) -> nn.Module:
        """The module with fresh weights, drawn from torch's current RNG only."""

    def feasible(self, architecture: Architecture) -> bool:  # noqa: ARG002 - a hook
        """Whether the architecture may be chosen at all; a cheap rule, not a measurement."""
        return True

    def redrawn(self, rng: np.random.Generator) -> Architecture | None:  # noqa: ARG002 - a hook
        """A random feasible architecture where few are; None where there is no better way than drawing."""
        return None

    def repaired(self, architecture: Architecture, rng: np.random.Generator) -> Architecture | None:  # noqa: ARG002 - a hook
        """A feasible architecture near an infeasible one; None where that is left to further draws."""
        return None

    def graph(self, architecture: Architecture) -> Graph | None:  # noqa: ARG002 - a hook
        """The computed function as a DAG that covers every decision; None where there is none."""
        return None

    @property
    def operators(self) -> Mapping[str, Operator]:
        """Declared properties of the graph's operations by name, over the built-in ones."""
        return {}

    def recipe(self, architecture: Architecture) -> Mapping[str, Value]:  # noqa: ARG002 - a hook
        """Training settings that the architecture chooses, by the name the evaluator gives them."""
        return {}

    def supernet(self) -> Supernet | None:
        """Shared weights for every architecture; None where the space has none."""
        return None

    @property
    def parts(self) -> Mapping[str, Space]:
        """The spaces this one joins, by the prefix of their decisions; empty for a plain space."""
        return {}

    # --- final ------------------------------------------------------------------------------------

    @final
    @cached_property
    def leaves(self) -> tuple[Decision, ...]:
        """Every plain decision in order, composites flattened.

        Raises:
            BadInput: names repeat, or a condition refers to nothing.
        """
        leaves = flatten(self.decisions)
        check_conditions(leaves)
        return leaves

    @final
    @cached_property
    def by_name(self) -> Mapping[str, Decision]:
        """The plain decisions by their path names."""
        return {leaf.name: leaf for leaf in self.leaves}

    @final
    @cached_property
    def switches(self) -> frozenset[str]:
        """Names of the decisions that conditions refer to: a change of any other switches nothing."""
        return frozenset(c.name for leaf in self.leaves for c in leaf.conditions)

    @final
    @cached_property
    def _conditional(self) -> bool:
        return any(leaf.conditions for leaf in self.leaves)

    @final
    @cached_property
    def signature(self) -> str:
        """32 hexadecimal digits of the decisions, by which a stored run knows its space again."""
        return digest({leaf.name: repr(leaf) for leaf in self.leaves})

    @final
    def architecture(self, choices: Mapping[str, Any]) -> Architecture:
        """Check and canonicalise a choice; values of inactive decisions are dropped.

        Raises:
            BadInput: an active decision is missing, unknown, or out of its range.
        """
        for name in choices:
            if name not in self.by_name:
                raise unknown("decision", name, self.by_name)
        values: dict[str, Value] = {}
        for leaf in self.leaves:
            if self.active(leaf, values):
                if leaf.name not in choices:
                    raise must("an architecture", f"choose {leaf.name}", dict(choices))
                values[leaf.name] = leaf.canonical(choices[leaf.name])
        return Architecture(values)

    @final
    def active(self, leaf: Decision, values: Mapping[str, Value]) -> bool:
        """Whether a decision is active under earlier values."""
        return all(c.name in values and values[c.name] in c.values for c in leaf.conditions)

    @final
    def complete(self, choices: Mapping[str, Value], rng: np.random.Generator) -> Architecture:
        """The architecture with the given canonical values where they are active, drawn ones elsewhere."""
        if not self._conditional:
            return Architecture(
                {
                    leaf.name: choices[leaf.name] if leaf.name in choices else leaf.sample(rng)
                    for leaf in self.leaves
                }
            )
        values: dict[str, Value] = {}
        for leaf in self.leaves:
            if self.active(leaf, values):
                values[leaf.name] = choices[leaf.name] if leaf.name in choices else leaf.sample(rng)
        return Architecture(values)

    @final
    def sample(self, rng: np.random.Generator) -> Architecture:
        """A feasible architecture, each active decision drawn on its own.

        Raises:
            Infeasible: none of 10,000 random architectures was feasible.
        """
        for drawn in range(1, ATTEMPTS + 1):
            architecture = self.complete({}, rng)
            if self.feasible(architecture):
                return architecture
            if drawn == DRAWS and (other := self.redrawn(rng)) is not None:
                return other
        raise Infeasible(
            f"{type(self).__name__} must have feasible architectures, got none in {ATTEMPTS:,} random ones; "
            "widen the decisions or loosen feasible()"
        )

    @final
    @cached_property
    def size(self) -> int | float:
        """Number of distinct architectures, feasible or not; ``inf`` with a real decision."""
        used_later = Counter(c.name for leaf in self.leaves for c in leaf.conditions)
        counts: Counter[tuple[tuple[str, Value], ...]] = Counter({(): 1})
        total_real = False
        for leaf in self.leaves:
            step: Counter[tuple[tuple[str, Value], ...]] = Counter()
            for c in leaf.conditions:
                used_later[c.name] -= 1
            for state, n in counts.items():
                known = dict(state)
                active = self.active(leaf, known)
                for done in {c.name for c in leaf.conditions if not used_later[c.name]}:
                    known.pop(done, None)
                if not active:
                    step[tuple(known.items())] += n
                elif used_later[leaf.name]:
                    for value in leaf.values:
                        step[(*known.items(), (leaf.name, value))] += n
                elif math.isinf(leaf.size):
                    total_real = True
                else:
                    step[tuple(known.items())] += n * int(leaf.size)
            if total_real:
                return math.inf
            counts = step
        return sum(counts.values())

    @final
    def enumerate(self) -> Iterator[Architecture]:
        """Every feasible architecture once, the last decision fastest.

        Raises:
            BadInput: a decision is real.
        """
        yield from (a for a in self._enumerate(0, {}) if self.feasible(a))

    def _enumerate(self, position: int, values: dict[str, Value]) -> Iterator[Architecture]:
        if position == len(self.leaves):
            yield Architecture(values)
            return
        leaf = self.leaves[position]
        if not self.active(leaf, values):
            yield from self._enumerate(position + 1, values)
            return
        for value in leaf.values:
            yield from self._enumerate(position + 1, {**values, leaf.name: value})

    @final
    def module(self, candidate: Candidate) -> nn.Module:
        """The module of a candidate: built for an architecture, as given for a fixed one.

        Raises:
            BadInput: the candidate is a mixture, which only a supernet can run.
        """
        if isinstance(candidate, Fixed):
            return candidate.build()
        if isinstance(candidate, Architecture):
            return self.build(candidate)
        raise must("candidate", "be an architecture to be built", candidate, "run mixtures in a supernet")

    @final
    def offers(self, probe: Architecture) -> frozenset[str]:
        """What strategies may ask of the space.

        ``decisions`` always; ``finite``, ``categorical``, ``graph``; ``supernet``, and ``mixtures`` where
        that runs relaxed architectures.
        """
        from nas.decision import Categorical

        found = {"decisions"}
        if math.isfinite(self.size):
            found.add("finite")
        if all(isinstance(leaf, Categorical) for leaf in self.leaves):
            found.add("categorical")
        if self.graph(probe) is not None:
            found.add("graph")
        return frozenset(found | self._offered_by_supernet)

    @final
    @cached_property
    def _offered_by_supernet(self) -> frozenset[str]:
        """What a supernet adds to `offers`; as it is only looked at, its weights need no numbers."""
        torch = sys.modules.get("torch")  # whoever makes modules has loaded it
        if torch is None:
            supernet = self.supernet()
        else:
            with torch.random.fork_rng(devices=[]):
                try:
                    with torch.device("meta"):
                        supernet = self.supernet()
                except RuntimeError:  # it reads the numbers
                    supernet = self.supernet()
        if supernet is None:
            return frozenset()
        return frozenset({"supernet", "mixtures"} if supernet.mixtures else {"supernet"})


class Adaptation(Space):
    """A space over ways to change a given module, such as its regularisation, precision or adapters.

    Joined with a space that builds, it adapts what that one built; alone it needs ``model``.

    Attributes:
        model: factory of the module to adapt when the space stands alone.
    """

    model: Any = None

    @abstractmethod
    def adapt(self, module: nn.Module, architecture: Architecture) -> nn.Module:
        """The module under the choice, changed in place or wrapped."""

    @final
    def build(self, architecture: Architecture) -> nn.Module:
        """The space's own model, adapted.

        Raises:
            BadInput: there is no model.
        """
        if self.model is None:
            raise must(
                f"{type(self).__name__}.model",
                "be a factory of the module to adapt",
                None,
                "set model:, or join this space with one that builds: {join: [conv, hyper]}",
            )
        return self.adapt(self.model(), architecture)
