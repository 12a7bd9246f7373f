"""Training-free metrics of candidates: a score in about a second instead of a training in hours."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import torch

from nas.errors import BadInput, must
from nas.estimators.machine import checked_device, torch_threads
from nas.estimators.proxies import METRICS, names, selected
from nas.estimators.proxies.probe import Batches, Probe
from nas.estimators.proxies.scores import Scores, scores
from nas.evaluator import Evaluator, check_measured, seeded_module
from nas.proposal import Failure, Measurement, Outcome, Proposal
from nas.rng import derive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nas.estimators.proxies import Metric
    from nas.space import Space
    from nas.target import Target
    from nas.task import Task


@final
class TrainingFree(Evaluator):
    """Scores candidates with fresh weights by what passes through them, without training.

    Metrics are those of `METRICS` or a user's own; all that a proposal asks for come from one module and
    the fewest passes. None is shared between architectures that compute one function, since they depend
    on the weights and on how the function is written. A metric that is undefined for a candidate or fails
    is NaN, with the reason in the note ``missing.<metric>``; where all asked ones are, there is a failure.
    The note ``seconds.<metric>`` is what a metric took, with its share of passes used by several;
    ``std.<metric>`` its standard deviation over repeats.

    Args:
        space, task: what is built, and the batches and the loss.
        metrics: names, functions of a `Probe`, or ``"package.module:name"`` of one; all that suit the task
            when empty.
        batch_size: samples of a batch; None for the task's own.
        repeats: draws of weights and batches whose mean is given, at least 1.
        target: on whose device it is computed; the CPU when None.
        threads: CPU threads, at least 1.

    Raises:
        BadInput: a setting is out of range, or a metric needs classes that the task has not.
        UnknownMetric: nothing carries a metric's name.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        metrics: Sequence[str | Callable[[Probe], float | Mapping[str, float]]] = (),
        batch_size: int | None = 64,
        repeats: int = 1,
        target: Target | None = None,
        threads: int = 1,
    ) -> None:
        self._space, self._task = space, task
        for name, value in (("repeats", repeats), ("threads", threads), ("batch_size", batch_size)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise must(name, "be a whole number of at least 1", value)
        self._batch_size, self._repeats, self._threads = batch_size, repeats, threads
        self._device = checked_device("target.device", "cpu" if target is None else target.device)
        self._chosen = _suitable(task) if not metrics else _checked(task, selected(metrics))
        self._owner = names(self._chosen)
        self.metrics = frozenset(self._owner)
        self._batches: dict[int, Batches] = {}

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Build each candidate once a repeat, and compute what is asked of it.

        Raises:
            UnknownMetric: a metric is not one of these.
            BadInput: a gradient is asked for, or the task cannot give batches of this size.
        """
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        check_measured(proposal.metrics, self.metrics)
        if proposal.gradient != "none":
            raise must("gradient", "be 'none' for training-free metrics", proposal.gradient)
        start = time.perf_counter()
        with torch_threads(self._threads), torch.backends.cudnn.flags(benchmark=False, deterministic=True):
            found = [self._scored(proposal, seed, r) for r in range(self._repeats)]
        return _outcome(proposal, found, time.perf_counter() - start)

    def _scored(self, proposal: Proposal, seed: int, repeat: int) -> Scores:
        owners = {self._owner[m] for m in proposal.metrics}
        metrics = {name: metric for name, metric in self._chosen.items() if name in owners}
        draw = proposal.replicate * self._repeats + repeat
        module: Any = seeded_module(self._space, replace(proposal, replicate=draw), seed)
        probe = Probe(
            module.to(self._device),
            self._task,
            seed=derive(seed, "training_free", draw),
            batch_size=self._batch_size,
            shares={share for metric in metrics.values() for share in metric.shares},
            batches=self._read(derive(seed, "training_free", draw, "batches")),
        )
        return scores(probe, metrics)

    def _read(self, seed: int) -> Batches:
        """The batches of a draw, the same for every candidate."""
        if seed not in self._batches:
            self._batches[seed] = Batches(self._task, seed, self._batch_size)
        return self._batches[seed]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_batches": {}}  # read again in the other process


def _outcome(proposal: Proposal, found: Sequence[Scores], seconds: float) -> Outcome:
    missing = {m: s.missing[m] for s in reversed(found) for m in proposal.metrics if m in s.missing}
    if set(missing) >= set(proposal.metrics):
        reasons = "; ".join(f"{m} is missing: {reason}" for m, reason in missing.items())
        return Failure("error", reasons[:1000], seconds)
    notes: dict[str, Any] = {f"missing.{m}": reason for m, reason in missing.items()}
    for name in found[0].seconds:
        notes[f"seconds.{name}"] = statistics.fmean(s.seconds[name] for s in found)
    values = {m: [s.values[m] for s in found] for m in proposal.metrics}
    if len(found) > 1:
        notes |= {f"std.{m}": statistics.pstdev(v) for m, v in values.items() if m not in missing}
    means = {m: math.nan if m in missing else statistics.fmean(v) for m, v in values.items()}
    return Measurement(means, seconds, notes=notes)


def _suitable(task: Task) -> dict[str, Metric]:
    """Every metric that may be defined for a task, as far as the task alone tells."""
    return {name: metric for name, metric in METRICS.items() if not _refused(task, metric)}


def _checked(task: Task, metrics: dict[str, Metric]) -> dict[str, Metric]:
    for name, metric in metrics.items():
        reason = _refused(task, metric)
        if reason:
            raise BadInput(f"{name} cannot be computed: {reason}", "metrics")
    return metrics


def _refused(task: Task, metric: Metric) -> str:
    """Why a task cannot have a metric; empty when it may."""
    if metric.needs == "labels" and task.classes is not None and task.classes < 2:
        return f"the task must have 2 classes or more, got {task.classes}"
    return ""
