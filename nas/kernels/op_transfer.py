"""Models of a device of which only a few timings exist, from the models of other devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.errors import must
from nas.kernels.drift import drift_given, without_drift
from nas.kernels.features import features
from nas.kernels.roofline import roofline_ms
from nas.kernels.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nas.kernels.op import Op
    from nas.kernels.op_table import OpTable
    from nas.kernels.predictor import OpModel, OpModels
    from nas.kernels.roofline import Rates

FOREST = 300
"""Trees of the second opinion."""
_PLAIN = frozenset({"log flops", "log bytes", "log intensity", "log total_by_l2", "log roof"})
_SIZES = frozenset(
    "log " + name
    for name in ("batch", "m", "n", "k", "images", "ins", "outs", "high", "rows", "columns", "elements")
)
_TILES = frozenset(
    {"log waves 128x64", "filled 64x64", "efficiency 128x64", "efficiency 128x128", "power of two fill"}
    | {"plane fill 2", "log transformed 2", "log transformed 4", "filled 1024"}
)
CHOSEN = _PLAIN | _SIZES | _TILES
"""The features that a correction from few timings may depend on."""


@final
@dataclass(frozen=True)
class Transferred:
    """One kind of operation on a device, from other devices' models and k timings.

    The sources' mean is corrected by the mean of two regressions of the logarithmic error: a Gaussian
    process (linear and Matérn-3/2 kernels) and extremely randomised trees, both on the sources' predictions
    and on a few features.

    Args:
        sources: of other devices, each with a model of this kind.
        rates: of the device.
        center, scale: of the regressions' inputs.
        inputs: of the k timings, scaled; empty when k = 0.
        weights: of the Gaussian process, shape (k,).
        kernel: its amplitudes and length, (linear amplitude, offset², Matérn amplitude, length).
        mean: of the corrections.
        forest: None when k = 0.
        drift: ms that the clock gained over the session of the timings.
    """

    sources: tuple[OpModels, ...]
    rates: Rates
    center: NDArray[Any]
    scale: NDArray[Any]
    inputs: NDArray[Any]
    weights: NDArray[Any]
    kernel: tuple[float, float, float, float]
    mean: float
    forest: Trees | None
    drift: float

    def predict(self, ops: Sequence[Op]) -> NDArray[Any]:
        """Milliseconds, shape (n,)."""
        return self.corrected(*described(self.sources, ops, self.rates))

    def corrected(self, base: NDArray[Any], at: NDArray[Any]) -> NDArray[Any]:
        """`predict`, from what `described` says of the operations, which is most of the work."""
        if self.forest is None:
            return np.asarray(np.exp(base))
        x = np.clip((at - self.center) / self.scale, -4, 4)
        process = self.mean + _kernel(x, self.inputs, self.kernel) @ self.weights
        return np.asarray(np.exp(base + (process + self.forest.predict(x)) / 2))


def transfer(sources: Sequence[OpModels], table: OpTable | None, rates: Rates, seed: int) -> Transferred:
    """Learn one kind of operation on another device.

    Args:
        sources: models of other devices.
        table: k timings of this kind on the device; None for none.
        rates: of the device.
        seed: of the trees.

    A drifting clock is looked for where it drifted on a source, too.

    Raises:
        BadInput: there is no source, or one has no model of this kind.

    Source: the project's own; compared with offsets and ridge regression in ``benchmarks/op_latency.py``.
    """
    if not sources:
        raise must("sources", "hold at least one device's models", 0)
    nothing = np.zeros(0)
    if table is None:
        return Transferred(
            tuple(sources), rates, nothing, nothing, nothing, nothing, (0, 0, 0, 1), 0.0, None, 0.0
        )
    base, at = described(sources, table.ops, rates)
    drift = 0.0
    if any(_model_of(source, table.ops[0]).drift for source in sources):
        drift = drift_given(np.exp(base), table.position, table.median_ms)
    gap = np.log(without_drift(table.median_ms, table.position, drift)) - base
    center, scale = at.mean(axis=0), at.std(axis=0) + 1e-9
    x = np.clip((at - center) / scale, -4, 4)
    weights, kernel = _process(x, gap - gap.mean())
    forest = _forest(x, gap, seed)
    return Transferred(
        tuple(sources), rates, center, scale, x, weights, kernel, float(gap.mean()), forest, drift
    )


def plan(sources: Sequence[OpModels], ops: Sequence[Op], rates: Rates, count: int, seed: int) -> NDArray[Any]:
    """Which operations to time on a new device: row numbers of the nearest to each centre of k-means.

    Args:
        sources: models of other devices.
        ops: of one kind, more than ``count``.
        rates: of the new device.
        count: how many to time.
        seed: of the centres.
    """
    from sklearn.cluster import KMeans

    _, at = described(sources, ops, rates)
    x = np.clip((at - at.mean(axis=0)) / (at.std(axis=0) + 1e-9), -4, 4)
    centers = KMeans(count, n_init=1, random_state=seed).fit(x).cluster_centers_
    free = np.ones(len(x), dtype=bool)
    chosen = []
    for center in centers:
        distance = np.where(free, ((x - center) ** 2).sum(axis=1), np.inf)
        chosen.append(int(np.argmin(distance)))
        free[chosen[-1]] = False
    return np.array(chosen)


def described(
    sources: Sequence[OpModels], ops: Sequence[Op], rates: Rates
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sources' mean log time with this device's rates, (n,); what a correction may depend on, (n, inputs).

    The latter holds how far each source is from its own roofline, had it the rates of this device; its own
    time beside this device's roofline; and the features among `CHOSEN`.
    """
    names, x = features(ops, rates)
    roof = np.log(roofline_ms(ops, rates))
    here, there = [], []
    for source in sources:
        model = _model_of(source, ops[0])
        here.append(model.trees.predict(x))
        _, own = features(ops, source.rates)
        there.append(model.trees.predict(own) + np.log(roofline_ms(ops, source.rates)) - roof)
    kept = x[:, [i for i, name in enumerate(names) if name in CHOSEN]]
    return np.mean(here, axis=0) + roof, np.column_stack([*here, *there, kept])


