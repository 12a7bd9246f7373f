"""Training from scratch: the honest and dear way to know a candidate's accuracy."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from nas.architecture import Architecture, Fixed, digest
from nas.errors import Diverged, StorageError, must
from nas.estimators.fit import Fit, check_recipe
from nas.estimators.machine import checked_device, checked_threads, on_device, settled
from nas.estimators.recipe import Recipe
from nas.estimators.weights import keep_weights, loaded, read_weights, weights_file, write_weights
from nas.evaluator import Trainer, check_measured, seeded_module
from nas.proposal import Measurement, Outcome, Proposal
from nas.rng import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from nas.proposal import Trial
    from nas.space import Space
    from nas.task import Split, Task

_log = logging.getLogger(__name__)


@final
class TrainingEvaluator(Trainer):
    """Trains each candidate from scratch and scores it on the validation split.

    Metrics are the task's (``accuracy``, ...) and ``loss`` on the validation split, and ``train_loss``, the
    mean loss that was optimised over the last pass. Fidelity truncates the full schedule of steps; the
    learning rate is always that of the full one. On CUDA, training runs in bfloat16 autocast and
    channels-last; scoring is in float32 everywhere. A fixed candidate is scored as it is.

    Args:
        space, task: what is built, and the data.
        epochs, optimizer, lr, weight_decay, momentum, schedule, warmup, label_smoothing, ema, augmentation,
            mixup, batch_size, clip: see `Recipe`; ``space.recipe(architecture)`` overrides them.
        device: torch device, ``cpu`` or ``cuda:N``.
        threads: CPU threads, at least 1.
        folder: keeps the scored weights in ``weights/``, and below full fidelity the whole state in
            ``checkpoints/``, from which a proposal that ``continues`` goes on bit for bit, and which goes
            when that was stored; None keeps nothing and trains it from the start, to the same result.

    Raises:
        BadInput: a setting is out of range or does not suit the task.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        epochs: int = 10,
        optimizer: str = "sgd",
        lr: float = 0.1,
        weight_decay: float = 5e-4,
        momentum: float = 0.9,
        schedule: str = "cosine",
        warmup: float = 0.05,
        label_smoothing: float = 0.0,
        ema: float = 0.0,
        augmentation: str = "none",
        mixup: float = 0.0,
        batch_size: int | None = None,
        clip: float | None = None,
        device: str = "cpu",
        threads: int = 1,
        folder: Path | None = None,
    ) -> None:
        self._recipe = Recipe(
            epochs=epochs,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            schedule=schedule,
            warmup=warmup,
            label_smoothing=label_smoothing,
            ema=ema,
            augmentation=augmentation,
            mixup=mixup,
            batch_size=batch_size,
            clip=clip,
        )
        check_recipe(self._recipe, task)
        checked_threads("threads", threads)
        checked_device("device", device)
        self._space, self._task = space, task
        self._device, self._threads = device, threads
        self._folder = None if folder is None else Path(folder)
        self._checkpoints: dict[int | None, Path] = {}
        self.metrics = frozenset({*task.metrics, "loss", "train_loss"})
        self.functional = self.multi_fidelity = self.metrics

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Train and score each candidate on its own.

        Raises:
            Diverged: a loss is not finite, or far above the first ones.
            BadInput: a mixture, a gradient or an unknown metric is asked for, or the space's recipe names an
                unknown setting.
        """
        return [self._one(proposal, seed) for proposal in proposals]

    def remember(self, trial: Trial) -> None:
        """Delete the checkpoint that a stored trial went on from; a search cut before that still has it."""
        if self._folder is None or trial.failed:
            return
        continued = self._checkpoints.pop(trial.proposal.continues, None)
        if continued is not None and continued not in self._checkpoints.values():
            continued.unlink(missing_ok=True)
        if trial.proposal.fidelity < 1.0:
            self._checkpoints[trial.number] = weights_file(self._folder, "checkpoints", trial.proposal)

    def load(self, proposal: Proposal, weights: Path) -> nn.Module:
        """The candidate's module in evaluation mode, on the CPU, with the weights of that file.

        Raises:
            StorageError: the file cannot be read.
        """
        return loaded(self._space, proposal, weights)

    def score(self, proposal: Proposal, weights: Path, split: Split) -> Mapping[str, float]:
        """The task's metrics of saved weights on a split, exactly as they were when they were trained."""
        with settled(self._threads):
            return self._task.score(on_device(self.load(proposal, weights), self._device), split)

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        check_measured(proposal.metrics, self.metrics)
        if proposal.gradient != "none":
            raise must("gradient", "be 'none' where candidates are trained from scratch", proposal.gradient)
        start = time.perf_counter()
        with settled(self._threads):
            weights: Path | None = None
            notes: Mapping[str, str] = {}
            if isinstance(proposal.candidate, Fixed):
                values = self._scored_as_is(proposal, seed)
            else:
                values, weights, notes = self._trained(proposal, seed)
        for metric, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"{metric} became {value} in scoring")
        seconds = time.perf_counter() - start
        return Measurement({m: values[m] for m in proposal.metrics}, seconds, weights=weights, notes=notes)

    def _scored_as_is(self, proposal: Proposal, seed: int) -> Mapping[str, float]:
        model = on_device(seeded_module(self._space, proposal, seed), self._device)
        values = dict(self._task.score(model, "val"))
        if "train_loss" in proposal.metrics:
            values["train_loss"] = self._task.score(model, "train")["loss"]
        return values

    def _trained(self, proposal: Proposal, seed: int) -> _Trained:
        architecture = proposal.candidate
        module = seeded_module(self._space, proposal, seed)
        assert isinstance(architecture, Architecture)
        recipe = self._recipe.overridden(self._space.recipe(architecture))
        check_recipe(recipe, self._task)
        cuda = [torch.device(self._device)] if self._device != "cpu" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(derive(seed, "train", architecture.key, proposal.replicate))
            fit = Fit(
                on_device(module, self._device),
                self._task,
                recipe,
                seed=seed,
                replicate=proposal.replicate,
                samples=proposal.samples,
            )
            self._take_up(fit, proposal, seed)
            fit.run(max(1, round(proposal.fidelity * fit.steps)))
            if self._folder is not None and proposal.fidelity < 1.0:
                state = {"of": self._identity(fit, proposal, seed), **fit.state()}
                write_weights(weights_file(self._folder, "checkpoints", proposal), state)
        values = {**self._task.score(fit.scored, "val"), "train_loss": fit.train_loss}
        return values, *keep_weights(self._folder, proposal, fit.scored)

    def _take_up(self, fit: Fit, proposal: Proposal, seed: int) -> None:
        """Go on from the furthest earlier state of the same training, where the proposal continues one."""
        if proposal.continues is None or self._folder is None:
            return
        pattern = f"{proposal.candidate.key}-r{proposal.replicate}-f*.pt"
        known = {float(p.stem.rpartition("-f")[2]): p for p in (self._folder / "checkpoints").glob(pattern)}
        for fidelity in sorted((f for f in known if f < proposal.fidelity), reverse=True):
            try:
                state = read_weights(known[fidelity])
            except StorageError as error:
                _log.warning("%s; going on from an earlier one", error)
                continue
            if state["of"] == self._identity(fit, proposal, seed):
                fit.restore(state)
                _log.info("goes on from step %d/%d", fit.step, fit.steps)
                return

    def _identity(self, fit: Fit, proposal: Proposal, seed: int) -> str:
        """Digest of all that must be equal for one training to continue another."""
        settings: dict[str, Any] = {**asdict(fit.recipe), "seed": seed, "data": self._task.fingerprint()}
        return digest({**settings, "samples": proposal.samples, "steps": fit.steps, "device": self._device})


_Trained = tuple[Mapping[str, float], Path | None, Mapping[str, str]]
"""Values, the file of the weights, and notes about it."""
