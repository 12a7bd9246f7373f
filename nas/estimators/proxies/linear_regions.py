"""linear_regions: into how many linear pieces of the function a batch falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.estimators.proxies.patterns import distinct, joined

if TYPE_CHECKING:
    from nas.estimators.proxies.probe import Probe


def linear_regions(probe: Probe, *, units: int | None = 8, draws: int = 64) -> float:
    """Number of different sign patterns of ReLUs over the samples of a batch; higher is better.

    A network of full width tells any two samples apart, so that counting all units gives the size of the
    batch. The published metric therefore looks at a copy of one channel; here random handfuls of units are
    looked at, and their numbers averaged.

    Args:
        probe: its weights are used as they are.
        units: in a handful, a few more than log2 of the batch; None counts all units once, which is
            what a module that is thin itself needs.
        draws: handfuls, at least 1.

    Raises:
        Undefined: there is no ReLU.

    Source: Chen et al. 2021 (TE-NAS), sec. 3.1.2: distinct activation patterns, counted in train mode.
    Deviations: random units of the module in place of a copy of one channel and one cell a stage; the batch's
    samples in place of 3,000 crops of 3 × 3 pixels; the module's own weights.
    """
    codes = joined(probe.codes).cpu()
    if units is None:
        return float(distinct(codes))
    chosen = torch.randint(codes.shape[1], (draws, units), generator=probe.generator("linear_regions"))
    return sum(distinct(codes[:, handful]) for handful in chosen) / draws