def _model_of(source: OpModels, op: Op) -> OpModel:
    model = source.model_for(op)
    if model is None:
        raise must("each source", f"have a model of {op.family}/{op.name}", source.device)
    return model


def _process(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float, float, float]]:
    """Weights and kernel of a Gaussian process whose hyperparameters have the highest likelihood."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

    linear = ConstantKernel(0.1, (1e-4, 10)) * DotProduct(1.0, (1e-2, 1e2))
    bumps = ConstantKernel(0.05, (1e-4, 10)) * Matern(3.0, (0.5, 100), nu=1.5)
    model = GaussianProcessRegressor(linear + bumps + WhiteKernel(3e-3, (1e-5, 0.3)), random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at a bound of the hyperparameters
        model.fit(x, y)
    t = np.exp(model.kernel_.theta)
    return np.asarray(model.alpha_), (float(t[0]), float(t[1]) ** 2, float(t[2]), float(t[3]))


def _kernel(a: NDArray[Any], b: NDArray[Any], kernel: tuple[float, float, float, float]) -> NDArray[Any]:
    """Covariances of the linear and the Matérn-3/2 part, shape (len(a), len(b)).

    Source: Rasmussen & Williams 2006, sec. 4.2.
    """
    linear, offset, bumps, length = kernel
    dots = a @ b.T
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * dots
    r = np.sqrt(3 * np.maximum(squares, 0)) / length
    return np.asarray(linear * (offset + dots) + bumps * (1 + r) * np.exp(-r))


def _forest(x: NDArray[Any], y: NDArray[Any], seed: int) -> Trees:
    from sklearn.ensemble import ExtraTreesRegressor

    return Trees.of_forest(ExtraTreesRegressor(FOREST, random_state=seed).fit(x, y))
