"""The time of a traced network on a device: its kernels' times, composed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.kernels.fusion import fused
from nas.kernels.op import REMEMBERED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nas.kernels.capture import Trace
    from nas.kernels.composition import Composition
    from nas.kernels.fusion import Kernel
    from nas.kernels.fusion_profile import FusionProfile
    from nas.kernels.op import Op
    from nas.kernels.predictor import OpModels


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
        self._rows: dict[Op, int] = {}
        self._known = np.empty((0, 4))  # ms, factor, share backed and bytes of weights, by row

    def predict(self, trace: Trace) -> NetTime:
        """The time of a traced pass; of nothing, the composition's fixed part."""
        kernels = fused(trace, self._profile)
        ms, factor, backed, weights = self._columns(kernels)
        total = float(ms.sum())
        share = ms / total if total > 0 else np.zeros(len(ms))
        predicted = float(self._composition.total_ms(total, len(kernels), self._fetched(weights)))
        band = self._composition.factor(self._level, _mean_factor(share, factor))
        names = [k.op.name for k, b in zip(kernels, backed.tolist(), strict=True) if b == 0.0]
        unknown = tuple(dict.fromkeys(names))
        coverage = float((share * backed).sum())
        return NetTime(predicted, predicted / band, predicted * band, coverage, len(kernels), unknown)

    def parts(self, trace: Trace) -> tuple[float, int, float, float]:
        """What a composition is fitted to.

        Returns:
            The kernels' sum in ms, their number, ms of weights to fetch, and the sum's factor above 1.
        """
        kernels = fused(trace, self._profile)
        ms, factor, _, weights = self._columns(kernels)
        total = float(ms.sum())
        share = ms / total if total > 0 else np.zeros(len(ms))
        return total, len(kernels), self._fetched(weights), _mean_factor(share, factor)

    def _fetched(self, weights: NDArray[Any]) -> float:
        """Milliseconds, at full bandwidth, of weights that fit the cache, where all together do not.

        Timed alone, a kernel finds them there; in such a network, each pass throws out what the next needs.
        """
        cache = self._ops.rates.l2_bytes
        missed = float(weights[weights <= cache].sum()) if weights.sum() > cache else 0.0
        return 1e3 * missed / self._ops.rates.bandwidth

    def _columns(self, kernels: Sequence[Kernel]) -> tuple[NDArray[Any], ...]:
        """ms, factor, share backed by timings and bytes of weights of each kernel.

        What fusion adds moves at full bandwidth.
        """
        try:
            rows = [self._rows[kernel.op] for kernel in kernels]
        except KeyError:
            self._learn([kernel.op for kernel in kernels])
            rows = [self._rows[kernel.op] for kernel in kernels]
        ms, factor, backed, weights = self._known[rows].T
        more = [max(0.0, kernel.bytes - kernel.op.bytes) if kernel.absorbed else 0.0 for kernel in kernels]
        return ms + 1e3 * np.array(more) / self._ops.rates.bandwidth, factor, backed, weights

    def _learn(self, ops: Sequence[Op]) -> None:
        new = [op for op in dict.fromkeys(ops) if op not in self._rows]
        if len(self._rows) + len(new) > REMEMBERED:
            self._rows, self._known = {}, self._known[:0]
            new = list(dict.fromkeys(ops))
        times = self._ops.predict(new, self._level)
        self._rows.update(zip(new, range(len(self._rows), len(self._rows) + len(new)), strict=True))
        weights = np.array([op.bytes_weight for op in new])
        found = np.column_stack([times.ms, times.factor, times.backed, weights])
        self._known = np.concatenate([self._known, found])


def _mean_factor(share: NDArray[Any], factor: NDArray[Any]) -> float:
    """By which a sum may be off: the geometric mean of its parts' factors by their shares; above 1."""
    return max(float(np.exp((share * np.log(factor)).sum())), 1.0 + 1e-6)
