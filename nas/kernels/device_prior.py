"""How devices resemble one another, learnt from tables of their latencies, as a prior on a further one.

The logarithm of a device's latency is a Gaussian process over the table's networks. Its kernel is a sum of
parts, made of the other devices' columns and of the networks themselves; how much each part weighs is what
devices that are known in full tell about one that is not: every source is left out in turn, with its family.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, final

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

OFFSET = 25.0
"""Variance of a device's speed as a whole: a factor of e⁵ either way."""
LOWEST, HIGHEST = np.log(1e-9), np.log(100.0)
A_FAMILY = 3
"""Devices of a family that speak for it when weights are learnt."""
NETS = 100
"""Networks of each device that the weights are learnt from."""


@final
class Sources:
    """Devices whose latencies are known for every network of a table.

    Args:
        latency_ms: shape (n, d), finite and above 0.
        families: of each device; devices of one family tell nothing of how a stranger will behave.
        encodings: shape (n, p), one-hot or numbers in [0, 1].
        counts: shape (n, q), how often each operation occurs.

    Raises:
        BadInput: shapes differ, a latency is missing, or there are fewer than two families.
    """

    def __init__(
        self,
        latency_ms: NDArray[Any],
        families: Sequence[str],
        encodings: NDArray[Any],
        counts: NDArray[Any],
    ) -> None:
        latency_ms = np.asarray(latency_ms, dtype=np.float64)
        shape = (len(encodings), len(families))
        if latency_ms.shape != shape or len(counts) != shape[0]:
            raise must("latency_ms", f"have a row a network and a column a device, {shape}", latency_ms.shape)
        if not (np.isfinite(latency_ms) & (latency_ms > 0)).all():
            raise must("latency_ms", "be finite and above 0", "others", "leave such networks out")
        if len(set(families)) < 2:
            raise must("families", "be at least two", sorted(set(families)), "add devices of another kind")
        self.families = tuple(families)
        self.networks = len(latency_ms)
        logs = np.log(latency_ms)
        self._logs = logs - logs.mean(axis=0)
        self._encodings, self._counts = encodings.astype(np.float64), counts.astype(np.float64)
        self._smooth = _additive(self._logs, self._encodings)
        self.kinship = cache(self._kinship)

    def _kinship(self, without: str | None = None) -> Kinship:
        """What the devices outside a family tell about a device of that family; all devices for None."""
        kept = [i for i, family in enumerate(self.families) if family != without]
        each = [self.families[i] for i in kept]
        weights = np.array([1.0 / each.count(family) for family in each]) / len(set(each))
        return Kinship.of(self._logs[:, kept], self._smooth[:, kept], weights, self._encodings, self._counts)

    def pretended(self) -> list[tuple[int, float]]:
        """Devices that take the part of a target in turn, and their weights: 1 for a family."""
        found = []
        for family in sorted(set(self.families)):
            own = [i for i, f in enumerate(self.families) if f == family]
            own = own[:: -(-len(own) // A_FAMILY)]
            found += [(i, 1.0 / len(own)) for i in own]
        return found

    def logs(self, device: int) -> NDArray[Any]:
        """Log latencies of a device around their mean, shape (n,)."""
        column: NDArray[Any] = self._logs[:, device]
        return column


@final
@dataclass(frozen=True)
class Kinship:
    """Parts of a kernel over networks, made of source devices' log latencies and of the networks.

    Attributes:
        trend: shape (n,), what the sources have in common.
        linear: matrices whose inner products are parts: the trend itself, each source's deviation from it,
            the same directions at equal size (what hardly varies among the sources may vary much on a
            stranger), what the sources have beyond a sum over decisions, encodings and operation counts.
        radial: matrices whose squared distances d give parts exp(-d): of sources' latencies, of encodings.
    """

    trend: NDArray[Any]
    linear: tuple[NDArray[Any], ...]
    radial: tuple[NDArray[Any], ...]

    @classmethod
    def of(
        cls,
        logs: NDArray[Any],
        smooth: NDArray[Any],
        weights: NDArray[Any],
        encodings: NDArray[Any],
        counts: NDArray[Any],
    ) -> Kinship:
        """From logs around their means, and what is a sum over decisions in them, shape (n, d)."""
        root = np.sqrt(weights)
        trend = smooth @ weights
        directions, size, _ = np.linalg.svd(smooth * root, full_matrices=False)
        directions = directions[:, size > 1e-3 * size[0]]
        spread = np.sqrt(max(((smooth * root) ** 2).sum(axis=1).mean(), 1e-12))
        many = np.sqrt(np.maximum(encodings.sum(axis=1, keepdims=True), 1.0) / 2.0)
        return cls(
            trend,
            (
                trend[:, None],
                (smooth - trend[:, None]) * root,
                directions * np.sqrt(len(logs) / directions.shape[1]),
                (logs - smooth) * root,
                _standard(encodings),
                _standard(counts),
            ),
            (smooth * root / spread, encodings / many),
        )

    def parts(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        """Every part between two lists of networks, shape (parts, len(a), len(b))."""
        linear = [m[a] @ m[b].T for m in self.linear]
        return np.stack(linear + [np.exp(-_distances(m[a], m[b])) for m in self.radial])

    def diagonals(self, a: NDArray[Any]) -> NDArray[Any]:
        """Every part of each network with itself, shape (parts, len(a))."""
        linear = [(m[a] ** 2).sum(axis=1) for m in self.linear]
        return np.stack(linear + [np.ones(len(a)) for _ in self.radial])


@final
@dataclass(frozen=True)
class Prior:
    """What weights to expect of a further device.

    Attributes:
        weights: logarithms of the variance of each part and, last, of the noise; shape (parts + 1,).
        precision: how sure that is, by how source devices differ, same shape.
        slope: by how much a device follows the trend.
    """

    weights: NDArray[Any]
    precision: NDArray[Any]
    slope: float

    @classmethod
    def learnt(cls, sources: Sources, rng: np.random.Generator) -> Prior:
        """By the likelihood of every source under the others, its family left out.

        Source: Bonilla et al. 2008, "Multi-task Gaussian process prediction", eq. 1 (tasks in a joint
        kernel). Deviations: the devices' covariance is that of their columns themselves, since those are
        known in full, and the weights carry a normal prior of their own (empirical Bayes).
        """
        slope = _slope(sources)
        known: list[tuple[float, NDArray[Any], NDArray[Any]]] = []
        for device, weight in sources.pretended():
            kin = sources.kinship(sources.families[device])
            nets = rng.choice(sources.networks, min(NETS, sources.networks), replace=False)
            y = sources.logs(device)[nets] - slope * kin.trend[nets]
            known.append((weight, kin.parts(nets, nets), y))
        start = np.full(len(known[0][1]) + 1, np.log(1e-2))
        vague = cls(start, np.full(len(start), 0.04), slope)

        def together(w: NDArray[Any]) -> tuple[float, NDArray[Any]]:
            found = [(weight, *_misfit(w, parts, y)) for weight, parts, y in known]
            loss, slopes = vague.penalty(w)
            return loss + sum(a * b for a, b, _ in found), slopes + sum(a * g for a, _, g in found)

        shared = cls(_minimum(together, start), np.full(len(start), 0.25), slope)
        each = np.stack([shared.fitted(parts, y) for _, parts, y in known])
        shares = np.array([weight for weight, _, _ in known])
        spread = np.average((each - shared.weights) ** 2, axis=0, weights=shares)
        return cls(shared.weights, 1.0 / (spread + 0.1), slope)

    def fitted(self, parts: NDArray[Any], y: NDArray[Any], noise: NDArray[Any] | float = 1.0) -> NDArray[Any]:
        """The weights of a device, by its measurements y around the trend and by this prior.

        Args:
            noise: variance of each measurement's noise, as a multiple of what its weight says.
        """

        def loss(w: NDArray[Any]) -> tuple[float, NDArray[Any]]:
            (a, da), (b, db) = _misfit(w, parts, y, noise), self.penalty(w)
            return a + b, da + db

        return _minimum(loss, self.weights)

    def penalty(self, weights: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Negative log density of weights, up to a constant, and its gradient."""
        apart = weights - self.weights
        return float(0.5 * apart @ (self.precision * apart)), self.precision * apart


def covariance(weights: NDArray[Any], parts: NDArray[Any]) -> NDArray[Any]:
    """The kernel between networks, shape of one part; without noise."""
    found: NDArray[Any] = np.tensordot(np.exp(weights[:-1]), parts, 1) + OFFSET
    return found


def _misfit(
    weights: NDArray[Any], parts: NDArray[Any], y: NDArray[Any], noise: NDArray[Any] | float = 1.0
) -> tuple[float, NDArray[Any]]:
    """Negative log likelihood of y, and its gradient by the weights."""
    scales, diagonal = np.exp(weights), noise * np.ones(len(y))
    k = covariance(weights, parts) + scales[-1] * np.diag(diagonal)
    lower = cholesky(k, lower=True)
    inverse = cho_solve((lower, True), np.eye(len(y)))
    alpha = inverse @ y
    loss = 0.5 * y @ alpha + np.log(np.diag(lower)).sum()
    outer = inverse - np.outer(alpha, alpha)
    slopes = np.append(np.tensordot(parts, outer, ([1, 2], [0, 1])), np.diag(outer) @ diagonal)
    return float(loss), 0.5 * scales * slopes


def _minimum(loss: Any, start: NDArray[Any]) -> NDArray[Any]:
    bounds = [(LOWEST, HIGHEST)] * (len(start) - 1) + [(np.log(1e-6), HIGHEST)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    weights: NDArray[Any] = found.x
    return weights


def _slope(sources: Sources) -> float:
    """Mean over families of how a left-out device follows the trend of the others."""
    slopes, weights = [], []
    for device, weight in sources.pretended():
        trend = sources.kinship(sources.families[device]).trend
        slopes.append(sources.logs(device) @ trend / max(trend @ trend, 1e-12))
        weights.append(weight)
    return float(np.average(slopes, weights=weights))


def _additive(logs: NDArray[Any], encodings: NDArray[Any]) -> NDArray[Any]:
    """The part of logs that is a sum over columns of the encodings, by ridge regression."""
    x = encodings - encodings.mean(axis=0)
    found: NDArray[Any] = x @ np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ logs)
    return found


def _standard(matrix: NDArray[Any]) -> NDArray[Any]:
    spread = matrix.std(axis=0)
    found: NDArray[Any] = (matrix - matrix.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    return np.asarray(found / np.sqrt(matrix.shape[1]))


def _distances(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Squared, shape (len(a), len(b))."""
    found: NDArray[Any] = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2.0 * a @ b.T
    return np.asarray(np.maximum(found, 0.0))
