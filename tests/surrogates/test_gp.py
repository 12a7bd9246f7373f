"""Gaussian processes that choose what to measure next."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from nas.rng import stream
from nas.surrogates import gp


def observed(n=8, m=4):
    rng = stream(3, "observed")
    points = rng.uniform(-1, 1, (n, m))
    return points, -((points - 0.3) ** 2).sum(axis=1)


def fitted(points, gains):
    model = GaussianProcessRegressor(Matern(1.5, nu=2.5), alpha=gp.JITTER, normalize_y=True, optimizer=None)
    return model.fit(points, gains)


def test_the_closed_form_is_sklearns_bound():
    points, gains = observed()
    model = fitted(points, gains)
    bound = gp._Bound(model, points)
    for x in stream(4).uniform(-1, 1, (20, 4)):
        mean, deviation = model.predict(x[None], return_std=True)
        theirs = (mean[0] - gains.mean() + gp.KAPPA * deviation[0]) / gains.std()
        assert -bound(x)[0] == pytest.approx(theirs, abs=1e-6)


def test_its_gradient_is_that_of_finite_differences():
    points, gains = observed()
    bound = gp._Bound(fitted(points, gains), points)
    for x in stream(5).uniform(-1, 1, (20, 4)):
        assert check_grad(lambda v: bound(v)[0], lambda v: bound(v)[1], x) < 1e-4


def test_the_most_promising_point_is_better_than_all_drawn_ones_and_repeatable():
    points, gains = observed()
    found = gp.most_promising(points, gains, stream(0))
    assert (found == gp.most_promising(points, gains, stream(0))).all()
    assert (np.abs(found) <= 1).all()


def test_repeated_proposals_close_in_on_a_smooth_optimum():
    points, gains = observed(3, 2)
    for step in range(15):
        new = gp.most_promising(points, gains, stream(step))
        points, gains = np.vstack([points, new]), np.append(gains, -((new - 0.3) ** 2).sum())
    assert gains.max() > -0.005


def test_equal_gains_are_no_error():
    points, _ = observed()
    assert gp.most_promising(points, np.ones(len(points)), stream(0)).shape == (4,)
    assert np.isfinite(gp.expected_improvement(points, [0, 1, 2], np.ones(3), 0.3)).all()


def test_expected_improvement_finds_the_metric_that_matters_whatever_its_sign():
    features = stream(0, "features").random((300, 4))
    for sign in (1.0, -1.0):
        truth = sign * features[:, 2]
        rows = list(range(8))
        for _ in range(10):
            expected = gp.expected_improvement(features, rows, truth[rows], 0.3)
            expected[rows] = -np.inf
            rows.append(int(np.argmax(expected)))
        assert (truth > truth[rows].max()).sum() <= 2


def test_the_logarithm_of_improvement_keeps_its_digits_far_below_the_best():
    u = np.array([-200.0, -31.0, -29.0, -5.0, 0.0, 5.0])
    found = gp._log_improvement(u)
    assert (np.diff(found) > 0).all()
    assert found[4] == pytest.approx(np.log(1 / np.sqrt(2 * np.pi)))
    assert found[5] == pytest.approx(np.log(5.0), abs=1e-6)
