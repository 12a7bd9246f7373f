"""One training run: a model under a recipe, step by step, that can be put down and taken up again."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, final

import torch
from torch.nn import functional as F  # noqa: N812 - the field's name
from torch.optim.swa_utils import AveragedModel

from nas.errors import Diverged, must
from nas.estimators.augmentation import AUGMENTATIONS
from nas.rng import derive
from nas.task import placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from nas.estimators.recipe import Recipe
    from nas.task import Batch, Task

_log = logging.getLogger(__name__)

CHECK_STEPS = 20
"""Losses are looked at together every so many steps, since looking waits for a GPU."""
TOO_LARGE = 10.0
"""Multiple of the first losses beyond which training counts as diverged."""


@final
class Fit:
    """The state of one training run. Draws from torch's current RNG; the data order has its own seed.

    Args:
        model: trained in place, already on its device.
        task: gives batches and losses.
        recipe: checked against the task by the caller.
        seed, replicate: the data order of an epoch derives from (seed, replicate, epoch).
        samples: positions of the training samples to use; None for all.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        recipe: Recipe,
        *,
        seed: int,
        replicate: int,
        samples: Sequence[int] | None = None,
    ) -> None:
        self.model, self.task, self.recipe = model, task, recipe
        self._seed, self._replicate, self._samples = seed, replicate, samples
        self._size = recipe.batch_size or task.batch_size
        n = task.count("train") if samples is None else len(samples)
        self._steps_a_pass = max(1, n // self._size + (n % self._size > 1))
        self.steps = recipe.epochs * self._steps_a_pass
        self.step, self._epoch, self._position = 0, 0, 0
        self._device = next(model.parameters()).device
        self._trace = torch.zeros(self.steps, device=self._device)
        self._optimizer = recipe.optimiser(model)
        self._average = AveragedModel(model, multi_avg_fn=averaging(recipe.ema)) if recipe.ema else None
        self._rng: tuple[Tensor, Tensor | None] | None = None

    @property
    def scored(self) -> nn.Module:
        """The model to evaluate: the averaged one where the recipe averages."""
        return self.model if self._average is None else self._average.module

    @property
    def train_loss(self) -> float:
        """Mean optimised loss over the last pass's worth of steps."""
        return float(self._trace[max(0, self.step - self._steps_a_pass) : self.step].mean())

    def run(self, until: int) -> None:
        """Train on to a step of the full schedule.

        Raises:
            Diverged: a loss is not finite, or far above the first ones after the warm-up.
        """
        self.model.train()
        while self.step < until:
            for batch in self._rest_of_pass():
                self._advance(batch)
                if self.step == until:
                    break
            self._report()
            if self.step < until:
                self._epoch, self._position = self._epoch + 1, 0
        self._check(self.step - self.step % CHECK_STEPS)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `restore` goes on exactly."""
        return {
            "model": self.model.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "trace": self._trace[: self.step].clone(),
            "place": [self.step, self._epoch, self._position],
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave for the same model, task and recipe."""
        self.model.load_state_dict(state["model"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self._epoch, self._position = state["place"]
        self._trace[: self.step] = state["trace"].to(self._device)
        self._rng = (state["rng"], state["cuda_rng"])

    def _rest_of_pass(self) -> Iterator[Batch]:
        """What is left of the present pass; batches that an earlier part trained on are skipped."""
        order = derive(self._seed, "order", self._replicate, self._epoch)
        batches = self.task.batches("train", seed=order, samples=self._samples, batch_size=self._given_size)
        done, i = self._position, -1
        for i, batch in enumerate(batches):
            if i < done:
                continue
            self._take_up_rng()
            self._position = i + 1
            yield placed(batch, self.model)
        if i < 0:
            raise must("the training data", "give batches on every pass", "none")

    def _report(self) -> None:
        _log.info(
            "epoch %d/%d, step %d/%d, loss %.4f, lr %.3g",
            self._epoch + 1,
            self.recipe.epochs,
            self.step,
            self.steps,
            self.train_loss,
            self._optimizer.param_groups[0]["lr"],
        )

    @property
    def _given_size(self) -> int | None:
        return None if self._size == self.task.batch_size else self._size

    def _take_up_rng(self) -> None:
        """Restore the RNG after the skipped batches, whose transforms may have drawn from it."""
        if self._rng is not None:
            cpu, cuda = self._rng
            torch.set_rng_state(cpu)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda, self._device)
            self._rng = None

    def _advance(self, batch: Batch) -> None:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            loss = self._loss(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip, foreach=True)
        rate = self.recipe.rate(self.step, self.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        self._trace[self.step] = loss.detach()
        self.step += 1
        if self.step % CHECK_STEPS == 0:
            self._check(self.step - CHECK_STEPS)

    def _loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch as the recipe wants it: augmented, mixed, smoothed."""
        recipe, task = self.recipe, self.task
        if recipe.augmentation != "none":
            batch = (AUGMENTATIONS[recipe.augmentation](task.inputs(batch)), task.targets(batch))
        if not recipe.mixup:
            return self._smoothed(task.forward(self.model, batch), batch)
        x, y = task.inputs(batch), task.targets(batch)
        share = float(torch.distributions.Beta(recipe.mixup, recipe.mixup).sample())
        other = torch.randperm(len(y), device=y.device)
        output = task.forward(self.model, (torch.lerp(x[other], x, share), y))
        return share * self._smoothed(output, (x, y)) + (1 - share) * self._smoothed(output, (x, y[other]))

    def _smoothed(self, output: Any, batch: Batch) -> Tensor:
        return smoothed(self.task.loss(output, batch).mean(), output, self.recipe.label_smoothing)

    def _check(self, start: int) -> None:
        losses = self._trace[start : self.step].tolist()
        for step, loss in enumerate(losses, start):
            if not math.isfinite(loss):
                raise Diverged(f"loss became {loss} at step {step} of {self.steps}")
        classes = self.task.classes
        first = max(float(self._trace[: min(CHECK_STEPS, self.step)].mean()), math.log(classes or 1))
        late = len(losses) and start >= max(CHECK_STEPS, self.recipe.rising(self.steps))
        if late and first > 0 and sum(losses) / len(losses) > TOO_LARGE * first:
            raise Diverged(f"loss rose above {TOO_LARGE:g} times its first value at step {self.step - 1}")


def smoothed(loss: Tensor, output: Any, share: float) -> Tensor:
    """A mean cross entropy with this share of the uniform distribution in its targets."""
    return loss if not share else (1 - share) * loss - share * F.log_softmax(output, -1).mean()


def averaging(decay: float) -> Any:
    """The update of weights that are averaged with this decay a step, for `AveragedModel`."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        t = int(count)
        torch._foreach_lerp_(averaged, current, 1.0 - min(decay, (1 + t) / (10 + t)))

    return update


def check_recipe(recipe: Recipe, task: Task) -> None:
    """Refuse a recipe that the task's data does not allow.

    Raises:
        BadInput: images are to be changed where there are none, or labels smoothed without classes.
    """
    if not task.augmentable:
        for name, off in (("augmentation", "none"), ("mixup", 0)):
            if getattr(recipe, name) != off:
                raise must(name, f"be {off!r} for a task without images", getattr(recipe, name))
    if recipe.label_smoothing and task.classes is None:
        raise must("label_smoothing", "be 0 for a task without classes", recipe.label_smoothing)
