"""How long does it take to list a module's operations, and is it the list that export gives?

    python benchmarks/capture_speed.py

Five random cells of NAS-Bench-201 as the benchmark's networks of 17 layers, and five chains of `conv`; one
thread, medians in milliseconds: building on the meta device, the trace of a module on it, the trace of one
with weights, `torch.export.export` (not strict), what a backend makes of a trace, and `CostEvaluator` when it
is asked for the first time and again. ``same`` says whether the exported program has exactly the same
operations. Half a minute on 2 cores.
"""

from __future__ import annotations

import time
import warnings
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from record import record

from nas import registry
from nas.estimators.cost import CostEvaluator
from nas.evaluator import seeded_module
from nas.kernels.capture import capture
from nas.kernels.fusion import fused
from nas.kernels.fusion_profile import FusionProfile
from nas.proposal import Proposal
from nas.rng import stream
from nas.tasks.digits import Digits

if TYPE_CHECKING:
    from collections.abc import Callable

    from nas.space import Space

SEEDS = range(5)
SPACES = ("nasbench201", "conv")


def timed(run: Callable[[], Any], repeats: int = 5) -> float:
    """Median milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def row(space: Space, task: Digits, seed: int) -> dict[str, float]:
    """All figures of one random architecture."""
    proposal = Proposal(space.sample(stream(seed, "capture")), ("macs", "params"))

    def build() -> torch.nn.Module:
        with torch.device("meta"):
            return seeded_module(space, proposal, 0).eval()

    meta, module, x = build(), seeded_module(space, proposal, 0).eval(), task.example(2)
    trace, profile = capture(meta, x), FusionProfile.load("onnxruntime")
    exported = torch.export.export(module, (x,), strict=False)
    cost = CostEvaluator(space, task)
    first = timed(lambda: cost.evaluate([proposal], seed=0), 1)
    return {
        "operations": len(trace.calls),
        "build_ms": timed(build),
        "trace_ms": timed(lambda: capture(meta, x)),
        "trace_with_weights_ms": timed(lambda: capture(module, x)),
        "export_ms": timed(lambda: torch.export.export(module, (x,), strict=False), 3),
        "fuse_ms": timed(lambda: fused(trace, profile), 21),
        "cost_first_ms": first,
        "cost_again_ms": timed(lambda: cost.evaluate([proposal], seed=0)),
        "same": float(capture(exported.module(check_guards=False), x).calls == trace.calls),
    }


def main() -> None:
    """Each space, the medians over seeds."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task, figures = Digits(), {}
    for name in SPACES:
        space = registry.create("space", name, {"task": task})
        row(space, task, 0)  # the first pass through torch is slow
        rows = [row(space, task, seed) for seed in SEEDS]
        figures[name] = {key: median(r[key] for r in rows) for key in rows[0]}
        figures[name]["same"] = min(r["same"] for r in rows)
        print(name, figures[name])
    print(record("capture_speed", figures, SEEDS))


if __name__ == "__main__":
    main()
