"""swap: how many different ways there are in which units answer the samples of a batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nas.errors import must
from nas.estimators.proxies import gaussian
from nas.estimators.proxies.patterns import distinct, joined
from nas.estimators.proxies.size import params

if TYPE_CHECKING:
    from collections.abc import Callable

    from nas.estimators.proxies.probe import Probe


def swap(probe: Probe, *, repeats: int = 8, samples: int = 16) -> float:
    """Mean over repeats of the number of different columns among all units' signs on the samples.

    Weights are standard Gaussian, anew in every repeat; samples are the batch's first. Higher is better, at
    most 2**samples.

    Args:
        probe: its weights are left as they were.
        repeats: draws of weights, at least 1.
        samples: inputs, 16 as published; all of the batch where it holds fewer.

    Raises:
        Undefined: there is no ReLU.

    Source: Peng et al. 2024 (SWAP-NAS), with the authors' code: train mode. Deviations: ReLUs that do not see
    images count too, where the code leaves them out; 8 repeats where the authors take 32.
    """
    generator, x = probe.generator("swap"), probe.inputs[:samples]
    total = 0
    for _ in range(repeats):
        with probe.untouched():
            gaussian.redraw(probe.module, lambda _: 1.0, generator)
            total += distinct(joined(probe.codes_of(x)).T)
    return total / repeats


def regularised(mu: float, sigma: float) -> Callable[[Probe], float]:
    """The metric ``swap_regularised``: `swap` times exp(−(params − mu)² / sigma).

    Args:
        mu: the number of parameters that is wanted.
        sigma: how far from it is bearable, in parameters squared; above 0.

    Raises:
        BadInput: sigma is not above 0.

    Source: Peng et al. 2024 (SWAP-NAS), in the form of the authors' code (sigma is not squared).
    """
    if not sigma > 0:
        raise must("sigma", "be above 0", sigma)

    def swap_regularised(probe: Probe) -> float:
        return swap(probe) * math.exp(-((params(probe) - mu) ** 2) / sigma)

    return swap_regularised
