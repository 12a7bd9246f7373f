"""Training shared weights, one step a group of paths."""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch.nn import functional as F  # noqa: N812 - the field's name
from torch.optim.swa_utils import AveragedModel

from nas.architecture import Architecture, Fixed, Mixture
from nas.errors import must
from nas.estimators.augmentation import AUGMENTATIONS
from nas.estimators.distillation import distillation as distillation_of
from nas.estimators.feed import Feed
from nas.estimators.fit import averaging, smoothed
from nas.estimators.gradients import GradientSum, choices, gradients, norm, option_norms
from nas.estimators.machine import checked_device, torch_threads
from nas.estimators.recipe import Recipe
from nas.estimators.weights import read_weights, write_weights
from nas.evaluator import StepEvaluator, check_measured
from nas.proposal import Failure, Measurement, Outcome, Proposal
from nas.rng import derive
from nas.task import placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from nas.decision import Value
    from nas.supernet import Supernet
    from nas.task import Batch, Task

_log = logging.getLogger(__name__)

TRAINING = frozenset({"train_loss", "gradient_norm"})
"""Metrics whose proposals take part in a step."""
LOOKING = frozenset({"val_loss", "val_gradient_norm"})
"""Metrics that leave the weights alone."""
FINE = 1_000_000
"""Parts into which the schedule of the learning rate is divided."""


