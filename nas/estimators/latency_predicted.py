"""Latency without the machine: a candidate's operations, and models of how long each takes there."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, final

import torch

from nas.architecture import Fixed
from nas.errors import NasError, must
from nas.evaluator import Evaluator, check_measured, seeded_module
from nas.kernels.capture import capture, peak_bytes
from nas.kernels.composition import Composition
from nas.kernels.fusion_profile import FusionProfile
from nas.kernels.models import SHIPPED, models_at, models_of
from nas.kernels.net_latency import NetLatency
from nas.kernels.predictor import OpModels
from nas.kernels.roofline import Rates
from nas.kernels.timing import no_collection
from nas.proposal import Measurement, Outcome, Proposal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.kernels.capture import Trace
    from nas.kernels.net_latency import NetTime
    from nas.space import Space
    from nas.target import Target
    from nas.task import Task

TIMES = frozenset({"latency_ms", "latency_ms_low", "latency_ms_high", "latency_coverage"})
REMEMBERED = 10_000
"""Candidates whose predictions are kept."""
ON_UNKNOWN = ("roofline", "error")

log = logging.getLogger(__name__)


@final
class LatencyPredicted(Evaluator):
    """Predicts what a forward pass of a batch takes on the target, which need not be at hand.

    * ``latency_ms``: of the target's batch; ``latency_ms_low`` and ``latency_ms_high`` are the ends of its
      interval.
    * ``latency_coverage``: share of the predicted time that comes from timings of such operations, 0 to 1.
    * ``peak_bytes``: of weights and of activations at the worst moment.
    * ``energy_mj``: where the power was measured together with the timings.

    A measurement's notes hold ``kernels``, their number, and ``unknown``, the operations that only the
    roofline speaks for. A candidate is traced once; it takes a few milliseconds for a small network.

    Args:
        space, task: what is built, and what gives its inputs.
        target: rates, dtype, backend and batch size.
        op_models: file of models fitted to timings of the machine; the target's own or those shipped for it
            when None, and the roofline alone where there are none.
        unknown: ``roofline``, or ``error`` to refuse networks with operations that have no model.
        level: probability of the interval, between 0 and 1.

    Raises:
        BadInput: a setting is out of range, the models are of another dtype or backend than the target's, or
            the target has neither models nor peak rates.
        UnknownName: the target's backend has no fusion profile.
    """

    cheap = TIMES | {"peak_bytes"}

    def __init__(
        self,
        space: Space,
        task: Task,
        target: Target,
        op_models: str | None = None,
        unknown: str = "roofline",
        level: float = 0.9,
    ) -> None:
        if unknown not in ON_UNKNOWN:
            raise must("unknown", f"be one of {', '.join(ON_UNKNOWN)}", unknown)
        if not 0.0 < level < 1.0:
            raise must("level", "lie between 0 and 1", level)
        example = task.example(target.batch_size)
        if not isinstance(example, torch.Tensor):
            raise must("the task's example", "be a tensor", type(example).__name__)
        self._space, self._target, self._example = space, target, example
        self._unknown = unknown
        models = _models(op_models or target.op_models or None, target)
        self._power_w = models.notes.get("power_w")
        self.metrics = TIMES | {"peak_bytes"} | ({"energy_mj"} if self._power_w else frozenset())
        self.cheap = self.predicted = self.metrics
        composition = models.notes.get("composition")
        composed = Composition() if composition is None else Composition.of_record(composition)
        self._net = NetLatency(models, composed, FusionProfile.load(target.backend), level)
        self._found: dict[str, tuple[NetTime, float]] = {}

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Trace each candidate and predict it; weights are of no account.

        Raises:
            UnknownMetric: a metric is not one of these.
            BadInput: an operation has no model, with ``unknown: error``.
            Exception: what the module raises when it is run for real.
        """
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        check_measured(proposal.metrics, self.metrics)
        start = time.perf_counter()
        found, peak = self._predicted(proposal, seed)
        if found.unknown and self._unknown == "error":
            names = ", ".join(found.unknown)
            raise must(
                f"each operation on {self._target.name}", "have timings", names, "set unknown: roofline"
            )
        values = {
            "latency_ms": found.ms,
            "latency_ms_low": found.low_ms,
            "latency_ms_high": found.high_ms,
            "latency_coverage": found.coverage,
            "peak_bytes": peak,
            "energy_mj": found.ms * (self._power_w or 0.0),
        }
        notes = {"kernels": found.kernels, "unknown": list(found.unknown)}
        seconds = time.perf_counter() - start
        return Measurement({m: values[m] for m in proposal.metrics}, seconds, notes=notes)

    def _predicted(self, proposal: Proposal, seed: int) -> tuple[NetTime, float]:
        key = proposal.candidate.key
        if key not in self._found:
            with no_collection():
                trace = self._traced(proposal, seed)
            if len(self._found) == REMEMBERED:
                self._found.clear()
            self._found[key] = self._net.predict(trace), peak_bytes(trace)
        return self._found[key]

    def _traced(self, proposal: Proposal, seed: int) -> Trace:
        # A fixed module comes with weights of its own, which the meta device would swallow.
        if not isinstance(proposal.candidate, Fixed):
            try:
                with torch.device("meta"):
                    module = seeded_module(self._space, proposal, seed).eval()
                return capture(module, self._example, dtype=self._target.dtype)
            except NasError:
                raise
            except Exception as error:
                log.debug("built for real: %s", error)
        module = seeded_module(self._space, proposal, seed).eval()
        return capture(module, self._example, dtype=self._target.dtype)


def _models(file: str | None, target: Target) -> OpModels:
    """A file's models, the shipped ones, or none for a target whose rates are known."""
    if file is not None:
        return models_at(Path(file), target)
    if target.name in SHIPPED and (target.dtype, target.backend) == ("float32", "eager"):
        return models_of(target)
    return OpModels(target.name, target.dtype, target.backend, Rates.of_target(target), {})
