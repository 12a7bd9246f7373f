"""zen: how strongly the features before pooling answer a small change of the input, for random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.estimators.proxies import gaussian
from nas.estimators.proxies.probe import Undefined

if TYPE_CHECKING:
    from torch import Tensor

    from nas.estimators.proxies.probe import Probe, Seen

STEP = 0.01
"""Scale of the change of an input."""

MOMENTUM = 0.1
"""Share of a batch in a running variance."""


def zen(probe: Probe, *, repeats: int = 4, batch_size: int = 16) -> float:
    """Mean over repeats of ln E‖f(x) − f(x + 0.01 x′)‖₁ + Σ ln σ over batch normalisations.

    Weights, x and x′ are standard Gaussian, anew in every repeat; f is what the last part of the module gives
    that still has positions to pool over, or what its last linear layer is given where nothing has; σ² is
    the mean over channels of the running variance of a batch normalisation after both. Higher is better.

    Args:
        probe: its weights are left as they were.
        repeats: draws of weights, at least 1.
        batch_size: inputs a draw.

    Raises:
        Undefined: f does not change with x.

    Source: Lin et al. 2021 (Zen-NAS), alg. 1, with the authors' code: its running variance starts at 1 and
    takes a tenth of each batch's, where the algorithm has the batch's own, which ranks a little otherwise
    (Spearman 0.93 between both on cells of NAS-Bench-201). Deviations: the running variance starts anew in
    every repeat, whatever the module's momentum; four repeats where the authors take 32 and NASLib one, as
    a repeat's noise is a hundredth of the spread between architectures.
    """
    generator = probe.generator("zen")
    return sum(_draw(probe, generator, batch_size) for _ in range(repeats)) / repeats


def _draw(probe: Probe, generator: torch.Generator, batch_size: int) -> float:
    with probe.untouched():
        gaussian.redraw(probe.module, lambda _: 1.0, generator)
        x, other = (gaussian.inputs(probe, batch_size, generator) for _ in range(2))
        first, second = _pass(probe, x), _pass(probe, x + STEP * other)
    change = (second[0] - first[0]).double().abs().flatten(1).sum(dim=1).mean()
    if not float(change) > 0:
        raise Undefined("features must change with the input, got equal ones")
    return float(change.log()) + sum(map(_log_scale, first[1], second[1]))


def _pass(probe: Probe, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Features, and for each call of a batch normalisation its channels' variances.

    Every pass drops the same units, since the difference of two is wanted.
    """
    with probe.running("zen"), torch.no_grad(), probe.watching(nn.Module) as seen:
        probe.forward(x)
    return _features(seen), [_variances(call.inputs) for call in seen if isinstance(call.module, _BatchNorm)]


def _features(calls: list[Seen]) -> Tensor:
    """What would be pooled: the last output of a part without parts that has two positions or more."""
    for call in reversed(calls):
        if not any(True for _ in call.module.children()) and _positions(call.output) > 1:
            return call.output
    for call in reversed(calls):
        if isinstance(call.module, nn.Linear):
            return call.inputs
    raise Undefined("a part must give features with 2 positions or more, or be linear, got none")


def _positions(x: Tensor) -> int:
    return x[0, 0].numel() if x.ndim > 2 else 1


def _variances(x: Tensor) -> Tensor:
    return x.double().transpose(0, 1).flatten(1).var(dim=1)


def _log_scale(first: Tensor, second: Tensor) -> float:
    """The logarithm of the root of the mean of the variances that run from 1 through two batches."""
    kept = 1 - MOMENTUM
    running = kept * (kept + MOMENTUM * first) + MOMENTUM * second
    return float(running.mean().log()) / 2
