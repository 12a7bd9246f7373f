"""Measuring this machine: operations, then whole networks, then the target that is fitted to both."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from nas.errors import Unsupported, must, unknown
from nas.estimators.machine import torch_threads
from nas.kernels import plan as plans
from nas.kernels.fusion import fused
from nas.kernels.fusion_profile import FusionProfile
from nas.kernels.runners import runner
from nas.kernels.runners.ceilings import ceilings
from nas.kernels.session import Patience, Session
from nas.kernels.timing import Timer
from nas.profiling.calibrated import Measured, composed, errors_of, fitted_ops, write_target
from nas.profiling.nets import default_sources, drawn_nets
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nas.kernels.op import Op
    from nas.kernels.roofline import Rates
    from nas.kernels.runners import Run, Runner
    from nas.profiling.nets import Net, Source
    from nas.target import Target

SEEN = 200
"""Networks whose operations a plan is drawn from."""
TABLE = "ops.csv.gz"


@final
@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Args:
        ops: operations of the first round.
        adaptive: at most so many of the second, around those that a model errs on.
        nets: networks, at least 1.
        passes: over the networks, at least 1.
        anchors: operations to watch the clock by, at least 1.
        timer: of operations.
        net_timer: of networks, in each pass.
    """

    ops: int
    adaptive: int
    nets: int
    passes: int
    anchors: int = 6
    timer: Timer = field(default_factory=Timer)
    net_timer: Timer = field(default_factory=lambda: Timer(warmup=2, readings=7, seconds=0.12))


PLANS = {
    "quick": Plan(ops=900, adaptive=100, nets=54, passes=3),
    "full": Plan(ops=6000, adaptive=800, nets=150, passes=5),
}
"""``quick`` takes some 3 minutes on a core that has nothing else to do, ``full`` some 15."""


@final
@dataclass(frozen=True)
class Profile:
    """What a session found.

    Args:
        target: the file that a config names.
        rows: timed operations.
        skipped: kinds that could not be timed, and why.
        nets: measured networks.
        left_out: networks that the backend could not run, and why.
        repeated: parts of the work that had to be timed again.
        errors: mean relative error on operations held out, by kind.
        fitted: of whole networks, as in `errors_of`.
    """

    target: Path
    rows: int
    skipped: dict[str, str]
    nets: int
    left_out: dict[str, str]
    repeated: int
    errors: dict[str, float]
    fitted: dict[str, float]


def profile(
    target: Target,
    plan: Plan,
    folder: Path,
    *,
    seed: int = 0,
    sources: Sequence[Source] | None = None,
    patience: Patience | None = None,
    tell: Callable[[str, int, int], None] = lambda *_: None,
) -> Profile:
    """Measure this machine with one thread and write a calibrated target.

    Args:
        target: device, dtype, batch size and backend; its name is kept.
        plan: how much.
        folder: of the session and of the target; an unfinished session of the same settings goes on.
        seed: of architectures, plan, weights and inputs.
        sources: spaces; those of `default_sources` when None.
        patience: with a busy machine.
        tell: called with what is done, how much of it, and how much there is.

    Raises:
        BadInput: the target is not here, the backend cannot be timed, or the folder's session is another.
        Busy: the machine did not come to rest.
    """
    ready = prepared(target, plan, folder, seed=seed, sources=sources, patience=patience)
    session = ready.session
    with torch_threads(1):
        session.time_ops(ready.first, "first", lambda done, of: tell("operations", done, of))
        named = {"device": target.name, "dtype": target.dtype}
        table = session.table("first", **named, notes={})
        again = plans.around(table, seed, plan.adaptive, stream(seed, "around"))
        session.time_ops(again, "around", lambda done, of: tell("operations around errors", done, of))
        nets, left_out = measured(session, ready.nets[: plan.nets], target, ready.plan, tell)
    table = session.table(None, **named, notes=_notes(session.runner, plan, seed, session))
    table.save(folder / TABLE)
    tell("fitting", 0, 1)
    models = composed(fitted_ops(table, seed), nets, seed)
    found = errors_of(models, nets)
    models = replace(models, notes={**models.notes, "whole_networks": found})
    said = f"timed on {platform.processor() or platform.machine()}, {datetime.now(UTC).date()}"
    path = write_target(folder, models, target, dict.fromkeys(("peak_flops", "bandwidth"), said))
    errors: dict[str, float] = models.notes["held_out_mape"]
    return Profile(
        path, len(table.ops), session.skipped, len(nets), left_out, session.repeated, errors, found
    )


@final
@dataclass(frozen=True)
class Prepared:
    """A session that is open, and what it is to measure.

    Args:
        session: of the folder.
        plan: with the clock of the device.
        first: operations of the first round.
        nets: at least as many as the plan measures; the first ones are to be.
    """

    session: Session
    plan: Plan
    first: list[Op]
    nets: list[Net]


def prepared(
    target: Target,
    plan: Plan,
    folder: Path,
    *,
    seed: int = 0,
    sources: Sequence[Source] | None = None,
    patience: Patience | None = None,
) -> Prepared:
    """Open the session of a folder, a new one or the one that is there; arguments as of `profile`."""
    _check_here(target)
    if target.device == "cpu":
        timer, net_timer = (replace(t, clock=time.thread_time) for t in (plan.timer, plan.net_timer))
        plan = replace(plan, timer=timer, net_timer=net_timer)
    by = runner(target.backend, target.device)
    nets = drawn_nets(
        sources or default_sources(), max(plan.nets, SEEN), seed, target.batch_size, target.dtype
    )
    with torch_threads(1):
        first = _first_round(nets, plan, target, seed)
        session = _session(target, plan, folder, by, first, seed, patience)
    return Prepared(session, plan, first, nets)


def _check_here(target: Target) -> None:
    if target.device != "cpu" and not target.device.startswith("cuda"):
        remedy = "measure it over there: nas profile --pack DIR --target " + target.name
        raise must("target", "be this machine to be profiled", target.name, remedy)
    if target.dtype == "int8":
        raise must("target.dtype", "be a floating one to be profiled", target.dtype)


def _first_round(nets: Sequence[Net], plan: Plan, target: Target, seed: int) -> list[Op]:
    fusion = FusionProfile.load(target.backend)
    seen = [kernel.op for net in nets for kernel in fused(net.trace, fusion)]
    return plans.drawn(seen, plan.ops, stream(seed, "plan"))


def _session(
    target: Target,
    plan: Plan,
    folder: Path,
    by: Runner,
    first: Sequence[Op],
    seed: int,
    patience: Patience | None,
) -> Session:
    import json

    from nas.kernels.session import HEADER

    watched = plans.anchors([op for op in first if op.family in plans.HARD] or first, plan.anchors)
    path = folder / HEADER
    known = json.loads(path.read_text(encoding="utf-8"))["settings"].get("rates") if path.exists() else None
    rates = ceilings(target.device, target.dtype, plan.net_timer) if known is None else _rates(known)
    settings = {
        "device": target.name,
        "torch_device": target.device,
        "dtype": target.dtype,
        "backend": target.backend,
        "batch_size": target.batch_size,
        "seed": seed,
        "plan": [plan.ops, plan.adaptive, plan.nets, plan.passes],
        "versions": by.versions,
        "processor": platform.processor() or platform.machine(),
        "rates": {name: getattr(rates, name) for name in type(rates).__slots__},
    }
    return Session(folder, by, rates, settings, watched, plan.timer, patience)


def _rates(known: dict[str, Any]) -> Rates:
    from nas.kernels.roofline import Rates

    return Rates(**known)


def measured(
    session: Session, nets: Sequence[Net], target: Target, plan: Plan, tell: Callable[[str, int, int], None]
) -> tuple[list[Measured], dict[str, str]]:
    """The networks that the backend runs, timed; and why the others are left out."""
    import torch

    runs: dict[str, Run] = {}
    left_out: dict[str, str] = {}
    kind = getattr(torch, target.dtype)
    for i, net in enumerate(nets):
        tell("networks made ready", i, len(nets))
        try:
            runs[net.name] = session.runner.prepared(net.module().to(kind), net.example().to(kind))
        except Unsupported as error:
            left_out[net.name] = str(error)
    found = session.time_nets(
        runs, plan.passes, plan.net_timer, lambda i, n: tell("passes over networks", i, n)
    )
    ready = [net for net in nets if net.name in runs]
    return [Measured(net.name, net.trace, found[net.name].median_ms) for net in ready], left_out


def _notes(by: Runner, plan: Plan, seed: int, session: Session) -> dict[str, Any]:
    """The header of a table: all that is needed to judge it, and to do it again."""
    here = Path(__file__)
    files = [here, *sorted((here.parents[1] / "kernels").rglob("*.py"))]
    return {
        "source": "nas profile",
        "versions": {"python": platform.python_version(), **by.versions},
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "script": blake2b(b"".join(f.read_bytes() for f in files), digest_size=16).hexdigest(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "plan": {name: getattr(plan, name) for name in ("ops", "adaptive", "nets", "passes", "anchors")},
        "parts_timed_again": session.repeated,
        "processor_share": min(session.shares),
        "skipped": session.skipped,
    }


def plan_of(name: str) -> Plan:
    """The plan of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in PLANS:
        raise unknown("plan", name, PLANS)
    return PLANS[name]
