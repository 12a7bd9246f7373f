"""The time of a traced network on a device: its kernels' times, composed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from nas.kernels.fusion import fused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.kernels.capture import Trace
    from nas.kernels.composition import Composition
    from nas.kernels.fusion import FusionProfile, Kernel
    from nas.kernels.op import Op
    from nas.kernels.predictor import OpModels

REMEMBERED = 100_000
"""Operations whose times are kept."""


@final
@dataclass(frozen=True, slots=True)
class NetTime:
    """A prediction.

    Args:
        ms: of one pass.
        low_ms, high_ms: the ends of its interval.
        coverage: share of the kernels' time that comes from timings of such operations, 0 to 1.
        kernels: how many there are.
        unknown: names of operations that only the roofline speaks for, in the order of their appearance.
    """

    ms: float
    low_ms: float
    high_ms: float
    coverage: float
    kernels: int
    unknown: tuple[str, ...]


@final
class NetLatency:
    """Predicts networks; equal operations are predicted once.

    Args:
        ops: times of single operations.
        composition: of a whole from its kernels.
        profile: which operations run as one kernel.
        level: probability of the interval, between 0 and 1.
    """

    def __init__(
        self, ops: OpModels, composition: Composition, profile: FusionProfile, level: float = 0.9
    ) -> None:
        self._ops, self._composition, self._profile = ops, composition, profile
        self._level = level
        self._known: dict[Op, tuple[float, float, float]] = {}

    def predict(self, trace: Trace) -> NetTime:
        """The time of a traced pass; of nothing, the composition's fixed part."""
        kernels = fused(trace, self._profile)
        ms, factor, backed = self._times(kernels)
        total = float(ms.sum())
        share = ms / total if total > 0 else np.zeros(0)
        predicted = float(self._composition.total_ms(total, len(kernels)))
        band = self._composition.factor(self._level, _mean_factor(ms, factor))
        names = [k.op.name for k, b in zip(kernels, backed.tolist(), strict=True) if b == 0.0]
        unknown = tuple(dict.fromkeys(names))
        coverage = float((share * backed).sum())
        return NetTime(predicted, predicted / band, predicted * band, coverage, len(kernels), unknown)

    def parts(self, trace: Trace) -> tuple[float, int, float]:
        """What a composition is fitted to: the kernels' sum in ms, their number, the sum's factor above 1."""
        kernels = fused(trace, self._profile)
        ms, factor, _ = self._times(kernels)
        return float(ms.sum()), len(kernels), _mean_factor(ms, factor)

    def _times(self, kernels: Sequence[Kernel]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ms, factor and share backed by timings of each kernel; what fusion adds moves at full bandwidth."""
        found = [self._known.get(kernel.op) for kernel in kernels]
        if None in found:
            self._learn([kernel.op for kernel in kernels])
            found = [self._known[kernel.op] for kernel in kernels]
        rows = np.array(found, dtype=float).reshape(-1, 3)
        more = np.array([max(0.0, kernel.bytes - kernel.op.bytes) for kernel in kernels])
        return rows[:, 0] + 1e3 * more / self._ops.rates.bandwidth, rows[:, 1], rows[:, 2]

    def _learn(self, ops: Sequence[Op]) -> None:
        new = [op for op in dict.fromkeys(ops) if op not in self._known]
        if len(self._known) + len(new) > REMEMBERED:
            self._known.clear()
            new = list(dict.fromkeys(ops))
        times = self._ops.predict(new, self._level)
        found = zip(times.ms.tolist(), times.factor.tolist(), times.backed.tolist(), strict=True)
        self._known.update(zip(new, found, strict=True))


def _mean_factor(ms: np.ndarray, factor: np.ndarray) -> float:
    """By which a sum may be off: the geometric mean of its parts' factors by their shares; above 1."""
    total = float(ms.sum())
    share = ms / total if total > 0 else np.zeros(len(ms))
    return max(float(np.exp((share * np.log(factor)).sum())), 1.0 + 1e-6)
