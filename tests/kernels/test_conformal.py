from __future__ import annotations

import numpy as np
import pytest

from nas.errors import BadInput
from nas.kernels.conformal import Conformal


def drawn(rng, n):
    """Truths around predictions, with a spread that is foreseen."""
    difficulty = rng.uniform(0.5, 3.0, size=n)
    predicted = np.exp(rng.normal(size=n))
    return predicted * np.exp(0.1 * difficulty * rng.standard_t(3, size=n)), predicted, difficulty


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("n", [20, 200])
def test_the_level_is_kept_on_exchangeable_data(level, n):
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        conformal = Conformal.of(*drawn(rng, n))
        truth, predicted, difficulty = drawn(rng, 100)
        factor = conformal.factor(level, difficulty)
        inside.append(((truth <= predicted * factor) & (truth >= predicted / factor)).mean())
    assert level - 0.01 < np.mean(inside) < level + 1 / (n + 1) + 0.01


def test_difficult_predictions_get_wider_intervals():
    rng = np.random.default_rng(0)
    factor = Conformal.of(*drawn(rng, 500)).factor(0.9, np.array([0.5, 3.0]))
    np.testing.assert_allclose(np.log(factor[1]), 6 * np.log(factor[0]))


def test_few_scores_promise_nothing():
    assert Conformal.of(np.ones(8), np.full(8, 1.1)).quantile(0.9) == np.inf
    assert Conformal.of(np.ones(9), np.full(9, 1.1)).quantile(0.9) == pytest.approx(np.log(1.1))


def test_thinned_scores_are_no_bolder():
    conformal = Conformal(np.sort(np.random.default_rng(0).exponential(size=1234)))
    thin = conformal.thinned(100)
    assert len(thin.scores) == 100
    for level in (0.5, 0.9, 0.95):
        assert conformal.quantile(level) * 0.97 < thin.quantile(level) < conformal.quantile(level) * 1.1


def test_bad_input():
    with pytest.raises(BadInput, match="calibration"):
        Conformal.of(np.zeros(0), np.zeros(0))
    with pytest.raises(BadInput, match="level"):
        Conformal(np.ones(3)).quantile(1.0)
