"""A target that was fitted to its own clock: models of its operations, and how networks add up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
import yaml

from nas.kernels.composition import Composition
from nas.kernels.fusion_profile import FusionProfile
from nas.kernels.net_latency import NetLatency
from nas.kernels.predictor import OpModels, fit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nas.kernels.capture import Trace
    from nas.kernels.op_table import OpTable
    from nas.target import Target

MODELS, TARGET = "models.npz", "target.yaml"
LEAST = 20
"""Different operations that a kind needs for a model of its own."""


@final
@dataclass(frozen=True)
class Measured:
    """A network on the clock.

    Args:
        name: of the network.
        trace: its operations.
        ms: median of a pass.
    """

    name: str
    trace: Trace
    ms: float


def fitted_ops(table: OpTable, seed: int) -> OpModels:
    """Models of the kinds that were timed often enough; the notes name the others as ``unmodelled``."""
    rows, left = [], []
    for kind, some in table.kinds().items():
        if len({table.ops[i] for i in some}) < LEAST:
            left.append("/".join(kind))
        else:
            rows.extend(some.tolist())
    models = fit(table.only(np.array(sorted(rows), dtype=int)), seed)
    return replace(models, notes={**models.notes, "unmodelled": left})


def composed(models: OpModels, nets: Sequence[Measured], seed: int) -> OpModels:
    """The same models with a composition fitted to measured networks, kept among the notes.

    Raises:
        BadInput: there is no network.
    """
    latency = NetLatency(models, Composition(), FusionProfile.load(models.backend))
    parts = [latency.parts(net.trace) for net in nets]
    sums, kernels, weights, factors = (np.array(column, dtype=float) for column in zip(*parts, strict=True))
    found = Composition.fit(sums, kernels, weights, np.array([net.ms for net in nets]), factors, seed)
    return replace(models, notes={**models.notes, "composition": found.record(), "nets": len(nets)})


def latency_of(models: OpModels, level: float = 0.9) -> NetLatency:
    """What predicts networks by models that may hold a composition."""
    record = models.notes.get("composition")
    composition = Composition() if record is None else Composition.of_record(record)
    return NetLatency(models, composition, FusionProfile.load(models.backend), level)


def errors_of(models: OpModels, nets: Sequence[Measured]) -> dict[str, float]:
    """Of networks that a composition was fitted to: mean relative error, and the 90 % interval's factor."""
    latency = latency_of(models)
    found = [latency.predict(net.trace) for net in nets]
    errors = [abs(f.ms / net.ms - 1) for f, net in zip(found, nets, strict=True)]
    factors = [f.high_ms / f.ms for f in found]
    return {"fitted_mape": float(np.mean(errors)), "interval_factor": float(np.median(factors))}


def write_target(folder: Path, models: OpModels, of: Target, notes: Mapping[str, Any]) -> Path:
    """Write models and the target that uses them.

    Args:
        folder: made where it is not there.
        models: with a composition.
        of: whose name, device, limits and descriptions are kept.
        notes: where its figures come from, by field.

    Returns:
        The target's file, which a config names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    models.save(folder / MODELS)
    rates = models.rates
    data: dict[str, Any] = {
        "name": of.name,
        "description": of.description,
        "provenance": "calibrated",
        "device": of.device,
        "backend": models.backend,
        "dtype": models.dtype,
        "peak_flops": {**of.peak_flops, models.dtype: float(rates.peak_flops)},
        "bandwidth": float(rates.bandwidth),
        "l2_bytes": float(rates.l2_bytes),
        "multiprocessors": rates.multiprocessors,
        "op_models": MODELS,
        "sources": dict(notes),
    }
    kept = {"gpu": of.gpu, "ram_bytes": of.ram_bytes, "limits": dict(of.limits)}
    data |= {name: value for name, value in kept.items() if value}
    path = folder / TARGET
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path
