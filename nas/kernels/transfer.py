"""Latencies of a table's networks on a further device, from a few that were measured there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, final

import numpy as np
from scipy.linalg import cho_solve, cholesky

from nas.errors import must
from nas.kernels.device_prior import Kinship, Prior, Sources, covariance
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

POOL = 400
"""Random networks among which those to measure are chosen."""
SCORES = 300
"""Errors a family of sources that intervals are calibrated on."""
OWN = 10
"""Measurements from which on a device's own errors count in its intervals: fewer have no 90 % quantile."""
OUTLIER = 2.0
"""Standardised error from which on a measurement counts less, as a phone that was busy for a moment gives."""
STRENGTH = 40.0
"""The sources' errors together count as much as this many of the device's own."""


@final
@dataclass(frozen=True)
class Transferred:
    """Predictions and their intervals, each of shape (n,), in ms."""

    ms: NDArray[Any]
    low_ms: NDArray[Any]
    high_ms: NDArray[Any]


@final
class Transfer:
    """Predicts a device from its few measurements and from source devices.

    A Gaussian process on log latencies, whose prior is learnt on the sources alone (`Prior`) and whose
    weights follow the measurements as far as those speak. An interval is the predictive standard deviation
    times a quantile of such standardised errors: those that the sources make when each is predicted from as
    many measurements, its family left out, and from 10 measurements on the device's own leave-one-out ones.

    Args:
        sources: the devices that are known.
        rng: draws what the prior and the intervals are learnt from.

    Source: the interval is that of Lei et al. 2018, sec. 5.2, with errors of other devices for those of a
    held-out part, since 5 or 20 measurements leave none to hold out.
    """

    def __init__(self, sources: Sources, rng: np.random.Generator) -> None:
        self._sources = sources
        self._seed = int(rng.integers(2**62))
        self._kin = sources.kinship(None)
        self._prior = Prior.learnt(sources, rng)
        self._scores = cache(self._source_scores)

    def choose(self, k: int, rng: np.random.Generator, among: Sequence[int] | None = None) -> list[int]:
        """Networks worth measuring, best first: together they leave the least variance in a random pool.

        Args:
            k: how many.
            rng: draws the pool.
            among: networks that can be measured; all when None.

        Raises:
            BadInput: there are fewer than k.

        Source: Cohn et al. 1996, "Active learning with statistical models", sec. 4, one at a time.
        """
        there = np.arange(self._sources.networks) if among is None else np.asarray(among)
        if not 1 <= k <= len(there):
            raise must("k", f"be between 1 and the {len(there):,} networks", k)
        pool = rng.choice(there, min(len(there), max(POOL, 2 * k)), replace=False)
        return _chosen(self._kin, self._prior, pool, k)

    def predict(
        self,
        measured: Sequence[int],
        latency_ms: NDArray[Any],
        networks: Sequence[int] | None = None,
        level: float = 0.9,
    ) -> Transferred:
        """The device's latencies.

        Args:
            measured: networks that were measured there, at least two.
            latency_ms: their milliseconds, above 0.
            networks: those to predict; all when None.
            level: probability of the interval, between 0 and 1.

        Raises:
            BadInput: there are fewer than two measurements, one is not above 0, or the level is out of range.
        """
        if len(measured) < 2 or len(measured) != len(latency_ms):
            raise must("measured", "hold at least two networks with a latency each", len(measured))
        if not (np.isfinite(latency_ms) & (np.asarray(latency_ms) > 0)).all():
            raise must("latency_ms", "be finite and above 0", np.asarray(latency_ms).tolist())
        if not 0.0 < level < 1.0:
            raise must("level", "lie between 0 and 1", level)
        at = np.arange(self._sources.networks) if networks is None else np.asarray(networks)
        device = _Device(self._kin, self._prior, np.asarray(measured), np.log(latency_ms))
        mean, deviation = device.predict(at)
        width = self._quantile(device.own_scores(), level) * deviation
        return Transferred(np.exp(mean), np.exp(mean - width), np.exp(mean + width))

    def _quantile(self, own: NDArray[Any], level: float) -> float:
        scores, weights = self._scores(len(own))
        if len(own) >= OWN:
            scores, weights = np.append(scores, own), np.append(STRENGTH * weights, np.ones(len(own)))
        order = np.argsort(scores)
        share = np.cumsum(weights[order]) / weights.sum()
        return float(scores[order[min(int(np.searchsorted(share, level)), len(order) - 1)]])

    def _source_scores(self, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Standardised errors of sources predicted from k measurements, and weights that sum to 1."""
        found, weights = [], []
        for device, weight in self._sources.pretended():
            rng = stream(self._seed, "calibration", k, device)
            kin, y = self._sources.kinship(self._sources.families[device]), self._sources.logs(device)
            pool = rng.permutation(self._sources.networks)[: max(POOL, 2 * k)]
            nets = np.array(_chosen(kin, self._prior, pool, min(k, len(pool))))
            others = rng.choice(self._sources.networks, min(SCORES, self._sources.networks), replace=False)
            mean, deviation = _Device(kin, self._prior, nets, y[nets]).predict(others)
            found.append(np.abs(y[others] - mean) / deviation)
            weights.append(np.full(len(others), weight))
        joined = np.concatenate(weights)
        return np.concatenate(found), joined / joined.sum()


@final
class _Device:
    """A device by its measurements y, in logarithms."""

    def __init__(self, kin: Kinship, prior: Prior, nets: NDArray[Any], y: NDArray[Any]) -> None:
        self._kin, self._nets, self._slope = kin, nets, prior.slope
        y = y - prior.slope * kin.trend[nets]
        self._middle = float(y.mean())
        self._parts, self._y = kin.parts(nets, nets), y - self._middle
        self._fit(prior, np.ones(len(nets)))
        score = self.own_scores()
        if score.max() > OUTLIER:
            self._fit(prior, np.maximum(1.0, (score / OUTLIER) ** 2))

    def _fit(self, prior: Prior, noise: NDArray[Any]) -> None:
        """Weights and the solved system, with so many times the noise on each measurement."""
        self._weights = prior.fitted(self._parts, self._y, noise)
        k = covariance(self._weights, self._parts) + np.exp(self._weights[-1]) * np.diag(noise)
        self._lower = cholesky(k, lower=True)
        self._alpha = cho_solve((self._lower, True), self._y)

    def predict(self, at: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and standard deviation of a measurement of these networks, in logarithms."""
        across = covariance(self._weights, self._kin.parts(at, self._nets))
        mean = across @ self._alpha + self._middle + self._slope * self._kin.trend[at]
        alone = covariance(self._weights, self._kin.diagonals(at))
        told = (across * cho_solve((self._lower, True), across.T).T).sum(axis=1)
        return mean, np.sqrt(np.maximum(alone - told, 0.0) + np.exp(self._weights[-1]))

    def own_scores(self) -> NDArray[Any]:
        """Standardised error of each measurement when it is left out.

        Source: Rasmussen & Williams 2006, eqs. 5.10 to 5.12.
        """
        precision = np.diag(cho_solve((self._lower, True), np.eye(len(self._nets))))
        return np.asarray(np.abs(self._alpha) / np.sqrt(precision))


def _chosen(kin: Kinship, prior: Prior, pool: NDArray[Any], k: int) -> list[int]:
    """The k of a pool that reduce its total variance most, one after the other."""
    left = covariance(prior.weights, kin.parts(pool, pool))
    noise = np.exp(prior.weights[-1])
    taken: list[int] = []
    for _ in range(k):
        gain = (left**2).sum(axis=0) / (np.diag(left) + noise)
        gain[taken] = -np.inf
        best = int(np.argmax(gain))
        taken.append(best)
        left = left - np.outer(left[:, best], left[best]) / (left[best, best] + noise)
    return [int(net) for net in pool[taken]]
