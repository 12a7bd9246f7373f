"""A network that writes architectures of a wanted complexity, trained by gradients alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.decision import Real
from nas.errors import must
from nas.strategies.extremes import largest, smallest
from nas.variation import neighbours, sample_alike

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nas.architecture import Architecture
    from nas.decision import Decision, Value
    from nas.space import Space

    Cost: TypeAlias = Callable[[Sequence[Architecture]], Sequence[float]]

HIDDEN = 64
"""Units of the LSTM."""
BATCH = 64
"""Wanted complexities of one step of the generator's training."""
RATE = 5e-3
"""Learning rate of both networks."""
HOT, COLD = 2.0, 0.5
"""Temperatures of the Gumbel softmax at the begin and at the end of the training."""
DIVERSITY = 1e-2
"""Weight of the entropy of the choices in the generator's loss."""
DRAWN = 64
"""Architectures that the generator writes for one wanted complexity."""
CHECKED = 16
"""Architectures at most whose true cost is asked for then."""
NEAR = 0.01
"""Relative error with which a search for a wanted complexity is content."""
BUMPS = 16
"""Radial basis functions by which the generator reads a complexity."""


@final
class ComplexityGenerator:
    """Writes architectures whose cost is near a wanted one.

    Two networks are trained by `fit`. A perceptron learns the logarithm of the cost from the one-hot choices
    of architectures whose cost is asked for. An LSTM reads a wanted cost and chooses one decision after the
    other, by straight-through Gumbel samples, so that the error of the perceptron's cost reaches it as a
    gradient. A conditional decision's choice is multiplied by that of its conditions, so gradients reach
    those, too. To generate, the LSTM writes 64 architectures, and the nearest by the perceptron is asked for
    its true cost; while that is off by more than 1 %, the next is asked for, 16 at most, with the error of
    the nearest so far made good, and single changes of it among those to choose from. Real decisions are
    drawn.

    Args:
        space: whose architectures are written.
        costs: true costs of architectures, above 0; anything else is passed over.
        samples: architectures whose cost is asked for in `fit`, at least 2: the largest, the smallest, and
            random ones, every other of which has copies of decisions that tend to agree.
        iterations: steps of the LSTM's training, at least 1.

    Attributes:
        known: costs that `fit` saw, ascending, shape (at most samples,).

    Source: ShiftNAS (Zhang et al. 2023), the architecture generator: LSTM of 64 units, Gumbel one-hot
    choices, (cost of the choice - wanted cost)^2. Deviations: costs are learnt, not summed over
    choices, and compared as logarithms, so that an error is relative; the entropy of the choices stands in
    for the task's loss, which no strategy knows; true costs correct what is written; learning rate 5e-3 for
    1e-3.
    """

    def __init__(self, space: Space, costs: Cost, samples: int = 512, iterations: int = 400) -> None:
        self._space, self._costs = space, costs
        self._samples, self._iterations = samples, iterations
        self._leaves = [leaf for leaf in space.leaves if not isinstance(leaf, Real)]
        if not self._leaves:
            raise must("the space", "have a decision that is no real number", type(space).__name__)
        self._position = [{value: i for i, value in enumerate(leaf.values)} for leaf in self._leaves]
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            self._writer = _Writer(self._leaves)
            self._model = _perceptron(sum(map(len, self._position)))
        self._mean, self._spread = 0.0, 1.0
        self.known: NDArray[np.float64] = np.zeros(0)

    def fit(self, rng: np.random.Generator) -> None:
        """Ask for costs, and train both networks.

        Raises:
            BadInput: no architecture has a cost.
        """
        architectures, logs = self._examples(rng)
        self.known = np.sort(np.exp(logs))
        self._mean, self._spread = float(logs.mean()), max(float(logs.std()), 1e-6)
        choices = torch.tensor(np.stack([self._encoded(a) for a in architectures]), dtype=torch.float32)
        wanted = torch.tensor((logs - self._mean) / self._spread, dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(2**62)))
            self._writer = _Writer(self._leaves)
            self._model = _perceptron(choices.shape[1])
            _fit_model(self._model, choices, wanted, max(self._iterations, 2) * 2)
            self._fit_writer(wanted)

    def generate(self, cost: float, rng: np.random.Generator) -> Architecture:
        """A feasible architecture whose true cost is as near to ``cost`` as any that was looked at.

        Args:
            cost: wanted, in the metric's unit, above 0.
            rng: the only source of chance.
        """
        wanted = (math.log(cost) - self._mean) / self._spread
        pool = self._written(wanted, rng) or [self._space.sample(rng)]
        guesses = dict(zip(pool, self._guessed(pool), strict=True))
        tried: dict[Architecture, float] = {}
        best, error, bias = pool[0], math.inf, 0.0
        while len(tried) < CHECKED and error > NEAR and len(tried) < len(guesses):
            rest = [a for a in guesses if a not in tried]
            off = {a: abs(guesses[a] + bias - math.log(cost)) for a in rest}
            nearest = min(rest, key=lambda a: max(off[a], NEAR))  # of those that are near enough, any
            (true,) = self._costs([nearest])
            tried[nearest] = abs(true / cost - 1.0) if true > 0 and math.isfinite(true) else math.inf
            if tried[nearest] < error:
                best, error, bias = nearest, tried[nearest], math.log(true) - guesses[nearest]
                around = [a for a in neighbours(self._space, best, rng) if a not in guesses]
                guesses |= dict(zip(around, self._guessed(around), strict=True))
        return best

    def state(self) -> Mapping[str, Any]:
        """What `fit` learnt, as arrays and numbers."""
        return {
            "writer": _arrays(self._writer),
            "model": _arrays(self._model),
            "mean": self._mean,
            "spread": self._spread,
            "known": self.known.copy(),
        }

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        for module, name in ((self._writer, "writer"), (self._model, "model")):
            module.load_state_dict({k: torch.tensor(np.array(v)) for k, v in state[name].items()})
        self._mean, self._spread = float(state["mean"]), float(state["spread"])
        self.known = np.array(state["known"], np.float64)

    # --- training -----------------------------------------------------------------------------------

    def _examples(self, rng: np.random.Generator) -> tuple[list[Architecture], NDArray[np.float64]]:
        """Distinct architectures and the logarithms of their costs."""

        def size(a: Architecture) -> float:
            return float(self._costs([a])[0])

        found = {largest(self._space, size): None, smallest(self._space, size): None}
        for i in range(self._samples - 2):
            found[sample_alike(self._space, rng) if i % 2 else self._space.sample(rng)] = None
        costs = np.array(self._costs(list(found)), dtype=np.float64)
        use = np.isfinite(costs) & (costs > 0)
        if not use.any():
            raise must("the cost", "be above 0 for some architecture", costs[:3].tolist())
        return [a for a, u in zip(found, use, strict=True) if u], np.log(costs[use])

    def _fit_writer(self, known: Tensor) -> None:
        """Train the LSTM on complexities over the whole range, half of them those of architectures."""
        optimiser = torch.optim.Adam(self._writer.parameters(), RATE)
        self._model.requires_grad_(requires_grad=False)
        low, high = known.min(), known.max()
        for i in range(self._iterations):
            temperature = HOT * (COLD / HOT) ** (i / self._iterations)
            spread = low + torch.rand(BATCH // 2) * (high - low)
            wanted = torch.cat([spread, known[torch.randint(len(known), (BATCH // 2,))]])
            noise = -torch.log(torch.empty(BATCH, self._writer.options).exponential_())
            choices, entropy = self._writer(wanted, noise, temperature)
            off = self._model(choices)[:, 0] - wanted
            loss = (off**2).mean() - DIVERSITY * entropy
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._writer.parameters(), 1.0)
            optimiser.step()

    # --- writing --------------------------------------------------------------------------------------

    def _written(self, wanted: float, rng: np.random.Generator) -> list[Architecture]:
        """Distinct feasible architectures for a standardised complexity."""
        noise = rng.gumbel(size=(DRAWN, self._writer.options))
        with torch.no_grad():
            targets = torch.full((DRAWN,), wanted)
            choices, _ = self._writer(targets, torch.tensor(noise, dtype=torch.float32), 1.0)
        found: dict[Architecture, None] = {}
        for row in choices.numpy():
            architecture = self._space.complete(self._decoded(row), rng)
            if self._space.feasible(architecture):
                found[architecture] = None
        return list(found)

    def _guessed(self, architectures: Sequence[Architecture]) -> list[float]:
        """Logarithms of the costs by the perceptron."""
        if not architectures:
            return []
        encoded = torch.tensor(np.stack([self._encoded(a) for a in architectures]), dtype=torch.float32)
        with torch.no_grad():
            guesses: list[float] = self._model(encoded)[:, 0].double().tolist()
        return [guess * self._spread + self._mean for guess in guesses]

    def _encoded(self, architecture: Architecture) -> NDArray[np.float32]:
        """One-hot choices one after another; zeros for inactive decisions."""
        row = np.zeros(self._writer.options, np.float32)
        start = 0
        for leaf, position in zip(self._leaves, self._position, strict=True):
            if leaf.name in architecture:
                row[start + position[architecture[leaf.name]]] = 1.0
            start += len(position)
        return row

    def _decoded(self, row: NDArray[np.float32]) -> dict[str, Value]:
        """The chosen values of active decisions."""
        choices: dict[str, Value] = {}
        start = 0
        for leaf, position in zip(self._leaves, self._position, strict=True):
            part = row[start : start + len(position)]
            if part.any():
                choices[leaf.name] = leaf.values[int(part.argmax())]
            start += len(position)
        return choices


class _Writer(nn.Module):
    """The LSTM that chooses one decision after the other."""

    def __init__(self, leaves: Sequence[Decision]) -> None:
        super().__init__()
        self._sizes = [len(leaf.values) for leaf in leaves]
        self.options = sum(self._sizes)
        index = {leaf.name: i for i, leaf in enumerate(leaves)}
        self._conditions = [
            [(index[c.name], [leaves[index[c.name]].values.index(v) for v in c.values]) for c in d.conditions]
            for d in leaves
        ]
        self.read = nn.Linear(BUMPS, HIDDEN)
        self.cell = nn.LSTMCell(HIDDEN, HIDDEN)
        self.heads = nn.ModuleList(nn.Linear(HIDDEN, n) for n in self._sizes)
        self.chosen = nn.ModuleList(nn.Linear(n, HIDDEN) for n in self._sizes)

    def forward(self, wanted: Tensor, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """One-hot choices and their mean entropy.

        Args:
            wanted: standardised complexities, shape (batch,).
            noise: Gumbel noise, shape (batch, options).
            temperature: of the softmax through which gradients flow.

        Returns:
            Shape (batch, options), zeros where a decision is inactive; and a scalar in [0, 1].
        """
        centres = torch.linspace(-3.0, 3.0, BUMPS)
        x = read = self.read(torch.exp(-((wanted[:, None] - centres) ** 2) / 0.32))
        state: tuple[Tensor, Tensor] | None = None
        picks: list[Tensor] = []
        entropies: list[Tensor] = []
        for i, g in enumerate(torch.split(noise, self._sizes, 1)):
            state = self.cell(x, state)
            logits = self.heads[i](state[0])
            pick = _straight_through(logits + g, temperature) * self._active(i, picks)
            picks.append(pick)
            entropies.append(_entropy(logits))
            x = read + self.chosen[i](pick)
        return torch.cat(picks, 1), torch.stack(entropies).mean()

    def _active(self, i: int, picks: Sequence[Tensor]) -> Tensor | float:
        """1 where all conditions of a decision hold, else 0, shape (batch, 1)."""
        active: Tensor | float = 1.0
        for parent, values in self._conditions[i]:
            active = active * picks[parent][:, values].sum(1, keepdim=True)
        return active


def _straight_through(logits: Tensor, temperature: float) -> Tensor:
    """One-hot of the largest, with the gradient of the softmax."""
    soft = F.softmax(logits / temperature, 1)
    hard = F.one_hot(logits.argmax(1), logits.shape[1]).to(soft)
    return hard + soft - soft.detach() if soft.requires_grad else hard


def _entropy(logits: Tensor) -> Tensor:
    """Mean entropy as a share of that of the uniform distribution."""
    n = logits.shape[1]
    if n == 1:
        return logits.new_zeros(())
    log = F.log_softmax(logits, 1)
    return -(log.exp() * log).sum(1).mean() / math.log(n)


def _perceptron(inputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1)
    )


def _fit_model(model: nn.Module, choices: Tensor, wanted: Tensor, steps: int) -> None:
    """Least squares by Adam on all examples at once."""
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        loss = F.mse_loss(model(choices)[:, 0], wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _arrays(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
