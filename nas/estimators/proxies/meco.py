"""meco: how little the channels of each feature map repeat each other, for one random image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from nas.estimators.proxies import gaussian
from nas.estimators.proxies.probe import Undefined

if TYPE_CHECKING:
    from torch import Tensor

    from nas.estimators.proxies.probe import Probe


def meco(probe: Probe) -> float:
    """Sum over the calls of all modules of the smallest eigenvalue of the correlations of channels.

    The input is one Gaussian image of the task's shape. Higher is better.

    Raises:
        Undefined: no module gives channels with two positions or more, or a module's batch statistics need
            more than one sample.

    Source: Jiang et al. 2023 (MeCo), with the authors' code: every module counts, a block beside its parts;
    train mode; constant channels correlate with nothing. Deviations: the size of the task's images, where
    the authors take 64 × 64 for all, so that modules for one size work; eigenvalues of a symmetric matrix in
    float64. The authors' variant that multiplies by ZiCo is another metric.
    """
    with probe.running("meco"), torch.no_grad(), probe.watching(nn.Module) as seen:
        probe.forward(gaussian.inputs(probe, 1, probe.generator("meco")))
    found = [smallest(call.output[0]) for call in seen if _has_positions(call.output)]
    if not found:
        raise Undefined("a module must give channels with 2 positions or more, got none")
    return sum(found)


def smallest(channels: Tensor) -> float:
    """Smallest eigenvalue of the correlations of channels, of shape (channels, positions...)."""
    rows = channels.flatten(1).double()
    matrix = torch.corrcoef(rows).reshape(len(rows), len(rows)).nan_to_num(nan=0.0)
    return float(torch.linalg.eigvalsh(matrix)[0])


def _has_positions(output: Tensor) -> bool:
    return output.ndim > 2 and output[0, 0].numel() > 1
