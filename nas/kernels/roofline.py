"""The least time that a machine's peak rates allow an operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nas.kernels.op import Op
    from nas.target import Target


@final
@dataclass(frozen=True, slots=True)
class Rates:
    """What a machine can do at most.

    Args:
        peak_flops: floating-point operations per second in the dtype that is meant.
        bandwidth: of the main memory, bytes per second.
        multiprocessors: streaming multiprocessors or cores; 1 where unknown.
        l2_bytes: the last cache before the main memory; 1 MiB where unknown.

    Raises:
        BadInput: a figure is not positive.
    """

    peak_flops: float
    bandwidth: float
    multiprocessors: int = 1
    l2_bytes: float = 2.0**20

    def __post_init__(self) -> None:
        for name in ("peak_flops", "bandwidth", "multiprocessors", "l2_bytes"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise must(f"rates.{name}", "be a positive number", value)

    @classmethod
    def of_target(cls, target: Target) -> Self:
        """The rates of a target in its dtype.

        Raises:
            BadInput: the target's peak rates or bandwidth are not known.
        """
        if target.dtype not in target.peak_flops or not target.bandwidth > 0:
            remedy = "give peak_flops and bandwidth in a target file, or profile the machine"
            raise must(f"target {target.name}", f"have peak rates for {target.dtype}", "none", remedy)
        peak = target.peak_flops[target.dtype]
        return cls(peak, target.bandwidth, target.multiprocessors or 1, target.l2_bytes or 2.0**20)


def amounts(ops: Sequence[Op]) -> NDArray[Any]:
    """FLOPs, bytes of input, weights and output, shape (n, 4); at least one byte is read and written."""
    rows = [(op.flops, op.bytes_in, op.bytes_weight, op.bytes_out) for op in ops]
    found = np.array(rows, dtype=float).reshape(-1, 4)
    return np.asarray(np.maximum(found, (0.0, 1.0, 0.0, 1.0)))


def roofline_ms(ops: Sequence[Op], rates: Rates) -> NDArray[Any]:
    """Shape (n,), milliseconds: the longer of computing and of moving all bytes once.

    Source: Williams et al. 2009, "Roofline".
    """
    return bound_ms(amounts(ops), rates)


def bound_ms(amounts: NDArray[Any], rates: Rates) -> NDArray[Any]:
    """`roofline_ms` of `amounts`."""
    compute = amounts[:, 0] / rates.peak_flops
    memory = amounts[:, 1:].sum(axis=1) / rates.bandwidth
    return np.asarray(1e3 * np.maximum(compute, memory))
