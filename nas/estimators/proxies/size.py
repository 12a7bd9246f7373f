"""Size and cost, which every other metric has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.estimators.cost import forward_cost, weights_cost

if TYPE_CHECKING:
    from nas.estimators.proxies.probe import Probe


def params(probe: Probe) -> float:
    """Number of parameters; shared ones count once."""
    return weights_cost(probe.module)["params"]


def macs(probe: Probe) -> float:
    """Multiply-accumulates of a forward pass for one input.

    Raises:
        Undefined: the model takes several inputs.
    """
    with probe.running(training=False):
        return forward_cost(probe.module, probe.inputs[:1].clone())["macs"]
