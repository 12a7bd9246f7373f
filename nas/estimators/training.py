"""Training from scratch: the honest and dear way to know a candidate's accuracy."""

from __future__ import annotations

import io
import logging
import math
import os
import time
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, cast, final

import torch

from nas.architecture import Architecture, Fixed, digest
from nas.errors import Diverged, StorageError, must, unknown_metric
from nas.estimators.fit import Fit, check_recipe
from nas.estimators.machine import checked_device, torch_threads
from nas.estimators.recipe import Recipe
from nas.evaluator import Trainer, seeded_module
from nas.files import checksum
from nas.proposal import CHECKSUM, Measurement, Outcome, Proposal
from nas.rng import derive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise must("threads", "be a whole number of at least 1", threads)
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
            self._checkpoints[trial.number] = self._file("checkpoints", trial.proposal)

    def load(self, proposal: Proposal, weights: Path) -> nn.Module:
        """The candidate's module in evaluation mode, on the CPU, with the weights of that file.

        Raises:
            StorageError: the file cannot be read.
        """
        with torch.random.fork_rng(devices=[]):
            module = self._space.module(proposal.candidate)
        module.load_state_dict(_read(weights))
        return module.eval()

    def score(self, proposal: Proposal, weights: Path, split: Split) -> Mapping[str, float]:
        """The task's metrics of saved weights on a split, exactly as they were when they were trained."""
        with self._settled():
            return self._task.score(self._on_device(self.load(proposal, weights)), split)

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        for metric in proposal.metrics:
            if metric not in self.metrics:
                raise unknown_metric(metric, self.metrics)
        if proposal.gradient != "none":
            raise must("gradient", "be 'none' where candidates are trained from scratch", proposal.gradient)
        start = time.perf_counter()
        with self._settled():
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
        model = self._on_device(seeded_module(self._space, proposal, seed))
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
                self._on_device(module),
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
                _write(self._file("checkpoints", proposal), state)
        values = {**self._task.score(fit.scored, "val"), "train_loss": fit.train_loss}
        if self._folder is None:
            return values, None, {}
        weights = self._file("weights", proposal)
        written = _write(weights, {name: value.cpu() for name, value in fit.scored.state_dict().items()})
        return values, weights, {CHECKSUM: written}

    def _take_up(self, fit: Fit, proposal: Proposal, seed: int) -> None:
        """Go on from the furthest earlier state of the same training, where the proposal continues one."""
        if proposal.continues is None or self._folder is None:
            return
        pattern = f"{proposal.candidate.key}-r{proposal.replicate}-f*.pt"
        known = {float(p.stem.rpartition("-f")[2]): p for p in (self._folder / "checkpoints").glob(pattern)}
        for fidelity in sorted((f for f in known if f < proposal.fidelity), reverse=True):
            try:
                state = _read(known[fidelity])
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

    def _file(self, kind: str, proposal: Proposal) -> Path:
        assert self._folder is not None
        name = f"{proposal.candidate.key}-r{proposal.replicate}-f{proposal.fidelity:g}.pt"
        return self._folder / kind / name

    def _on_device(self, module: nn.Module) -> nn.Module:
        if self._device == "cpu":
            return module
        moved: Any = module.to(self._device)
        return cast("nn.Module", moved.to(memory_format=torch.channels_last))

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """The set number of threads, and cuDNN's repeatable algorithms."""
        with torch_threads(self._threads), torch.backends.cudnn.flags(benchmark=False, deterministic=True):
            yield


_Trained = tuple[Mapping[str, float], Path | None, Mapping[str, str]]
"""Values, the file of the weights, and notes about it."""


def _write(path: Path, content: Mapping[str, Any]) -> str:
    """A file that is either whole or not there; gives its checksum, equal for equal contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    partial.write_bytes(buffer.getbuffer())
    partial.replace(path)
    return checksum(buffer.getbuffer())


def _read(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:  # torch leaves the checksums in it alone
            damaged = archive.testzip()
        if damaged is not None:
            raise StorageError(f"weights file {path} cannot be read: {damaged} in it is damaged")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, zipfile.BadZipFile, zlib.error) as error:
        raise StorageError(f"weights file {path} cannot be read: {error}") from error
