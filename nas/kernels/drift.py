"""A clock that drifts: milliseconds that a session added to each timing as it went on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEGLIGIBLE = 0.03
"""A drift of less than this share of the median time is taken for none."""
_KEPT = 0.3
"""At least this share of a timing is the operation's own."""


def without_drift(ms: NDArray[Any], position: NDArray[Any], drift_ms: NDArray[Any] | float) -> NDArray[Any]:
    """What the timings would have been at the start of the session; shape (n,)."""
    return np.maximum(ms - drift_ms * position, _KEPT * ms)


def drift_ms(x: NDArray[Any], position: NDArray[Any], ms: NDArray[Any], roof_ms: NDArray[Any]) -> float:
    """Milliseconds that the same operation takes longer at the end of a session than at its start.

    A model is given the position beside the features; how its predictions differ between both ends says the
    drift, by the median weighted by 1 / ms, since long operations show it least.

    Args:
        x: features, shape (n, features).
        position: 0 to 1.
    """
    if not np.ptp(position):  # nothing is known of when a row was measured
        return 0.0
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=150, learning_rate=0.1, min_samples_leaf=10, early_stopping=False, random_state=0
    )
    model.fit(np.column_stack([x, position]), np.log(ms / roof_ms))
    ends = [roof_ms * np.exp(model.predict(np.column_stack([x, np.full(len(x), p)]))) for p in (0.05, 0.95)]
    found = _weighted_median((ends[1] - ends[0]) / 0.9, 1.0 / ms)
    return found if found > NEGLIGIBLE * float(np.median(ms)) else 0.0


def drift_given(expected_ms: NDArray[Any], position: NDArray[Any], ms: NDArray[Any]) -> float:
    """The same from a few timings, for which times are expected that are right up to a common factor."""
    most = 2.0 * float(np.median(ms))
    steps = np.linspace(0.0, most, 101)
    logs = np.log(without_drift(ms, position, steps[:, None])) - np.log(expected_ms)
    spread = np.abs(logs - np.median(logs, axis=1, keepdims=True)).mean(axis=1)
    return float(steps[np.argmin(spread)])


def _weighted_median(values: NDArray[Any], weights: NDArray[Any]) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
