"""Accuracy with the weights that a trained supernet lends to an architecture."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, final

from nas.architecture import Architecture, Fixed
from nas.errors import Diverged, must
from nas.estimators.calibration import calibrate
from nas.estimators.fit import check_recipe
from nas.estimators.machine import checked_device, checked_threads, on_device, settled
from nas.estimators.recipe import Recipe
from nas.estimators.tuning import fine_tuned
from nas.estimators.weights import keep_weights, loaded
from nas.evaluator import Trainer, check_measured, seeded_module
from nas.proposal import Measurement, Outcome, Proposal
from nas.supernet import Supernet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from nas.space import Space
    from nas.task import Split, Task

CALIBRATION = 2048
"""Training samples for the statistics of batch norms, unless there are fewer or others are set."""


@final
class InheritedEvaluator(Trainer):
    """Scores each candidate on the validation split, with weights copied from a supernet.

    The copy's batch norms get statistics of their own, since those of the supernet mix all paths'. Metrics
    are the task's (``accuracy``, ...) and ``loss``. None is `functional`: cells that compute the same
    function use other weights of the supernet, and so have other accuracies; only exact repeats are shared.
    Without fine-tuning fidelity is ignored; with it, it truncates the schedule, and a proposal that
    ``continues`` starts again from the supernet, to the same result. A fixed candidate is scored as it is.

    Args:
        space, task: what is built, and the data.
        supernet: whose weights are inherited, as they are when a candidate is evaluated.
        calibration: training samples for the statistics of batch norms, the same for all candidates; 0 keeps
            those of the supernet; None for 2,048, or all where there are fewer.
        fine_tune: passes over the training data that each copy is trained on for; 0 for none.
        optimizer, lr, weight_decay, momentum, schedule, batch_size: of the fine-tuning, see `Recipe`; there
            is no warm-up.
        device: torch device, ``cpu`` or ``cuda:N``.
        threads: CPU threads, at least 1.
        folder: keeps the scored weights in ``weights/``; None keeps none.

    Raises:
        BadInput: a setting is out of range or does not suit the task, or there is no supernet.

    Source: Guo et al. 2020 (single path one-shot), sec. 3.4.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        supernet: Supernet | None,
        calibration: int | None = None,
        fine_tune: int = 0,
        optimizer: str = "sgd",
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        momentum: float = 0.9,
        schedule: str = "cosine",
        batch_size: int | None = None,
        device: str = "cpu",
        threads: int = 1,
        folder: Path | None = None,
    ) -> None:
        if not isinstance(supernet, Supernet):
            raise must("supernet", "be that of a space with one", supernet, "train it with {name: paths}")
        if isinstance(fine_tune, bool) or not isinstance(fine_tune, int) or fine_tune < 0:
            raise must("fine_tune", "be a whole number of at least 0", fine_tune)
        self._recipe = Recipe(
            epochs=max(1, fine_tune),
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            schedule=schedule,
            warmup=0.0,
            batch_size=batch_size,
        )
        check_recipe(self._recipe, task)
        checked_threads("threads", threads)
        checked_device("device", device)
        self._space, self._task, self._supernet = space, task, supernet
        self._calibration = _checked_calibration(calibration, task)
        self._fine_tune = fine_tune
        self._device, self._threads = device, threads
        self._folder = None if folder is None else Path(folder)
        self.metrics = frozenset({*task.metrics, "loss"})
        self.multi_fidelity = self.metrics if fine_tune else frozenset()

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Copy, calibrate and score each candidate on its own.

        Raises:
            BadInput: a mixture, a gradient, chosen samples or an unknown metric is asked for.
            Diverged: a metric, or the loss of fine-tuning, is not finite.
        """
        return [self._one(proposal, seed) for proposal in proposals]

    def load(self, proposal: Proposal, weights: Path) -> nn.Module:
        """The candidate's own module in evaluation mode, on the CPU, with the weights of that file.

        Raises:
            StorageError: the file cannot be read.
        """
        return loaded(self._space, proposal, weights)

    def score(self, proposal: Proposal, weights: Path, split: Split) -> Mapping[str, float]:
        """The task's metrics of saved weights on a split, exactly as they were when they were scored."""
        with settled(self._threads):
            return self._task.score(on_device(self.load(proposal, weights), self._device), split)

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        check_measured(proposal.metrics, self.metrics)
        for name, default in (("gradient", "none"), ("samples", None)):
            if getattr(proposal, name) != default:
                raise must(name, f"be {default!r} where weights are inherited", getattr(proposal, name))
        start = time.perf_counter()
        with settled(self._threads):
            module = self._module(proposal, seed)
            values = self._task.score(module, "val")
        for metric, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"{metric} became {value} in scoring")
        folder = None if isinstance(proposal.candidate, Fixed) else self._folder
        weights, notes = keep_weights(folder, proposal, module)
        seconds = time.perf_counter() - start
        return Measurement({m: values[m] for m in proposal.metrics}, seconds, weights=weights, notes=notes)

    def _module(self, proposal: Proposal, seed: int) -> nn.Module:
        """What is scored, on its device and in evaluation mode."""
        architecture = proposal.candidate
        if isinstance(architecture, Fixed):
            return on_device(seeded_module(self._space, proposal, seed), self._device)
        if not isinstance(architecture, Architecture):
            raise must("candidate", "be an architecture, to inherit its weights", architecture)
        module = on_device(self._supernet.path(architecture), self._device)
        if self._calibration:
            calibrate(module, self._task, self._calibration, seed=seed, replicate=proposal.replicate)
        if self._fine_tune:
            return fine_tuned(module, self._task, self._recipe, proposal, seed=seed)
        return module.eval()


def _checked_calibration(calibration: int | None, task: Task) -> int:
    """The number of samples.

    Raises:
        BadInput: it is 1 or negative, or the task has fewer training samples.
    """
    count = task.count("train")
    if calibration is None:
        return min(CALIBRATION, count)
    whole = isinstance(calibration, int) and not isinstance(calibration, bool)
    if not whole or calibration < 0 or calibration == 1:
        raise must("calibration", "be 0 or a whole number of at least 2", calibration)
    if calibration > count:
        raise must("calibration", f"be at most {count:,}, the task's training samples", calibration)
    return calibration
