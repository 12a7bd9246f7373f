"""``nas search --dry-run``: everything but the search, tried on three samples."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import registry
from nas.budget import Budget
from nas.cli.app import number, print_json, say
from nas.errors import BadInput, RunFailed
from nas.evaluator import Known
from nas.executor import evaluate_unit
from nas.proposal import Failure, Proposal
from nas.report.markup import duration
from nas.rng import stream
from nas.strategies.path_sampler import PathSampler

if TYPE_CHECKING:
    from nas.architecture import Architecture
    from nas.parts import Parts, Search
    from nas.stage import Stage

SAMPLES = 3
STRATUM = 11
"""Each sample is the median in costs of so many random architectures, in three strata from small to large;
three random ones alone would often miss the mean by half."""
STEPS = 8
"""Steps of each training of shared weights that are tried."""
SHARES = (0.05, 0.15)
"""Fidelities at which each sample is tried; what they cost more or less gives the cost of a full one."""


def dry_run(search: Search, *, as_json: bool) -> None:
    """Check a whole search, step three random architectures, and estimate what it takes.

    Raises:
        RunFailed: a sample could not be evaluated.
    """
    from nas.parts import Parts

    with tempfile.TemporaryDirectory(prefix="nas-") as scratch:
        (Path(scratch) / "weights").mkdir()
        parts = Parts(search, Path(scratch))
        parts.check_attainable()
        facts = _facts(parts)
    if as_json:
        print_json(facts)
        return
    say(f"space        {facts['space']}, {facts['size']} architectures")
    say(f"objectives   {', '.join(facts['objectives'])}")
    for label in ("task", "target", "strategy", "evaluators", "memo", "budget"):
        say(f"{label:<12} {facts[label]}")
    for sample in facts["samples"]:
        values = ", ".join(f"{m} {number(v)}" for m, v in sample["values"].items())
        say(f"sample       {sample['seconds']:.2f} s: {values}")
    for label, seconds in facts["stages"].items():
        told = "as long as its strategy proposes" if seconds is None else f"about {duration(seconds)}"
        say(f"training     {label}: {told}")
    say(f"evaluation   about {duration(facts['seconds_per_evaluation'])} each at full fidelity")
    say(f"memory       {facts['peak_memory_mb']:,.0f} MB at most so far")
    say(f"estimate     {facts['estimate']}")


def _facts(parts: Parts) -> dict[str, Any]:
    search, size = parts.search, parts.space.size
    stages = {s.label: _trained(s) for s in parts.stages}
    architectures = _samples(parts)
    _tried(parts, architectures[0])  # the first pass through torch is slow
    samples = [_tried(parts, a) for a in architectures]
    seconds = sum(s["full_seconds"] for s in samples) / SAMPLES
    limits = {name: limit for name, limit in vars(search.budget).items() if limit is not None}
    return {
        "space": type(parts.space).__name__,
        "size": "infinitely many" if size == float("inf") else number(size),
        "objectives": [str(o) for o in parts.objectives],
        "task": _named(search.task),
        "target": _named(search.target),
        "strategy": f"{_named(search.strategy)} ({type(parts.strategy).__name__})",
        "evaluators": ", ".join(map(_named, search.evaluators)) or "the objectives' own",
        "memo": _named(search.memo),
        "budget": ", ".join(f"{name} {number(limit)}" for name, limit in limits.items()),
        "stages": stages,
        "samples": samples,
        "seconds_per_evaluation": seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "estimate": _estimate(search.budget, seconds, sum(s or 0.0 for s in stages.values())),
    }


def _trained(stage: Stage) -> float | None:
    """Seconds of a training of shared weights, by its first steps; None where its length cannot be told."""
    tried = replace(stage, budget=Budget(trials=STEPS * stage.strategy.group), folder=None)
    study = tried.study()
    tried.train(study)
    seconds = study.spent.seconds / study.spent.trials
    wanted = [n for n in (stage.budget.trials,) if n is not None and n < sys.maxsize]
    if isinstance(stage.strategy, PathSampler):
        wanted.append(stage.strategy.rounds * stage.strategy.group)
    limits = [s for s in (stage.budget.wall_seconds, stage.budget.seconds) if s is not None]
    return min([n * seconds for n in wanted] + limits, default=None)


def _samples(parts: Parts) -> list[Architecture]:
    """Random architectures; where costs can be counted, a small, a middling and a large one of many."""
    rng = stream(parts.search.seed, "dry run")
    drawn = [parts.space.sample(rng) for _ in range(SAMPLES * STRATUM)]
    try:
        cost = Known(registry.create("evaluator", "cost", parts.offers), parts.search.seed)
    except BadInput:  # there is no task, or its inputs are no tensors
        return drawn[:SAMPLES]
    drawn.sort(key=lambda a: cost.values([a], ["macs"])[0]["macs"])
    return drawn[STRATUM // 2 :: STRATUM]


def _tried(parts: Parts, architecture: Architecture) -> dict[str, Any]:
    """Evaluate one sample: what scales with fidelity for two small shares, the rest in full."""
    asked = {o.metric for o in parts.objectives}
    scaling = asked & parts.evaluator.multi_fidelity
    values, seconds = _measured(parts, architecture, asked - scaling, 1.0)
    full = seconds
    if scaling:
        _, short = _measured(parts, architecture, scaling, SHARES[0])
        found, longer = _measured(parts, architecture, scaling, SHARES[1])
        rate = max(0.0, longer - short) / (SHARES[1] - SHARES[0])
        values |= found
        seconds += short + longer
        full += longer + rate * (1.0 - SHARES[1])
    return {
        "values": values,
        "seconds": seconds,
        "full_seconds": full,
        "architecture": architecture.to_json(),
    }


def _measured(
    parts: Parts, architecture: Architecture, metrics: set[str], fidelity: float
) -> tuple[dict[str, float], float]:
    """Values of metrics and the seconds that they took."""
    if not metrics:
        return {}, 0.0
    start = time.perf_counter()
    proposal = Proposal(architecture, tuple(sorted(metrics)), fidelity=fidelity)
    (report,) = evaluate_unit(parts.evaluator, [(0, proposal)], parts.search.seed, None)
    if isinstance(report.outcome, Failure):
        raise RunFailed(f"the sample {architecture.to_json()} failed: {report.outcome.reason}")
    return dict(report.outcome.values), time.perf_counter() - start


def _estimate(budget: Budget, seconds: float, training: float) -> str:
    counts = [n * seconds for n in (budget.trials, budget.evaluations) if n is not None]
    limits = [s for s in (budget.seconds, budget.wall_seconds, budget.device_seconds) if s is not None]
    return f"{duration(training + min(counts + limits))} in all, if nothing is reused"


def _named(spec: Any) -> str:
    if isinstance(spec, dict):
        rest = ", ".join(f"{k}={v}" for k, v in spec.items() if k not in ("name", "factory"))
        return f"{spec.get('name') or spec.get('factory') or ''} {rest}".strip()
    return str(spec)
