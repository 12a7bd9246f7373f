"""The records that flow: a proposal goes out, a measurement or a failure comes back, a trial keeps both."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from nas.architecture import Architecture, Candidate, Fixed, Mixture
from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from nas.space import Space

Gradient: TypeAlias = Literal["none", "first", "unrolled"]
FailureKind: TypeAlias = Literal["error", "timeout", "memory", "killed", "diverged"]
Role: TypeAlias = Literal["search", "baseline", "confirm"]

CHECKSUM = "weights_checksum"
"""Note that tells whether a file of weights is as it was written."""


@final
@dataclass(frozen=True, slots=True)
class Proposal:
    """Metrics of a candidate that a strategy asks for.

    Args:
        candidate: an architecture, a mixture, or a fixed module.
        metrics: names, at least one.
        fidelity: share of the full schedule, in (0, 1].
        replicate: repetition with weights and data order of its own, >= 0.
        gradient: whether the gradient by the mixture is wanted.
        samples: indices of the training samples to use; None for all.
        continues: number of the trial whose state this one continues.
    """

    candidate: Candidate
    metrics: tuple[str, ...]
    fidelity: float = 1.0
    replicate: int = 0
    gradient: Gradient = "none"
    samples: tuple[int, ...] | None = None
    continues: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.fidelity <= 1.0:
            raise must("fidelity", "lie in (0, 1]", self.fidelity)
        if not self.metrics:
            raise must("metrics", "name at least one", self.metrics)

    def asking(self, metrics: Sequence[str]) -> Proposal:
        """The same proposal for other metrics."""
        return replace(self, metrics=tuple(metrics))

    def to_json(self) -> dict[str, Any]:
        """JSON values, defaults left out."""
        c = self.candidate
        if isinstance(c, Architecture):
            out: dict[str, Any] = {"architecture": c.to_json()}
        elif isinstance(c, Mixture):
            out = {"mixture": c.to_json()}
        else:
            out = {"fixed": c.name}
        out["metrics"] = list(self.metrics)
        for name, default in (("fidelity", 1.0), ("replicate", 0), ("gradient", "none"), ("continues", None)):
            if getattr(self, name) != default:
                out[name] = getattr(self, name)
        if self.samples is not None:
            out["samples"] = list(self.samples)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any], space: Space) -> Proposal:
        """The proposal that `to_json` described; architectures are checked against the space."""
        rest = dict(data)
        candidate: Candidate
        if "architecture" in rest:
            candidate = space.architecture(rest.pop("architecture"))
        elif "mixture" in rest:
            candidate = Mixture(rest.pop("mixture"))
        else:
            candidate = Fixed(rest.pop("fixed"))
        rest["metrics"] = tuple(rest["metrics"])
        if rest.get("samples") is not None:
            rest["samples"] = tuple(rest["samples"])
        return cls(candidate, **rest)


@final
@dataclass(frozen=True, slots=True)
class Measurement:
    """What an evaluation found.

    Args:
        values: metric values in their units; a value that is not finite never enters a front.
        seconds: what the evaluation took (simulated seconds for a table).
        gradient: by decision, shape (n_options,), where the proposal asked for it.
        vectors: arrays told to the strategy and not stored, such as per-sample losses.
        weights: file of the trained weights.
        reused: key under which (some of) the values were already known; None for a fresh evaluation.
        borrowed: names of those values.
        notes: further JSON scalars worth keeping, such as spreads; `CHECKSUM` is that of the weights' file.
    """

    values: Mapping[str, float]
    seconds: float = 0.0
    gradient: Mapping[str, np.ndarray[Any, Any]] | None = None
    vectors: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    weights: Path | None = None
    reused: str | None = None
    borrowed: frozenset[str] = frozenset()
    notes: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no measurement.

    Args:
        kind: what happened.
        reason: one line.
        seconds: what it took.
        trace: the traceback, kept in the evaluation's log.
    """

    kind: FailureKind
    reason: str
    seconds: float = 0.0
    trace: str = ""


Outcome: TypeAlias = Measurement | Failure


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """A proposal, its outcome, and where and when it ran.

    Args:
        number: order of asking, from 0.
        role: ``search`` trials answer the strategy; ``baseline`` is told first as the reference; ``confirm``
            trials measure front members again and are not told.
        batch: trials of one batch are told together; equal to the batch's first number.
        position: place within the batch.
        size: number of trials in the batch.
        host, device: where it ran.
        queued, started, ended: Unix time in seconds.
        attempts: how often it was tried.
        lost_seconds: time spent on attempts that were lost.
    """

    number: int
    proposal: Proposal
    outcome: Outcome
    role: Role = "search"
    batch: int = 0
    position: int = 0
    size: int = 1
    host: str = ""
    device: str = ""
    queued: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    attempts: int = 1
    lost_seconds: float = 0.0

    @property
    def values(self) -> Mapping[str, float]:
        """The measured values; empty after a failure."""
        return self.outcome.values if isinstance(self.outcome, Measurement) else {}

    @property
    def failed(self) -> bool:
        """Whether there is no measurement."""
        return isinstance(self.outcome, Failure)

    @property
    def reused(self) -> bool:
        """Whether the answer, or a part of it, came from an earlier evaluation."""
        return isinstance(self.outcome, Measurement) and self.outcome.reused is not None

    @property
    def known(self) -> bool:
        """Whether the whole answer came from earlier evaluations, so that nothing was evaluated."""
        o = self.outcome
        return isinstance(o, Measurement) and o.reused is not None and o.borrowed >= o.values.keys()

    @property
    def complete(self) -> bool:
        """Whether every asked metric has a finite value at full fidelity."""
        return self.proposal.fidelity == 1.0 and all(
            math.isfinite(self.values.get(m, math.nan)) for m in self.proposal.metrics
        )
