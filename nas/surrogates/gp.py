"""Gaussian processes of few observations, for strategies that choose what to measure next."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np
from scipy.linalg import cho_solve
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

KAPPA = 2.576
"""Standard deviations that the upper confidence bound adds to the mean."""
JITTER = 1e-6
RESTARTS = 5
DRAWN = 10_000
CLIMBS = 10
LENGTHS = (0.15, 0.25, 0.4, 0.7, 1.2, 2.0)
"""Length scales that are tried, in spreads of a feature that is uniform in each of the dimensions."""
NOISES = (1e-4, 1e-2, 1e-1)
"""Noise variances that are tried, in units of the observations' variance."""


def most_promising(points: Matrix, gains: Matrix, rng: np.random.Generator) -> Matrix:
    """The point of the box [-1, 1]^m with the largest upper confidence bound, shape (m,).

    Args:
        points: what was observed, shape (n, m).
        gains: values there, the larger the better, shape (n,).
        rng: of the restarts, the drawn points and the climbs' starts.

    Source: Nogueira 2014 (bayesian-optimization 1.2, as RoBoT uses it): Matérn 2.5 with one length scale,
    fitted from 5 more starts, alpha 1e-6, normalised values; the best of 10,000 random points and 10 climbs.
    """
    model = GaussianProcessRegressor(
        Matern(nu=2.5),
        alpha=JITTER,
        normalize_y=True,
        n_restarts_optimizer=RESTARTS,
        random_state=int(rng.integers(2**31)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is an answer, too
        model.fit(points, gains)
    bound = _Bound(model, points)
    width = points.shape[1]
    drawn = rng.uniform(-1.0, 1.0, (DRAWN, width))
    best, least = _best_drawn(model, drawn)
    for start in rng.uniform(-1.0, 1.0, (CLIMBS, width)):
        climb = minimize(bound, start, jac=True, method="L-BFGS-B", bounds=[(-1.0, 1.0)] * width)
        if climb.fun < least:
            best, least = climb.x, climb.fun
    return np.clip(best, -1.0, 1.0)


def _best_drawn(model: GaussianProcessRegressor, drawn: Matrix) -> tuple[Matrix, float]:
    """The drawn point with the largest bound, and its negative in normalised units."""
    mean, deviation = model.predict(drawn, return_std=True)
    bounds = (mean - model._y_train_mean + KAPPA * deviation) / model._y_train_std
    at = int(np.argmax(bounds))
    return drawn[at], -float(bounds[at])


@final
class _Bound:
    """Minus the upper confidence bound with its gradient, in closed form: sklearn gives no gradients."""

    def __init__(self, model: GaussianProcessRegressor, points: Matrix) -> None:
        self._length = float(model.kernel_.length_scale)
        self._points = points / self._length
        self._weights = np.ravel(model.alpha_)
        self._inverse = np.linalg.inv(model.L_ @ model.L_.T)

    def __call__(self, x: Matrix) -> tuple[float, Matrix]:
        away = x / self._length - self._points
        r = math.sqrt(5.0) * np.sqrt((away * away).sum(axis=1))
        decay = np.exp(-r)
        k = (1.0 + r + r * r / 3.0) * decay
        slope = (-5.0 / 3.0 / self._length) * ((1.0 + r) * decay)[:, None] * away
        v = self._inverse @ k
        deviation = math.sqrt(max(1.0 - float(k @ v), 1e-18))
        value = float(k @ self._weights) + KAPPA * deviation
        return -value, -(self._weights @ slope - KAPPA / deviation * (v @ slope))


def expected_improvement(features: Matrix, rows: list[int], gains: Matrix, linear: float) -> Matrix:
    """The logarithm of the expected improvement on the best gain, for every architecture, shape (n,).

    The model is a Matérn 2.5 process plus a linear one on centred features, both of variance in units of the
    observations'; length scale and noise are those of a grid with the largest marginal likelihood. In closed
    form, since a pool of ten thousand is predicted after every observation.

    Args:
        features: of the pool, shape (n, m), each in [0, 1].
        rows: those that were observed, at least one.
        gains: values there, the larger the better, shape (len(rows),).
        linear: variance of the linear part where features are uniform.

    Source: Rasmussen & Williams 2006, Algorithm 2.1; Jones et al. 1998, eq. 15; logarithm and its tail as in
    Ament et al. 2023, eq. 9.
    """
    scaled = (features - features.mean(axis=0)) * math.sqrt(12.0 / features.shape[1])  # variance 1 in all
    apart = cdist(scaled, scaled[rows])
    line = linear * scaled @ scaled[rows].T
    targets = (gains - gains.mean()) / (gains.std() or 1.0)
    fits = [
        _fit(_matern(apart[rows] / length) + line[rows] + noise * np.eye(len(rows)), targets, length)
        for length in LENGTHS
        for noise in NOISES
    ]
    best = max(fits, key=lambda fit: fit.likelihood)
    covariance = _matern(apart / best.length) + line
    explained = (covariance * cho_solve((best.factor, True), covariance.T).T).sum(axis=1)
    prior = 1.0 + linear * (scaled * scaled).sum(axis=1)
    deviation = np.sqrt(np.maximum(prior - explained, 1e-12))
    improvement = (covariance @ best.weights - targets.max()) / deviation
    return np.asarray(np.log(deviation) + _log_improvement(improvement))


class _Fit(NamedTuple):
    """A covariance matrix's Cholesky factor and weights, and its log marginal likelihood up to a constant."""

    likelihood: float
    length: float
    factor: Matrix
    weights: Matrix


def _fit(covariance: Matrix, targets: Matrix, length: float) -> _Fit:
    factor: Matrix = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    weights = cho_solve((factor, True), targets)
    likelihood = -0.5 * float(targets @ weights) - float(np.log(np.diag(factor)).sum())
    return _Fit(likelihood, length, factor, weights)


def _matern(distance: Matrix) -> Matrix:
    """Matérn 2.5 of distances in length scales."""
    r = math.sqrt(5.0) * distance
    return (1.0 + r + r * r / 3.0) * np.exp(-r)


def _log_improvement(u: Matrix) -> Matrix:
    """``ln(φ(u) + u Φ(u))``; beyond -30 by its leading term, where the sum has no digits left."""
    near = np.maximum(u, -30.0)
    ratio = np.exp(norm.logcdf(near) - norm.logpdf(near))
    exact = norm.logpdf(near) + np.log(np.maximum(1.0 + near * ratio, 1e-300))
    tail = norm.logpdf(u) - 2.0 * np.log(-np.minimum(u, -1.0))
    return np.asarray(np.where(u < -30.0, tail, exact))
