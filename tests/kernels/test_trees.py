from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor

from nas.errors import BadInput
from nas.kernels.trees import Trees

RNG = np.random.default_rng(0)
X = np.column_stack([RNG.normal(size=(400, 3)), RNG.integers(0, 4, size=400), np.zeros(400)])
Y = np.sin(3 * X[:, 0]) + X[:, 1] * (X[:, 3] > 1) + 10
NEW = np.concatenate([X[:50], RNG.normal(size=(100, 5)) * 3, np.round(X[:50], 1)])


def boosting(**settings):
    return HistGradientBoostingRegressor(max_iter=40, random_state=0, **settings).fit(X, Y)


MODELS = {
    "squared": (Trees.of_boosting, lambda: boosting()),
    "absolute": (Trees.of_boosting, lambda: boosting(loss="absolute_error", max_leaf_nodes=5)),
    "stumps": (Trees.of_boosting, lambda: boosting(max_depth=1)),
    "extra": (Trees.of_forest, lambda: ExtraTreesRegressor(30, random_state=0).fit(X, Y)),
    "random": (Trees.of_forest, lambda: RandomForestRegressor(10, max_depth=4, random_state=0).fit(X, Y)),
}


@pytest.fixture(params=MODELS, scope="module")
def pair(request):
    convert, make = MODELS[request.param]
    model = make()
    return model, convert(model)


def test_predicts_what_scikit_learn_predicts(pair):
    model, trees = pair
    assert np.ptp(model.predict(NEW)) > 0.5
    np.testing.assert_allclose(trees.predict(NEW), model.predict(NEW), rtol=0, atol=1e-12)


def test_thresholds_themselves_go_left(pair):
    model, trees = pair
    cuts = trees.thresholds[trees.offsets[0] : trees.offsets[1]]
    at = np.zeros((len(cuts), 5))
    at[:, 0] = cuts
    np.testing.assert_allclose(trees.predict(at), model.predict(at), rtol=0, atol=1e-12)


def test_arrays_keep_the_predictions_and_hold_no_objects(pair, tmp_path):
    _, trees = pair
    np.savez(tmp_path / "trees.npz", **trees.arrays())
    with np.load(tmp_path / "trees.npz", allow_pickle=False) as file:
        again = Trees.of_arrays(dict(file))
    np.testing.assert_allclose(again.predict(NEW), trees.predict(NEW), rtol=2e-6)


def test_the_mean_of_two_ensembles():
    models = boosting(), boosting(loss="absolute_error", max_features=0.5)
    mean = (models[0].predict(NEW) + models[1].predict(NEW)) / 2
    np.testing.assert_allclose(Trees.of_boosting(*models).predict(NEW), mean, rtol=0, atol=1e-12)


def test_a_constant_is_a_tree_without_nodes_to_ask():
    model = ExtraTreesRegressor(3, random_state=0).fit(X, np.full(400, 2.5))
    np.testing.assert_allclose(Trees.of_forest(model).predict(NEW), 2.5)


def test_another_number_of_features_is_refused(pair):
    with pytest.raises(BadInput, match=r"shape \(n, 5\)"):
        pair[1].predict(NEW[:, :4])
