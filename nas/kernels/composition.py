"""From times of kernels to the time of a whole network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.errors import must
from nas.kernels.conformal import Conformal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LEAST_NETS = 8
"""Fewer measured networks do not fit the parameters; they only scale the whole."""
UNCALIBRATED_FACTOR = 2.0
"""The least by which a sum of kernels may be off either way when no network was measured."""


@final
@dataclass(frozen=True)
class Composition:
    """T = fixed + max(reuse · Σ kernels + n · gap + fetch · weights, n · dispatch) for n kernels.

    The device is the bottleneck in the first case, the host that sends kernels in the second (eager mode of
    small kernels). A negative gap takes back what timing a single kernel adds to it. Weights count where a
    kernel alone found its own in the cache, and the whole network's do not fit (`nas.kernels.net_latency`).

    Args:
        reuse: factor of the kernels' sum: below 1 where kernels find their inputs in the cache.
        gap_ms: between one kernel and the next.
        dispatch_ms: for the host to send a kernel; 0 for graphs.
        fixed_ms: once.
        fetch: factor of the time in which such weights come at full bandwidth.
        conformal: ratios on whole networks; None when none was measured.

    Raises:
        BadInput: a parameter but the gap is negative, or the reuse is not positive.
    """

    reuse: float = 1.0
    gap_ms: float = 0.0
    dispatch_ms: float = 0.0
    fixed_ms: float = 0.0
    fetch: float = 0.0
    conformal: Conformal | None = None

    def __post_init__(self) -> None:
        for name in ("dispatch_ms", "fixed_ms", "fetch"):
            if not getattr(self, name) >= 0.0:
                raise must(f"composition.{name}", "be at least 0", getattr(self, name))
        if not self.reuse > 0.0:
            raise must("composition.reuse", "be above 0", self.reuse)

    def total_ms(
        self,
        device_ms: NDArray[Any] | float,
        kernels: NDArray[Any] | float,
        weights: NDArray[Any] | float = 0.0,
    ) -> NDArray[Any]:
        """Of networks with these sums of kernels' times, numbers of kernels, and milliseconds of weights."""
        values = (self.reuse, self.gap_ms, self.dispatch_ms, self.fixed_ms, self.fetch)
        return _total(values, *(np.asarray(each, dtype=float) for each in (device_ms, kernels, weights)))

    def factor(self, level: float, kernels_factor: float) -> float:
        """By which a total may be off either way.

        Args:
            level: probability of the interval.
            kernels_factor: the same of the kernels' sum; it is the difficulty that calibration scores are
                divided by.
        """
        if self.conformal is None:
            return max(kernels_factor, UNCALIBRATED_FACTOR)
        found = float(self.conformal.factor(level, np.log(kernels_factor)))
        return found if np.isfinite(found) else max(kernels_factor, UNCALIBRATED_FACTOR)

    @classmethod
    def fit(
        cls,
        device_ms: NDArray[Any],
        kernels: NDArray[Any],
        weights: NDArray[Any],
        measured_ms: NDArray[Any],
        kernels_factor: NDArray[Any],
        seed: int = 0,
    ) -> Composition:
        """Least squares of logarithmic errors; intervals from five folds.

        Args:
            device_ms, kernels, measured_ms: of n networks, shape (n,), positive.
            weights: milliseconds in which they come at full bandwidth, shape (n,), >= 0.
            kernels_factor: of each network's kernels, above 1.

        Raises:
            BadInput: no network was measured.
        """
        if not len(measured_ms):
            raise must("measured networks", "be at least one", 0)
        fold = np.random.default_rng(seed).permutation(len(measured_ms)) % min(5, len(measured_ms))
        predicted = np.empty(len(measured_ms))
        for f in range(fold.max() + 1):
            rest = fold != f if fold.max() else fold == f
            values = _fitted(device_ms[rest], kernels[rest], weights[rest], measured_ms[rest])
            out = fold == f
            predicted[out] = _total(values, device_ms[out], kernels[out], weights[out])
        conformal = Conformal.of(measured_ms, predicted, np.log(kernels_factor))
        return cls(*_fitted(device_ms, kernels, weights, measured_ms), conformal)

    def record(self) -> dict[str, Any]:
        """JSON values."""
        scores = None if self.conformal is None else self.conformal.scores.tolist()
        return {**asdict(self), "conformal": scores}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Composition:
        """From `record`."""
        scores = record["conformal"]
        return cls(**{**record, "conformal": None if scores is None else Conformal(np.array(scores))})


def _total(
    values: tuple[float, ...], device_ms: NDArray[Any], kernels: NDArray[Any], weights: NDArray[Any]
) -> NDArray[Any]:
    reuse, gap, dispatch, fixed, fetch = values
    busy = np.maximum(reuse * device_ms + kernels * gap, 0.05 * reuse * device_ms) + fetch * weights
    return np.asarray(fixed + np.maximum(busy, kernels * dispatch))


def _fitted(
    device_ms: NDArray[Any], kernels: NDArray[Any], weights: NDArray[Any], ms: NDArray[Any]
) -> tuple[float, float, float, float, float]:
    """(reuse, gap, dispatch, fixed, fetch); from few networks the reuse alone."""
    from scipy.optimize import least_squares

    reuse = float(np.exp(np.median(np.log(ms / device_ms))))
    if len(ms) < LEAST_NETS:
        return reuse, 0.0, 0.0, 0.0, 0.0
    unit = float(np.median(ms / kernels))  # of a kernel, by which small parameters are scaled
    most = 2.0 if weights.any() else 1e-9

    def values(free: NDArray[Any]) -> tuple[float, float, float, float, float]:
        return (
            float(np.exp(free[0])),
            float(free[1]) * unit,
            float(free[2]) * unit,
            float(free[3]) * float(ms.min()),
            float(free[4]),
        )

    def errors(free: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.log(_total(values(free), device_ms, kernels, weights) / ms))

    bounds = ([np.log(0.2), -1.0, 0.0, 0.0, 0.0], [np.log(5.0), 1.0, 1.0, 0.9, most])
    best = None
    for dispatch in (0.0, 0.5):  # where one side of the maximum never speaks, its slope is 0
        start = [np.clip(np.log(reuse), *np.log((0.21, 4.9))), 0.0, dispatch, 0.01, most / 2]
        found = least_squares(errors, start, bounds=bounds, loss="soft_l1", f_scale=0.1)
        best = found if best is None or found.cost < best.cost else best
    return values(best.x)  # type: ignore[union-attr]
