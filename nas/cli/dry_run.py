"""``nas search --dry-run``: everything but the search, tried on three samples."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.app import duration, number, print_json, say
from nas.errors import RunFailed
from nas.executor import evaluate_unit
from nas.proposal import Failure, Proposal
from nas.rng import stream

if TYPE_CHECKING:
    from nas.config import Config
    from nas.parts import Parts

SAMPLES = 3
SHARE = 0.1
"""Fidelity at which samples are tried; metrics that ignore fidelity are measured in full."""


def dry_run(config: Config, folder: Path, *, as_json: bool) -> None:
    """Check the whole config, step three random architectures, and estimate the search.

    Raises:
        RunFailed: a sample could not be evaluated.
    """
    from nas.config import search_of
    from nas.parts import Parts

    with tempfile.TemporaryDirectory(prefix="nas-") as scratch:
        (Path(scratch) / "weights").mkdir()
        parts = Parts(search_of(config, folder), Path(scratch))
        facts = _facts(config, parts)
    if as_json:
        print_json(facts)
        return
    say(f"space        {facts['space']}, {facts['size']} architectures")
    say(f"objectives   {', '.join(facts['objectives'])}")
    for label in ("task", "target", "strategy", "evaluators", "memo"):
        say(f"{label:<12} {facts[label]}")
    for sample in facts["samples"]:
        values = ", ".join(f"{m} {number(v)}" for m, v in sample["values"].items())
        say(f"sample       {sample['seconds']:.2f} s: {values}")
    say(f"evaluation   about {duration(facts['seconds_per_evaluation'])} each at full fidelity")
    say(f"memory       {facts['peak_memory_mb']:,.0f} MB at most so far")
    say(f"estimate     {facts['estimate']}")


def _facts(config: Config, parts: Parts) -> dict[str, Any]:
    samples = [_tried(parts, i) for i in range(SAMPLES)]
    seconds = sum(s["full_seconds"] for s in samples) / SAMPLES
    size = parts.space.size
    return {
        "space": type(parts.space).__name__,
        "size": "infinitely many" if size == float("inf") else f"{size:,}",
        "objectives": [str(o) for o in parts.objectives],
        "task": _named(config.task),
        "target": _named(config.target),
        "strategy": _named(config.strategy),
        "evaluators": ", ".join(sorted(parts.evaluator.metrics)),
        "memo": _named(config.memo),
        "samples": samples,
        "seconds_per_evaluation": seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "estimate": _estimate(config, seconds),
    }


def _tried(parts: Parts, i: int) -> dict[str, Any]:
    """Evaluate one sample: what scales with fidelity for a tenth of its schedule, the rest in full."""
    architecture = parts.space.sample(stream(parts.search.seed, "dry run", i))
    values: dict[str, float] = {}
    seconds = full = 0.0
    asked = {o.metric for o in parts.objectives}
    for metrics, share in (
        (asked & parts.evaluator.multi_fidelity, SHARE),
        (asked - parts.evaluator.multi_fidelity, 1.0),
    ):
        if not metrics:
            continue
        start = time.perf_counter()
        proposal = Proposal(architecture, tuple(sorted(metrics)), fidelity=share)
        (report,) = evaluate_unit(parts.evaluator, [(i, proposal)], parts.search.seed, None)
        if isinstance(report.outcome, Failure):
            raise RunFailed(f"sample {i} failed: {report.outcome.reason}\n{report.outcome.trace}")
        values |= report.outcome.values
        seconds += time.perf_counter() - start
        full += (time.perf_counter() - start) / share
    return {
        "values": values,
        "seconds": seconds,
        "full_seconds": full,
        "architecture": architecture.to_json(),
    }


def _estimate(config: Config, seconds: float) -> str:
    budget = config.budget
    limits = []
    for count in (budget.trials, budget.evaluations):
        if count is not None:
            limits.append(count * seconds)
    limits += [s for s in (budget.seconds, budget.wall_seconds, budget.device_seconds) if s is not None]
    return f"{duration(min(limits))} in all, if nothing is reused" if limits else "unknown"


def _named(spec: Any) -> str:
    if isinstance(spec, dict):
        rest = ", ".join(f"{k}={v}" for k, v in spec.items() if k not in ("name", "factory"))
        return f"{spec.get('name') or spec.get('factory') or ''} {rest}".strip()
    return str(spec)
