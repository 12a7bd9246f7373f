"""How much passes through the module on all paths, whatever the data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from nas.estimators.proxies.probe import Probe, Undefined

if TYPE_CHECKING:
    from torch import Tensor

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Normalisations, which would hide how much passes."""


def synflow(probe: Probe) -> float:
    """Logarithm of Σ|θ·∂R/∂θ| over weights of layers, R the sum of the outputs for an input of ones.

    In float64, in evaluation mode, with the absolute values of all parameters and buffers and without
    normalisation. Higher is better. It looks at no data: equal weights give equal bits.

    Raises:
        Undefined: inputs are not real numbers, or nothing passes.

    Source: Tanaka et al. 2020, alg. 1 and eq. 2, as a score in Abdelfattah et al. 2021, and its logarithm.
    Deviation: all normalisations are bypassed, not only those over the batch.
    """
    ones = torch.ones_like(probe.real_inputs[:1], dtype=torch.float64)
    with probe.running(training=False):
        for module in probe.module.modules():
            if isinstance(module, NORMS):
                module.forward = _unchanged  # type: ignore[method-assign]
        state = {name: _positive(t) for name, t in _tensors(probe.module)}
        names = {parameter: name for name, parameter in probe.module.named_parameters()}
        weights = [state[names[weight]].requires_grad_() for weight in probe.weights.values()]
        flow = functional_call(probe.module, state, (ones,)).sum()
        found = torch.autograd.grad(flow, weights, materialize_grads=True)
    total = sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, found, strict=True))
    if not total > 0:
        raise Undefined(f"something must pass from the input to the output, got a flow of {total}")
    return math.log(total)


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _positive(tensor: Tensor) -> Tensor:
    return tensor.detach().double().abs() if tensor.is_floating_point() else tensor


def _unchanged(x: Tensor) -> Tensor:
    return x
