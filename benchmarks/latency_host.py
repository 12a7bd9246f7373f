"""How well are whole networks predicted on this very machine, also of a family that was never profiled?

    python benchmarks/latency_host.py [--backends A,B] [--folder DIR] [--scale 1.0] [--max-drift 0.1]

For each backend, one thread: a profile of the host as `nas profile` makes it, then 160 other networks: 120
of the four profiled families (`conv`, `nasbench201`, `transnasbench101_micro`, `mlp`; other architectures)
and 40 of `nasbench_macro`, of which nothing was profiled: wide inverted residuals with ReLU6. All are timed
in turn, in five passes; a network's time is the median of the passes' medians. Given are the mean absolute
percentage error, Spearman's correlation and the coverage of the 90 % interval; beside them the plain sum of
kernels, and FLOPs times one factor fitted to the profile's networks. ``processor_share`` says how quiet the
machine was. Clocks are the thread's.

Run again after a kill, it goes on. ``--scale`` makes the profile smaller, below 0.4 the rest, too. On 2 quiet
cores, of which one is used, some 13 minutes a backend, and 6 with ``--scale 0.4``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from record import record
from scipy.stats import spearmanr

from nas import registry
from nas.kernels.composition import Composition
from nas.kernels.fusion_profile import FusionProfile
from nas.kernels.net_latency import NetLatency
from nas.kernels.predictor import OpModels
from nas.kernels.session import Patience
from nas.profiling.calibrated import MODELS, latency_of
from nas.profiling.nets import Source, default_sources, drawn_nets
from nas.profiling.profile import PLANS, Plan, measured, prepared, profile
from nas.target import host

if TYPE_CHECKING:
    from nas.profiling.calibrated import Measured
    from nas.profiling.nets import Net

SEED, OTHER_SEED = 0, 1000
SEEN, UNSEEN = 120, 40
NEW = "nasbench_macro"
ENOUGH = 0.4
"""Scale of the profile from which on all networks are timed and the figures are kept."""


def scaled(scale: float) -> Plan:
    """The plan ``full`` in a size that fits the quarter of an hour, or less."""
    full = PLANS["full"]
    return replace(
        full, ops=round(4500 * scale), adaptive=round(700 * scale), nets=max(18, round(108 * scale))
    )


def test_nets(scale: float) -> list[Net]:
    """Networks that are not the profile's."""
    shape = (3, 32, 32)
    new = [
        Source(NEW, registry.load("space", NEW)(input_shape=shape, classes=10, channels=channels), shape)
        for channels in (8, 16, 32)
    ]
    share = 1.0 if scale >= ENOUGH else scale
    seen = drawn_nets(default_sources(), max(9, round(SEEN * share)), OTHER_SEED)
    found = seen + drawn_nets(new, max(6, round(UNSEEN * share)), OTHER_SEED)
    return [replace(net, name=f"test-{net.name}") for net in found]


def scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Mean absolute percentage error and rank correlation."""
    mape = float(np.abs(predicted / truth - 1).mean())
    return {"mape": round(mape, 4), "spearman": round(float(spearmanr(truth, predicted).statistic), 4)}


def prediction_ms(models: OpModels, nets: list[Measured]) -> dict[str, float]:
    """Medians of a prediction from a trace: with nothing known, and with all operations known.

    ``cached_100_ms`` is of networks of 90 to 140 operations.
    """
    fresh, again, long = [], [], []
    for net in nets:
        latency = latency_of(models)
        times = []
        for _ in range(8):
            start = time.thread_time()
            latency.predict(net.trace)
            times.append(1e3 * (time.thread_time() - start))
        fresh.append(times[0])
        again.append(float(np.median(times[1:])))
        if 90 <= len(net.trace.calls) <= 140:
            long.append(again[-1])
    named = {"first_ms": fresh, "cached_ms": again, "cached_100_ms": long}
    return {name: round(float(np.median(values)), 3) for name, values in named.items() if values}


def compared(models: OpModels, nets: list[Measured], fitted: list[Measured]) -> dict[str, Any]:
    """All figures, by group of families."""
    latency = latency_of(models)
    plain = NetLatency(models, Composition(), FusionProfile.load(models.backend))
    factor = float(np.exp(np.median([np.log(net.ms / net.trace.flops) for net in fitted])))
    truth = np.array([net.ms for net in nets])
    found = [latency.predict(net.trace) for net in nets]
    ways = {
        "predicted": np.array([f.ms for f in found]),
        "sum_of_kernels": np.array([plain.parts(net.trace)[0] for net in nets]),
        "flops": np.array([factor * net.trace.flops for net in nets]),
    }
    inside = np.array([f.low_ms <= t <= f.high_ms for f, t in zip(found, truth, strict=True)])
    new = np.array([NEW in net.name for net in nets])
    family = np.array([net.name.split("-")[1] for net in nets])
    groups = {"profiled": ~new, "unseen": new, "all": np.ones(len(nets), dtype=bool)}
    groups |= {f"family {name}": family == name for name in sorted(set(family))}
    return {
        group: {
            "nets": int(mask.sum()),
            "coverage": round(float(inside[mask].mean()), 3),
            **{way: scores(truth[mask], values[mask]) for way, values in ways.items()},
        }
        for group, mask in groups.items()
    }


def one(backend: str, folder: Path, scale: float, patience: Patience) -> dict[str, Any]:
    """A backend's figures."""
    begin = time.perf_counter()
    target, plan = replace(host(), backend=backend), scaled(scale)

    def tell(what: str, done: int, of: int) -> None:
        print(f"{time.perf_counter() - begin:7.1f} s  {backend}: {what} {done}/{of}", end="\r", flush=True)

    made = profile(target, plan, folder, seed=SEED, patience=patience, tell=tell)
    ready = prepared(target, plan, folder, seed=SEED, patience=patience)
    nets, left_out = measured(ready.session, test_nets(scale), target, ready.plan, tell)
    fitted, _ = measured(ready.session, ready.nets[: plan.nets], target, ready.plan, tell)
    models = OpModels.load(folder / MODELS)
    print()
    return {
        "groups": compared(models, nets, fitted),
        "prediction": prediction_ms(models, nets),
        "operations": made.rows,
        "operations_held_out_mape": made.errors,
        "profile_nets": made.nets,
        "left_out": left_out,
        "processor_share": round(min(ready.session.shares), 3),
        "seconds": round(time.perf_counter() - begin),
    }


def main() -> None:
    """Each backend."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backends", default="eager,onnxruntime")
    parser.add_argument("--folder", type=Path, default=Path("latency_host"))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--max-drift", type=float, default=0.1)
    given = parser.parse_args()
    figures: dict[str, Any] = {"scale": given.scale}
    for backend in given.backends.split(","):
        patience = Patience(drift=given.max_drift)
        figures[backend] = one(backend, given.folder / backend, given.scale, patience)
        for group, row in figures[backend]["groups"].items():
            print(backend, group, row)
        print({k: v for k, v in figures[backend].items() if k != "groups"})
    if given.scale >= ENOUGH:
        print(record("latency_host", figures, [SEED, OTHER_SEED]))


if __name__ == "__main__":
    main()
