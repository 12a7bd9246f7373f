"""The machine that latency, memory and energy refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from nas.errors import must


@final
@dataclass(frozen=True)
class Target:
    """A named profile of a machine and of how it runs a module.

    Args:
        name: as in ``nas list targets``.
        device: torch device string on which measured metrics run, such as ``cpu`` or ``cuda:0``.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        batch_size: inputs per run, at least 1.
        threads: CPU threads of a run, at least 1.
        provenance: ``measured``, ``calibrated`` or ``datasheet``: what stands behind its figures.
    """

    name: str = "host"
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int = 1
    threads: int = 1
    provenance: str = "measured"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise must("target.dtype", "be float32, float16 or bfloat16", self.dtype)
        for name in ("batch_size", "threads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise must(f"target.{name}", "be a whole number of at least 1", value)
        if self.provenance not in ("measured", "calibrated", "datasheet"):
            raise must("target.provenance", "be measured, calibrated or datasheet", self.provenance)


def host(device: str = "cpu", dtype: str = "float32", batch_size: int = 1, threads: int = 1) -> Target:
    """The machine the search runs on."""
    return Target("host", device, dtype, batch_size, threads)
