"""What a device can do at most, by the clock: a large matrix product and a large copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nas.kernels.roofline import Rates

if TYPE_CHECKING:
    from nas.kernels.timing import Timer

EDGE, EDGE_CUDA = 768, 8192
"""Of the matrices; on a CPU they fit its caches and still fill its units."""
COPIED, COPIED_CUDA = 2**26, 2**30
"""Bytes, more than any cache."""
_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")


def ceilings(device: str, dtype: str, timer: Timer) -> Rates:
    """Peak rates of one thread of the CPU, or of a CUDA device, in a floating dtype.

    Args:
        device: ``cpu`` or a CUDA device that is here.
        dtype: of the matrix product.
        timer: its fastest tenth counts.
    """
    cuda = device != "cpu"
    edge, size = (EDGE_CUDA, COPIED_CUDA) if cuda else (EDGE, COPIED)
    kind = getattr(torch, dtype)
    a, b = (torch.ones(edge, edge, dtype=kind, device=device) for _ in range(2))
    source = torch.ones(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)

    def fastest(call: object) -> float:
        def run() -> None:
            call()  # type: ignore[operator]
            if cuda:
                torch.cuda.synchronize(device)

        return timer(run).p10_ms / 1e3

    with torch.inference_mode():
        flops = 2.0 * edge**3 / fastest(lambda: torch.mm(a, b))
        bandwidth = 2.0 * size / fastest(lambda: target.copy_(source))
    if not cuda:
        return Rates(flops, bandwidth, 1, cache_bytes())
    properties = torch.cuda.get_device_properties(device)
    return Rates(flops, bandwidth, properties.multi_processor_count, float(properties.L2_cache_size))


def cache_bytes() -> float:
    """Of a core's own last cache; 1 MiB where the system does not say."""
    try:
        text = _CACHE.read_text(encoding="ascii").strip()
    except OSError:
        return 2.0**20
    return float(text.removesuffix("K")) * 2**10
