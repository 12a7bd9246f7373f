"""Training-free metrics, one a file: what an untrained module's shape, weights and gradients tell of it.

A metric is a function of a `Probe` (one module, one task, one seed) that returns a number, or a mapping of
numbers when it has components. `measure` computes any of them for any module.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias, final

from nas.errors import must, unknown_metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import nn

    from nas.estimators.proxies.probe import Probe
    from nas.task import Task

    Function: TypeAlias = Callable[[Probe], float | Mapping[str, float]]

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """What is known of a metric without computing it.

    Args:
        function: the function of a probe, or ``"package.module:name"`` of one.
        needs: of its input: ``"labels"`` (targets, and two classes or more), ``"data"`` (inputs alone) or
            ``"nothing"`` (only the shape of an input).
        layers: what a module must have for it to be defined; empty when any will do.
        shares: passes of the probe that it uses, so that they are prepared for all metrics at once.
        components: names of the values that it gives; its own name when empty.
    """

    function: str | Function
    needs: str
    layers: str = ""
    shares: tuple[str, ...] = ()
    components: tuple[str, ...] = ()

    def load(self) -> Function:
        """The function; its file is imported now."""
        if not isinstance(self.function, str):
            return self.function
        module, _, name = self.function.partition(":")
        loaded: Function = getattr(import_module(module), name)
        return loaded


_HERE = "nas.estimators.proxies"
_WEIGHTS = "conv or linear"

METRICS: Mapping[str, Metric] = {
    "grad_norm": Metric(f"{_HERE}.grad_norm:grad_norm", "labels", _WEIGHTS, ("gradients",)),
    "snip": Metric(f"{_HERE}.snip:snip", "labels", _WEIGHTS, ("gradients",)),
    "grasp": Metric(f"{_HERE}.grasp:grasp", "labels", _WEIGHTS),
    "synflow": Metric(f"{_HERE}.synflow:synflow", "nothing", _WEIGHTS),
    "fisher": Metric(f"{_HERE}.fisher:fisher", "labels", _WEIGHTS, ("gradients", "channel_products")),
    "plain": Metric(f"{_HERE}.plain:plain", "labels", _WEIGHTS, ("gradients",)),
    "l2_norm": Metric(f"{_HERE}.l2_norm:l2_norm", "nothing", _WEIGHTS),
    "jacob_cov": Metric(f"{_HERE}.jacob_cov:jacob_cov", "data", "", ("input_jacobian",)),
    "naswot": Metric(f"{_HERE}.naswot:naswot", "data", "ReLU", ("codes",)),
    "epe_nas": Metric(f"{_HERE}.epe_nas:epe_nas", "labels", "", ("input_jacobian",)),
    "zen": Metric(f"{_HERE}.zen:zen", "nothing", _WEIGHTS),
    "ntk_condition": Metric(f"{_HERE}.ntk_condition:ntk_condition", "data"),
    "linear_regions": Metric(f"{_HERE}.linear_regions:linear_regions", "data", "ReLU"),
    "zico": Metric(f"{_HERE}.zico:zico", "labels", _WEIGHTS, ("gradients",)),
    "meco": Metric(f"{_HERE}.meco:meco", "nothing", "channels with positions"),
    "swap": Metric(f"{_HERE}.swap:swap", "data", "ReLU"),
    "az_nas": Metric(
        f"{_HERE}.az_nas:az_nas",
        "nothing",
        _WEIGHTS,
        components=(
            "az_nas_expressivity",
            "az_nas_progressivity",
            "az_nas_trainability",
            "az_nas_complexity",
        ),
    ),
    "params": Metric(f"{_HERE}.size:params", "nothing"),
    "macs": Metric(f"{_HERE}.size:macs", "nothing"),
}
"""Every metric by name; nothing is imported until one is computed."""


def measure(
    module: nn.Module,
    task: Task,
    metrics: Iterable[str | Callable[..., float | Mapping[str, float]]] = (),
    *,
    seed: int = 0,
    batch_size: int | None = 64,
) -> dict[str, float]:
    """Training-free metrics of a module as it is, which is left as it was.

    Args:
        module: on whatever device; its weights are used as they are.
        task: gives the batches and the loss.
        metrics: names among `METRICS`, or functions of a `Probe`; all of `METRICS` when empty.
        seed: of the batches and of random inputs.
        batch_size: samples of a batch; None for the task's own.

    Returns:
        Values by name of a metric or of its components; NaN where one is undefined or failed, with the
        reason in the log.

    Raises:
        UnknownMetric: a name is not among them.
    """
    from nas.estimators.proxies.probe import Probe
    from nas.estimators.proxies.scores import scores

    chosen = selected(metrics or METRICS)
    shares = {name for metric in chosen.values() for name in metric.shares}
    found = scores(Probe(module, task, seed=seed, batch_size=batch_size, shares=shares), chosen)
    for name, reason in found.missing.items():
        _log.warning("%s is missing: %s", name, reason)
    return dict(found.values)


def selected(metrics: Iterable[str | Function]) -> dict[str, Metric]:
    """Metrics by name; a function is called by its own name.

    Raises:
        UnknownMetric: a name is not among `METRICS`.
        BadInput: two carry one name.
    """
    chosen: dict[str, Metric] = {}
    for given in metrics:
        name, metric = _metric(given)
        if name in chosen:
            raise must("metrics", "name each one once", name)
        chosen[name] = metric
    return chosen


def _metric(given: str | Function) -> tuple[str, Metric]:
    if not isinstance(given, str):
        return given.__name__, Metric(given, "data")
    if given in METRICS:
        return given, METRICS[given]
    if ":" in given:
        return given.rpartition(":")[2], Metric(given, "data")
    raise unknown_metric(given, METRICS)


def names(metrics: Mapping[str, Metric]) -> dict[str, str]:
    """For each value that metrics give, the metric that gives it."""
    return {value: name for name, metric in metrics.items() for value in metric.components or (name,)}
