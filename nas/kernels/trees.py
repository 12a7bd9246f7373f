"""Ensembles of regression trees as plain arrays: fitted by scikit-learn, kept and predicted without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

_NODES = ("feature", "rank", "left", "right", "value")


@final
@dataclass(frozen=True)
class Trees:
    """Sum of trees and a base value; a row goes left where its feature is at most the threshold.

    Args:
        feature: of each node, -1 at leaves; shape (nodes,). The nodes of a tree stand together, roots first.
        rank: of the threshold among ``thresholds`` of the feature.
        left, right: numbers of the children's nodes within the tree; a leaf's are its own.
        value: of leaves, learning rate or share of the ensemble included; 0 elsewhere.
        starts: number of each tree's root, shape (trees,).
        thresholds: of all features one after the other, each ascending.
        offsets: where a feature's thresholds begin, shape (features + 1,).
        base: added to the sum.
        depth: the most steps from a root to a leaf.
        dtype: rows are rounded to it before they are compared: ``float64``, or ``float32`` as in forests.
    """

    feature: NDArray[Any]
    rank: NDArray[Any]
    left: NDArray[Any]
    right: NDArray[Any]
    value: NDArray[Any]
    starts: NDArray[Any]
    thresholds: NDArray[Any]
    offsets: NDArray[Any]
    base: float
    depth: int
    dtype: str = "float64"

    @classmethod
    def of_boosting(cls, *models: Any) -> Self:
        """The mean of fitted `HistGradientBoostingRegressor`s without categorical features."""
        parts, share = [], 1.0 / len(models)
        for (predictor,) in (p for model in models for p in model._predictors):
            n = predictor.nodes
            leaf = n["is_leaf"].astype(bool)
            feature = np.where(leaf, -1, n["feature_idx"].astype(int))
            value = np.where(leaf, n["value"] * share, 0.0)
            parts.append((feature, n["num_threshold"], n["left"], n["right"], value))
        base = sum(float(np.ravel(model._baseline_prediction)[0]) for model in models) * share
        return cls._joined(parts, models[0].n_features_in_, base, "float64")

    @classmethod
    def of_forest(cls, model: Any) -> Self:
        """From a fitted `ExtraTreesRegressor` or `RandomForestRegressor` of one output."""
        parts, share = [], 1.0 / len(model.estimators_)
        for estimator in model.estimators_:
            t = estimator.tree_
            leaf = t.children_left < 0
            value = np.where(leaf, t.value[:, 0, 0] * share, 0.0)
            parts.append(
                (np.where(leaf, -1, t.feature), t.threshold, t.children_left, t.children_right, value)
            )
        return cls._joined(parts, model.n_features_in_, 0.0, "float32")

    @classmethod
    def _joined(cls, parts: Iterable[tuple[Any, ...]], features: int, base: float, dtype: str) -> Self:
        parts = list(parts)
        sizes = [len(p[0]) for p in parts]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
        feature, cut, left, right, value = (np.concatenate(c) for c in zip(*parts, strict=True))
        inner, own = feature >= 0, np.concatenate([np.arange(s) for s in sizes])
        left, right = np.where(inner, left, own), np.where(inner, right, own)
        rank = np.zeros(len(feature), dtype=np.int64)
        lists = []
        for f in range(features):
            at = feature == f
            found, rank[at] = np.unique(cut[at], return_inverse=True)
            lists.append(found)
        offsets = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int32)
        depth = max(_depth(p[0], p[2], p[3]) for p in parts)
        nodes = (feature.astype(np.int16), _small(rank), _small(left), _small(right), value.astype(float))
        return cls(*nodes, starts, np.concatenate(lists).astype(float), offsets, base, depth, dtype)

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """Shape (n,) from finite features of shape (n, features).

        Raises:
            BadInput: the number of features is another one.
        """
        if x.ndim != 2 or x.shape[1] != len(self.offsets) - 1:
            raise must("the features", f"have shape (n, {len(self.offsets) - 1})", x.shape)
        ranks = self._ranks(np.asarray(x).astype(self.dtype).astype(float))
        row = np.arange(len(x))[:, None]
        node = np.broadcast_to(self.starts, (len(x), len(self.starts)))
        for _ in range(self.depth):
            # At leaves, feature -1 reads some rank; both children are the leaf itself.
            goes = ranks[row, self.feature[node]] <= self.rank[node]
            node = self.starts + np.where(goes, self.left[node], self.right[node])
        return np.asarray(self.base + self.value[node].sum(axis=1))

    def _ranks(self, x: NDArray[Any]) -> NDArray[Any]:
        """How many thresholds of its feature each number exceeds."""
        ranks = np.zeros(x.shape, dtype=np.int32)
        for f in np.flatnonzero(np.diff(self.offsets)):
            cuts = self.thresholds[self.offsets[f] : self.offsets[f + 1]]
            ranks[:, f] = np.searchsorted(cuts, x[:, f], side="left")
        return ranks

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To be kept; leaf values are rounded to float32, some 1e-7 of themselves."""
        nodes = {name: getattr(self, name) for name in (*_NODES, "starts", "offsets", "thresholds")}
        extra = np.array([self.base, self.depth, self.dtype == "float32"], dtype=float)
        return {**nodes, "value": self.value.astype(np.float32), "extra": extra}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From `arrays`."""
        base, depth, single = arrays["extra"].tolist()
        nodes = {name: arrays[name] for name in (*_NODES, "starts", "offsets", "thresholds")}
        nodes["value"] = nodes["value"].astype(float)
        return cls(**nodes, base=base, depth=int(depth), dtype="float32" if single else "float64")


def _small(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _depth(feature: NDArray[Any], left: NDArray[Any], right: NDArray[Any]) -> int:
    level, depth = np.zeros(1, dtype=int), -1
    while len(level):
        inner = level[np.asarray(feature)[level] >= 0]
        level = np.concatenate([np.asarray(left)[inner], np.asarray(right)[inner]]).astype(int)
        depth += 1
    return depth
