"""Fitness of programs: how well a formula fits a function, how well an update rule trains."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.architecture import Architecture
from nas.errors import Diverged, must, unknown
from nas.evaluator import Evaluator
from nas.program import Program, Programs, constants_of
from nas.proposal import Measurement, Outcome, Proposal
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nas.space import Space

    Array = NDArray[np.float64]

RATES = tuple(10.0 ** np.arange(-3.0, 0.75, 0.5))
"""Learning rates, the best of which counts."""
WORST = 3.0
"""log10 of the loss ratio of an update rule that diverges."""


class _ProgramEvaluator(Evaluator):
    """What both have in common; ``loss`` depends on the computed function only."""

    metrics = frozenset({"loss"})
    functional = frozenset({"loss"})

    def __init__(self, space: Space, outputs: Sequence[str]) -> None:
        if not isinstance(space, Programs) or tuple(space.interface.outputs) != tuple(outputs):
            raise must(
                "space",
                f"be one of programs that give {', '.join(outputs)}",
                type(space).__name__,
                "use {name: program, interface: …}",
            )
        self._space: Programs = space
        self._constants = constants_of(space.interface)

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """The loss of each program, on data that derive from (seed, replicate)."""
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Measurement:
        if not isinstance(proposal.candidate, Architecture):
            raise must("candidate", "be a program", proposal.candidate)
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            loss = self._loss(self._space.program(proposal.candidate), proposal, seed)
        return Measurement({"loss": loss}, time.perf_counter() - start)

    @abstractmethod
    def _loss(self, program: Program, proposal: Proposal, seed: int) -> float: ...


# --- regression -----------------------------------------------------------------------------------------


def _sigmoid(a: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * a)


FORMULAS: Mapping[str, Callable[[Array, Array, Array], Array]] = {
    "ridge": lambda x, w, _: np.tanh(x @ w),
    "distance": lambda x, w, _: np.sqrt(np.square(x - w).sum(-1)),
    "layer": lambda x, _, a: np.maximum(x @ a.T, 0.0).mean(-1),
    "gated": lambda x, w, _: (x @ w) * _sigmoid(4 * x.mean(-1)),
}
"""Functions of samples (n, d), a vector (d,) and a matrix (h, d) to be found, by name."""


@final
class ProgramRegression(_ProgramEvaluator):
    """``loss`` of a formula: the share of the target's variance that it leaves, in [0, 1], after scaling.

    Args:
        space: of programs with the interface ``regression``.
        formula: to be found, among `FORMULAS`.
        samples: standard normal inputs, at least 2; others for another seed or replicate.

    Raises:
        BadInput: another space, or a setting out of its range.

    Source: Keijzer 2003 (linear scaling): a formula is compared after the best a * y + b, so that its loss
    is 1 - r^2.
    """

    def __init__(self, space: Space, formula: str = "ridge", samples: int = 256) -> None:
        super().__init__(space, ("y",))
        if formula not in FORMULAS:
            raise unknown("formula", formula, FORMULAS)
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
            raise must("samples", "be a whole number of at least 2", samples)
        self._formula, self._samples = formula, samples

    def _loss(self, program: Program, proposal: Proposal, seed: int) -> float:
        (width,) = self._space.interface.inputs["x"]
        x = stream(seed, "program", "samples", proposal.replicate).standard_normal((self._samples, width))
        wanted = FORMULAS[self._formula](x, self._constants["w"][0], self._constants["A"][0])
        y = np.broadcast_to(program.run(np, {"x": x}, self._constants)["y"], (self._samples,))
        return _unexplained(y, wanted)


def _unexplained(y: Array, wanted: Array) -> float:
    """1 - r^2, with 1 for a constant.

    Raises:
        Diverged: a number is not finite.
    """
    if not np.isfinite(y).all():
        raise Diverged("the program gives numbers that are not finite")
    y = y / max(1.0, float(np.abs(y).max()))
    a, b = y - y.mean(), wanted - wanted.mean()
    power = float(a @ a)
    if power <= 1e-20 * len(a):
        return 1.0
    return max(0.0, 1.0 - float(a @ b) ** 2 / (power * float(b @ b)))


# --- optimizers -----------------------------------------------------------------------------------------


@final
class ProgramOptimizer(_ProgramEvaluator):
    """``loss`` of an update rule: log10 of (loss after training / loss before), a mean over problems.

    Half of the problems are quadratic functions with eigenvalues over two decades, half logistic regressions
    of linearly separated noisy labels; gradients carry noise. The rule trains each with `RATES`, and the
    best rate for all of them together counts. A run that diverges counts as `WORST`.

    Args:
        space: of programs with the interface ``optimizer``.
        problems: of each kind, at least 1.
        steps: updates at full fidelity, at least 1; the fidelity's share of them otherwise.

    Raises:
        BadInput: another space, or a setting out of its range.

    Source: the proxy tasks of Chen et al. 2023 (symbolic discovery of optimization algorithms), made small.
    """

    multi_fidelity = frozenset({"loss"})

    def __init__(self, space: Space, problems: int = 4, steps: int = 50) -> None:
        super().__init__(space, ("u", "m", "v"))
        for name, value in (("problems", problems), ("steps", steps)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise must(name, "be a whole number of at least 1", value)
        self._problems, self._steps = problems, steps

    def _loss(self, program: Program, proposal: Proposal, seed: int) -> float:
        (width,) = self._space.interface.inputs["g"]
        problems = _problems(seed, proposal.replicate, self._problems, width, self._steps)
        steps = max(1, math.ceil(self._steps * proposal.fidelity))
        return self._train(program, problems, steps)

    def _train(self, program: Program, problems: Problems, steps: int) -> float:
        before = problems.losses(problems.start)
        w = problems.start
        m = v = np.zeros_like(w)
        for step in range(steps):
            out = program.run(
                np, {"g": problems.gradients(w) + problems.noise[step], "m": m, "v": v}, self._constants
            )
            w = w - problems.rates * out["u"]
            m, v = (np.broadcast_to(out[name], w.shape) for name in ("m", "v"))
        ratio = problems.losses(w) / before
        logs = np.where(np.isfinite(ratio), np.log10(np.clip(ratio, 1e-12, 10**WORST)), WORST)
        return float(logs.reshape(len(RATES), -1).mean(1).min())


@final
class Problems:
    """Training problems side by side: the rows are rates × (quadratic ones, logistic regressions).

    Args:
        rng: draws them.
        count: of each kind.
        width: number of weights.
        steps: for which gradient noise is drawn.
    """

    def __init__(self, rng: np.random.Generator, count: int, width: int, steps: int) -> None:
        turn = np.linalg.qr(rng.standard_normal((count, width, width)))[0]
        scale = 10.0 ** rng.uniform(-2.0, 0.0, (count, width))
        self._curvature = (turn * scale[:, None, :]) @ turn.transpose(0, 2, 1)
        x = rng.standard_normal((count, 64, width))
        truth = x @ rng.standard_normal((count, width, 1)) + rng.standard_normal((count, 64, 1))
        self._signed = x * np.sign(truth)
        start = np.concatenate([rng.standard_normal((count, width)), np.zeros((count, width))])
        noise = 0.1 * rng.standard_normal((steps, 2 * count, width))
        self._count = count
        self.start: Array = np.tile(start, (len(RATES), 1))
        self.noise: Array = np.tile(noise, (1, len(RATES), 1))
        self.rates: Array = np.repeat(RATES, 2 * count)[:, None]

    def losses(self, w: Array) -> Array:
        """Shape (rows,) for weights (rows, width)."""
        q, p = self._split(w)
        quadratic = 0.5 * np.einsum("rci,cij,rcj->rc", q, self._curvature, q)
        margins = np.einsum("cni,rci->rcn", self._signed, p)
        return np.concatenate([quadratic, np.logaddexp(0.0, -margins).mean(-1)], 1).ravel()

    def gradients(self, w: Array) -> Array:
        """Shape (rows, width)."""
        q, p = self._split(w)
        quadratic = (q[:, :, None, :] @ self._curvature)[:, :, 0]
        margins = (self._signed @ p[..., None])[..., 0]
        slopes = -_sigmoid(-margins)[:, :, None, :] / margins.shape[-1]
        logistic = (slopes @ self._signed)[:, :, 0]
        return np.concatenate([quadratic, logistic], 1).reshape(w.shape)

    def _split(self, w: Array) -> tuple[Array, Array]:
        rows = w.reshape(len(RATES), 2 * self._count, -1)
        return rows[:, : self._count], rows[:, self._count :]


@lru_cache(maxsize=16)
def _problems(seed: int, replicate: int, count: int, width: int, steps: int) -> Any:
    return Problems(stream(seed, "program", "problems", replicate), count, width, steps)
