"""Small spaces and problems with known answers, whose optima lie elsewhere for every seed."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, final

from nas.decision import Categorical, Decision, Declared, Integer, OneOf, Real, Repeat, When
from nas.proposal import Measurement, Proposal
from nas.rng import stream
from nas.space import Space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from nas.architecture import Architecture, Candidate
    from nas.proposal import Outcome
    from nas.supernet import Supernet


@final
class ToySpace(Space):
    """Any decisions; builds a linear layer of four features and two classes, whatever is chosen.

    Args:
        decisions: what can be chosen.
        allowed: the feasibility rule; None allows everything.
    """

    def __init__(self, decisions: Declared, allowed: Callable[[Architecture], bool] | None = None) -> None:
        self.decisions = decisions
        self._allowed = allowed

    def build(self, architecture: Architecture) -> nn.Module:  # noqa: ARG002 - a toy
        """The linear layer."""
        from torch import nn

        return nn.Linear(4, 2)

    def feasible(self, architecture: Architecture) -> bool:
        """The rule that was given."""
        return self._allowed is None or self._allowed(architecture)


@final
class SharedToySpace(Space):
    """A toy space whose networks share the one linear layer that they all are, as path samplers need.

    Args:
        space: whose decisions and feasibility these are.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.decisions = space.decisions

    def build(self, architecture: Architecture) -> nn.Module:
        """The linear layer."""
        return self._space.build(architecture)

    def feasible(self, architecture: Architecture) -> bool:
        """The space's own rule."""
        return self._space.feasible(architecture)

    def supernet(self) -> Supernet:
        """The linear layer as shared weights."""
        return _Shared(self.build(self.sample(stream(0, "shared"))))


@final
class _Shared:
    """One module for every architecture."""

    mixtures = False

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @property
    def signature(self) -> str:
        """The same for all."""
        return "toy"

    def forward(self, x: Tensor, candidate: Candidate) -> Tensor:  # noqa: ARG002 - a toy
        """What the module gives."""
        out: Tensor = self._module(x)
        return out

    def path(self, architecture: Architecture) -> nn.Module:  # noqa: ARG002 - a toy
        """A copy of the module."""
        return deepcopy(self._module)


def plain_space(decisions: int = 6, options: int = 5) -> ToySpace:
    """Independent categorical decisions."""
    return ToySpace([Categorical(f"d{i}", tuple(range(options))) for i in range(decisions)])


def small_space() -> ToySpace:
    """Four architectures."""
    return ToySpace([Categorical("a", ("x", "y")), Integer("b", 0, 1)])


def conditional_space() -> ToySpace:
    """Repetitions, alternatives and conditions: 2,635 architectures."""
    block = [
        Categorical("op", ("conv", "pool", "skip")),
        Categorical("kernel", (3, 5, 7), when=When("op", "conv")),  # type: ignore[arg-type]
    ]
    head = OneOf("head", {"linear": [], "mlp": [Integer("width", 1, 8), Categorical("norm", (True, False))]})
    return ToySpace([Repeat("block", Integer("depth", 1, 3), block), head])


def mixed_space() -> ToySpace:
    """Real and integer decisions on linear and log scales beside a conditional one."""
    return ToySpace(
        [
            Real("lr", 1e-4, 1.0, log=True),
            Integer("width", 1, 256, log=True),
            Categorical("optimiser", ("sgd", "adam")),
            Real("momentum", 0.0, 0.99, when=When("optimiser", "sgd")),  # type: ignore[arg-type]
        ]
    )


SPACES: Mapping[str, Callable[[], ToySpace]] = {
    "plain": plain_space,
    "conditional": conditional_space,
    "mixed": mixed_space,
}
"""Toy spaces by what they are made of."""
OF_PATHS = ("train_loss", "gradient_norm", "val_loss", "val_gradient_norm")
"""Metrics that path samplers ask for."""


@final
class Shifted:
    """Two minima at random places, with interactions between neighbouring decisions.

    Metric ``loss`` is the distance to the first minimum, 0 there and above 0 elsewhere: decisions that are
    off by themselves, and more for every pair of neighbours of which just one is off, so that setting one
    decision right can make the loss worse. ``cost`` is the plain distance to the second minimum, and
    ``near`` the plain distance to the first one. What path samplers ask for is all ``loss``.

    Args:
        space: where the minima lie.
        seed: of their places.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.optimum = space.sample(stream(seed, "problem", "first"))
        self.other = space.sample(stream(seed, "problem", "second"))

    def __call__(self, architecture: Architecture) -> dict[str, float]:
        """The three metrics of an architecture."""
        off = self._off(architecture, self.optimum)
        uneven = sum(abs(a - b) for a, b in pairwise(off))
        return {
            "loss": sum(off) + 0.4 * uneven,
            "near": sum(off),
            "cost": sum(self._off(architecture, self.other)),
        }

    def evaluate(self, proposal: Proposal) -> Outcome:
        """The metrics that a proposal asks for."""
        values = self(self.space.architecture(proposal.candidate.to_json()))  # type: ignore[union-attr]
        values |= dict.fromkeys(OF_PATHS, values["loss"])
        return Measurement({metric: values[metric] for metric in proposal.metrics})

    def front(self) -> set[tuple[float, float]]:
        """The front of (``near``, ``cost``), exact where all decisions are categorical and unconditional.

        Each decision on which the minima differ costs 1 in one of the two, whichever minimum it follows.
        """
        apart = int(sum(self._off(self.optimum, self.other)))
        return {(float(k), float(apart - k)) for k in range(apart + 1)}

    def _off(self, a: Architecture, b: Architecture) -> list[float]:
        return [_distance(leaf, a, b) for leaf in self.space.leaves]


def _distance(leaf: Decision, a: Architecture, b: Architecture) -> float:
    """Difference in [0, 1]; 1 where only one of the two has the decision."""
    if leaf.name not in a or leaf.name not in b:
        return float((leaf.name in a) != (leaf.name in b))
    if isinstance(leaf, Categorical):
        return float(a[leaf.name] != b[leaf.name])
    assert isinstance(leaf, Integer | Real)
    scale = Real(leaf.name, leaf.low, leaf.high, leaf.log)
    return abs(scale.unit(a[leaf.name]) - scale.unit(b[leaf.name]))