@final
class PathsEvaluator(StepEvaluator):
    """Takes an optimiser step on the shared weights under the paths of a group, all on one batch.

    The gradients of a group's paths are summed. Where in the schedule a step is, its proposals say by their
    fidelity, the share of all steps that will have been taken with it. A step whose loss or gradient is not
    finite is skipped and fails.

    Metrics: ``train_loss``, the optimised loss of a path, and ``gradient_norm``, the L2 norm of its own
    gradient before clipping; ``val_loss`` and ``val_gradient_norm``, the same on the next batch of validation
    data, in training mode and without a step. A proposal asks either for those of training or for the others.

    Vectors: with ``gradient_norm``, ``gradient_norm.<decision>`` of shape (1,) for each decision that a
    `Choice` obeys: the norms of the gradients of every weight of the chosen option, summed over the places
    where it is chosen. With ``samples``, ``sample_norm`` of shape (samples,): the L2 norm of softmax(logits)
    minus the one-hot target. With ``gradient``, that of the loss by a mixture's weights.

    Args:
        task: gives batches and losses.
        supernet: trained in place.
        optimizer, lr, weight_decay, momentum, schedule, warmup, label_smoothing, ema, augmentation, clip: see
            `Recipe`; ``ema`` averages all shared weights, and the average is what remains in the end.
        distillation: ``none``: all paths learn the labels; ``in_place``: the first path of a group does, the
            others learn its outputs; ``instatune``: both, and from a teacher; see
            `nas.estimators.distillation`.
        alpha, gamma, temperature: of the distillation.
        teacher: ``first``: the first path of the first step, as it was before that; a factory of a trained
            module, or ``"package.module:name"`` of one; None for none.
        device: torch device, ``cpu`` or ``cuda:N``; on CUDA, in bfloat16 autocast and channels-last.
        threads: CPU threads, at least 1.

    Raises:
        BadInput: a setting is out of range, or batches of one meet batch norms.

    Source: Guo et al. 2020 (single path one-shot), sec. 3.2; Chu et al. 2021 (FairNAS), Alg. 1: one update
    for the gradients of several paths; Yu et al. 2020 (BigNAS), sec. 3.2. Deviation: augmented batches are
    the same for all paths of a group.
    """

    def __init__(
        self,
        task: Task,
        supernet: Supernet,
        optimizer: str = "sgd",
        lr: float = 0.05,
        weight_decay: float = 2.5e-4,
        momentum: float = 0.9,
        schedule: str = "cosine",
        warmup: float = 0.0,
        label_smoothing: float = 0.0,
        ema: float = 0.0,
        augmentation: str = "none",
        clip: float | None = 5.0,
        distillation: str = "none",
        alpha: float = 0.3,
        gamma: float = 1.0,
        temperature: float = 1.0,
        teacher: Any = None,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._recipe = Recipe(
            epochs=1,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            schedule=schedule,
            warmup=warmup,
            label_smoothing=label_smoothing,
            ema=ema,
            augmentation=augmentation,
            clip=clip,
        )
        if augmentation != "none" and not task.augmentable:
            raise must("augmentation", "be 'none' for a task without images", augmentation)
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise must("threads", "be a whole number of at least 1", threads)
        self._distillation = distillation_of(distillation, alpha=alpha, gamma=gamma, temperature=temperature)
        self._task, self._threads = task, threads
        self._device = checked_device("device", device)
        self._supernet, self._module = supernet, self._placed(supernet)
        self._check_batch_norms()
        self._optimizer = self._recipe.optimiser(self._module)
        self._average = AveragedModel(self._module, multi_avg_fn=averaging(ema)) if ema else None
        self._wanted_teacher = teacher
        self._teacher: nn.Module | None = None
        self._taught_by: Mapping[str, Value] = {}
        self._choices = choices(self._module)
        self._feeds = {split: Feed(task, split) for split in ("train", "val")}
        self._steps = 0
        self.metrics = TRAINING | LOOKING

    @property
    def supernet(self) -> Supernet:
        """The weights in training."""
        return self._supernet

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """One step for all proposals, or a look at each.

        Raises:
            BadInput: training and looking are mixed, paths of one step have other samples, or a candidate is
                not of the supernet's space.
        """
        for proposal in proposals:
            check_measured(proposal.metrics, self.metrics)
            if proposal.gradient == "unrolled":
                raise must("gradient", "be 'none' or 'first'", proposal.gradient)
        training = [not TRAINING.isdisjoint(p.metrics) for p in proposals]
        looking = [not LOOKING.isdisjoint(p.metrics) for p in proposals]
        if any(training) and any(looking):
            raise must("the metrics of a group", "be all of training or all of looking", proposals[0].metrics)
        if not proposals:
            return []
        with self._settled(seed), self._under_way():
            return self._step(proposals, seed) if any(training) else [self._look(p, seed) for p in proposals]

    def keep(self, path: Path) -> None:
        """Write weights, optimiser, average, teacher, and the place in the data."""
        taught = self._wanted_teacher == "first" and self._teacher is not None
        state = {
            "of": self._supernet.signature,
            "supernet": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "teacher": [self._taught_by, self._teacher.state_dict()] if taught else None,  # type: ignore[union-attr]
            "feeds": {split: [feed.epoch, feed.position] for split, feed in self._feeds.items()},
            "steps": self._steps,
        }
        write_weights(path, state)

    def take_up(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            StorageError: the file cannot be read.
            BadInput: it is of another supernet.
        """
        state = read_weights(path)
        if state["of"] != self._supernet.signature:
            remedy = "it is of another space or other settings; start a new run"
            raise must(
                f"checkpoint {path}", f"be of supernet {self._supernet.signature}", state["of"], remedy
            )
        self._module.load_state_dict(state["supernet"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._feeds = {split: Feed(self._task, split, tuple(p)) for split, p in state["feeds"].items()}
        self._steps, self.whole = state["steps"], True
        if state["teacher"] is not None:
            choices, weights = state["teacher"]
            self._taught_by, self._teacher = choices, self._path(choices)
            self._teacher.load_state_dict(weights)

    def settle(self) -> None:
        """Put averaged weights into the supernet."""
        if self._average is not None and self._steps:
            self._module.load_state_dict(self._average.module.state_dict())

    # --- one step --------------------------------------------------------------------------------------

    def _step(self, proposals: Sequence[Proposal], seed: int) -> list[Outcome]:
        start = time.perf_counter()
        batch = self._training_batch(proposals, seed)
        if not self._module.training:
            self._module.train()
        self._optimizer.zero_grad(set_to_none=True)
        teacher = self._taught(proposals[0], batch)
        steps: list[_Path] = []
        first: Tensor | None = None
        separate = len(proposals) > 1 and any("gradient_norm" in p.metrics for p in proposals)
        summed = GradientSum(self._module) if separate else None
        for proposal in proposals:
            path = self._run(proposal, batch, first, teacher)
            if not math.isfinite(path.loss):
                return self._skipped(proposals, f"the loss became {path.loss}", start)
            if first is None:
                first = path.output
            steps.append(path)
            if summed is not None:
                summed.add()
        if summed is not None:
            summed.put_back()
        norm = self._clipped()
        if not math.isfinite(norm):
            return self._skipped(proposals, f"the gradient's norm became {norm}", start)
        self._update(proposals[-1].fidelity)
        seconds = (time.perf_counter() - start) / len(proposals)
        return [path.measured(seconds) for path in steps]

    def _run(self, proposal: Proposal, batch: Batch, first: Tensor | None, teacher: Tensor | None) -> _Path:
        """Forward and backward under one path."""
        candidate, relaxed = self._under(proposal)
        with self._autocast():
            output = self._output(candidate, batch)
            labels = smoothed(self._task.loss(output, batch).mean(), output, self._recipe.label_smoothing)
            loss = self._distillation.loss(output, labels, first, teacher)
        path = _Path(proposal, float(loss.detach()), output.detach())
        if not math.isfinite(path.loss):
            return path
        if loss.requires_grad:  # a path without weights has nothing to learn
            loss.backward()  # type: ignore[no-untyped-call]
        path.gradient = gradients(relaxed)
        if "gradient_norm" in proposal.metrics:
            path.norm = norm(self._module)
            path.norms = option_norms(self._choices, proposal.candidate)
        if proposal.samples is not None:
            path.sample_norms = self._sample_norms(output.detach(), batch)
        return path

    def _look(self, proposal: Proposal, seed: int) -> Outcome:
        """A path or mixture on validation data; the weights stay."""
        start = time.perf_counter()
        batch = placed(self._feeds["val"].next(seed), self._module)
        if not self._module.training:
            self._module.train()
        self._optimizer.zero_grad(set_to_none=True)
        candidate, relaxed = self._under(proposal)
        weighing = "val_gradient_norm" in proposal.metrics
        with self._autocast(), torch.set_grad_enabled(weighing or relaxed is not None):
            loss = self._task.loss(self._output(candidate, batch), batch).mean()
        values = {"val_loss": float(loss.detach())}
        if weighing and loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            values["val_gradient_norm"] = norm(self._module)
        elif relaxed is not None:
            for weights, g in zip(
                relaxed.values(), torch.autograd.grad(loss, [*relaxed.values()]), strict=True
            ):
                weights.grad = g
        self._optimizer.zero_grad(set_to_none=True)
        asked = {m: values.get(m, 0.0) for m in proposal.metrics}
        for metric, value in asked.items():
            if not math.isfinite(value):
                said = f"{metric} became {value} after {self._steps} steps"
                return Failure("diverged", said, time.perf_counter() - start)
        return Measurement(asked, time.perf_counter() - start, gradient=gradients(relaxed))

    def _training_batch(self, proposals: Sequence[Proposal], seed: int) -> Batch:
        samples = proposals[0].samples
        if any(p.samples != samples for p in proposals):
            raise must("the samples of a step", "be the same for all its paths", "different ones")
        if samples is None:
            batch = self._feeds["train"].next(seed)
        elif self._task.classes is None:
            raise must("samples", "be None for a task without classes", f"{len(samples)} positions")
        else:
            batch = self._task.picked(samples)
        if self._recipe.augmentation != "none":
            changed = AUGMENTATIONS[self._recipe.augmentation](self._task.inputs(batch))
            batch = (changed, self._task.targets(batch))
        return placed(batch, self._module)

    def _output(self, candidate: Any, batch: Batch) -> Any:
        """The supernet's output for a batch under a candidate."""
        model: Any = lambda x: self._supernet.forward(x, candidate)  # noqa: E731 - what a task calls a model
        return self._task.forward(model, batch)

    def _under(self, proposal: Proposal) -> tuple[Any, dict[str, Tensor] | None]:
        """What the supernet runs under; a mixture whose gradient is wanted as tensors."""
        candidate = proposal.candidate
        if proposal.gradient == "none":
            return candidate, None
        if not isinstance(candidate, Mixture):
            raise must("gradient", "be 'none' for an architecture", proposal.gradient, "propose a mixture")
        like = next(self._module.parameters())
        relaxed = {
            name: torch.tensor(w, dtype=like.dtype, device=like.device, requires_grad=True)
            for name, w in candidate.weights.items()
        }
        return relaxed, relaxed

    def _taught(self, first: Proposal, batch: Batch) -> Tensor | None:
        """The teacher's output, where there is one."""
        if self._wanted_teacher is None:
            return None
        if self._teacher is None:
            self._teacher = self._found_teacher(first)
        with torch.no_grad(), self._autocast():
            output: Tensor = self._task.forward(self._teacher, batch)
        return output

    def _found_teacher(self, first: Proposal) -> nn.Module:
        assert self._wanted_teacher is not None
        if self._wanted_teacher != "first":
            return Fixed(self._wanted_teacher).build().to(self._device).eval()
        assert isinstance(first.candidate, Architecture)
        self._taught_by = first.candidate.to_json()
        return self._path(self._taught_by)

    def _path(self, choices: Mapping[str, Value]) -> nn.Module:
        """A path as it is now, not to be trained."""
        path = self._supernet.path(Architecture(choices)).to(self._device).eval()
        return path.requires_grad_(requires_grad=False)

    def _clipped(self) -> float:
        """The norm of the whole gradient, which is no longer than allowed afterwards."""
        clip = self._recipe.clip
        limit = math.inf if clip is None else clip
        return float(torch.nn.utils.clip_grad_norm_(self._module.parameters(), limit, foreach=True))

    def _update(self, fidelity: float) -> None:
        rate = self._recipe.rate(max(0, round(fidelity * FINE) - 1), FINE)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self._module)
        self._steps += 1

    def _skipped(self, proposals: Sequence[Proposal], reason: str, start: float) -> list[Outcome]:
        self._optimizer.zero_grad(set_to_none=True)
        self._mend_statistics()
        said = f"{reason} after {self._steps} steps; the step was skipped"
        _log.warning("%s", said)
        seconds = (time.perf_counter() - start) / len(proposals)
        return [Failure("diverged", said, seconds) for _ in proposals]

    def _mend_statistics(self) -> None:
        """Begin anew the running statistics that a batch made useless, so that later paths are not."""
        for part in self._module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
                finite = torch.isfinite(part.running_var).all() and torch.isfinite(part.running_mean).all()  # type: ignore[arg-type]
                if not finite:
                    part.reset_running_stats()

    # --- what is told beside the loss --------------------------------------------------------------------

    def _sample_norms(self, output: Tensor, batch: Batch) -> NDArray[np.float64]:
        y = self._task.targets(batch)
        distance = F.softmax(output.float(), -1) - F.one_hot(y, output.shape[-1])
        norms: NDArray[np.float64] = distance.norm(dim=-1).double().cpu().numpy()
        return norms

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """A step; a signal that ends the process leaves it cut, while an error changes no weight."""
        self.whole = False
        try:
            yield
        except Exception:
            self.whole = True
            raise
        self.whole = True

    # --- the machine ------------------------------------------------------------------------------------

    def _placed(self, supernet: Any) -> nn.Module:
        if self._device.type == "cpu":
            return supernet  # type: ignore[no-any-return]
        moved: Any = supernet.to(self._device)
        return moved.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]

    def _check_batch_norms(self) -> None:
        norms = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in self._module.modules())
        if norms and self._task.batch_size < 2:
            raise must("batch_size", "be at least 2 where there are batch norms", self._task.batch_size)

    def _autocast(self) -> Any:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")

    def _settled(self, seed: int) -> Any:
        return _settled(self._threads, self._device, derive(seed, "step", self._steps))


@dataclass
class _Path:
    """What one path of a step brought."""

    proposal: Proposal
    loss: float
    output: Tensor
    norm: float = 0.0
    norms: Mapping[str, NDArray[np.float64]] | None = None
    sample_norms: NDArray[np.float64] | None = None
    gradient: Mapping[str, NDArray[Any]] | None = None

    def measured(self, seconds: float) -> Measurement:
        values = {"train_loss": self.loss, "gradient_norm": self.norm}
        vectors = dict(self.norms or {})
        if self.sample_norms is not None:
            vectors["sample_norm"] = self.sample_norms
        asked = {m: values[m] for m in self.proposal.metrics}
        return Measurement(asked, seconds, gradient=self.gradient, vectors=vectors)


@contextmanager
def _settled(threads: int, device: torch.device, seed: int) -> Iterator[None]:
    """The set number of threads, and torch's generators seeded for this step alone."""
    devices = [device] if device.type == "cuda" else []
    with torch_threads(threads), torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield
