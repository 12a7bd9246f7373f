"""Trials as JSON values, the form in which every storage keeps them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.proposal import Failure, Measurement, Outcome, Proposal, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nas.space import Space


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """A trial as JSON values: gradients and vectors are told, not stored."""
    record: dict[str, Any] = {
        name: getattr(trial, name)
        for name in (
            "number", "role", "batch", "position", "size", "host", "device", "queued", "started", "ended",
            "attempts", "lost_seconds",
        )
    }  # fmt: skip
    record["proposal"] = trial.proposal.to_json()
    o = trial.outcome
    if isinstance(o, Failure):
        record["failure"] = {"kind": o.kind, "reason": o.reason, "seconds": o.seconds}
    else:
        record["measurement"] = {
            "values": {m: float(v) if math.isfinite(v) else str(float(v)) for m, v in o.values.items()},
            "seconds": o.seconds,
            "weights": None if o.weights is None else str(o.weights),
            "reused": o.reused,
            "borrowed": sorted(o.borrowed),
            "notes": dict(o.notes),
        }
    return record


def trial_from_json(record: Mapping[str, Any], space: Space) -> Trial:
    """The trial that `trial_to_json` described.

    Raises:
        BadInput: its architecture is not one of the space's.
    """
    rest = dict(record)
    proposal = Proposal.from_json(rest.pop("proposal"), space)
    outcome: Outcome
    if "failure" in rest:
        outcome = Failure(**rest.pop("failure"))
    else:
        m = rest.pop("measurement")
        outcome = Measurement(
            {name: float(value) for name, value in m["values"].items()},
            m["seconds"],
            weights=None if m["weights"] is None else Path(m["weights"]),
            reused=m["reused"],
            borrowed=frozenset(m["borrowed"]),
            notes=m["notes"],
        )
    return Trial(proposal=proposal, outcome=outcome, **rest)
