"""How a model is trained: settings, and what follows from them alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, final

import torch

from nas.errors import must, unknown
from nas.estimators.augmentation import AUGMENTATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn
    from torch.optim import Optimizer

    from nas.decision import Value

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda t: 0.5 * (1.0 + math.cos(math.pi * t)),
    "linear": lambda t: 1.0 - t,
}
"""Share of the full learning rate at a position in [0, 1) after the warm-up."""

OPTIMIZERS = ("adamw", "sgd")

_NUMBERS: Mapping[str, tuple[float, float, str]] = {
    "lr": (math.ulp(0.0), math.inf, "be above 0"),
    "weight_decay": (0.0, math.inf, "be at least 0"),
    "momentum": (0.0, math.nextafter(1.0, 0.0), "lie in [0, 1)"),
    "warmup": (0.0, math.nextafter(1.0, 0.0), "lie in [0, 1)"),
    "label_smoothing": (0.0, math.nextafter(1.0, 0.0), "lie in [0, 1)"),
    "ema": (0.0, math.nextafter(1.0, 0.0), "lie in [0, 1)"),
    "mixup": (0.0, math.inf, "be at least 0"),
    "clip": (math.ulp(0.0), math.inf, "be above 0"),
}


@final
@dataclass(frozen=True)
class Recipe:
    """Training settings.

    Args:
        epochs: passes over the training data of a full schedule, at least 1.
        optimizer: ``sgd`` (with Nesterov momentum) or ``adamw``.
        lr: learning rate after the warm-up, above 0.
        weight_decay: of parameters with more than one axis; norms and biases have none.
        momentum: of SGD, in [0, 1).
        schedule: ``cosine``, ``linear`` or ``constant``.
        warmup: share of the steps over which the rate rises linearly, in [0, 1).
        label_smoothing: weight of the uniform distribution in the targets, in [0, 1).
        ema: decay a step of the averaged weights that are scored, in [0, 1); 0 scores the trained ones.
            Early on it is at most (1 + t) / (10 + t) at step t, so that the first weights are forgotten.
        augmentation: a name among `AUGMENTATIONS`.
        mixup: both parameters of the Beta distribution that mixes pairs of images; 0 mixes none.
        batch_size: samples a step; None for the task's.
        clip: largest norm of the gradient; None for any.

    Raises:
        BadInput: a setting is out of range.

    Source: SGDR's cosine without restarts (Loshchilov & Hutter 2017, eq. 5); label smoothing (Szegedy et al.
        2016, sec. 7); mixup (Zhang et al. 2018, eq. 1); decoupled decay (Loshchilov & Hutter 2019, Alg. 2).
    """

    epochs: int = 10
    optimizer: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.05
    label_smoothing: float = 0.0
    ema: float = 0.0
    augmentation: str = "none"
    mixup: float = 0.0
    batch_size: int | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not whole and not (name == "batch_size" and value is None):
                raise must(name, "be a whole number of at least 1", value)
        for name, (low, high, condition) in _NUMBERS.items():
            value = getattr(self, name)
            if name == "clip" and value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not low <= value <= high:
                raise must(name, condition, value)
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)

    def overridden(self, settings: Mapping[str, Value]) -> Recipe:
        """The same recipe with some settings replaced.

        Raises:
            UnknownName: a setting is none of a recipe's.
            BadInput: a value is out of range.
        """
        known = [f.name for f in fields(self)]
        for name in settings:
            if name not in known:
                raise unknown("training setting", name, known)
        return replace(self, **dict(settings))  # type: ignore[arg-type]

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0, of a full schedule of ``steps``."""
        rising = self.rising(steps)
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * SCHEDULES[self.schedule]((step - rising) / max(1, steps - rising))

    def rising(self, steps: int) -> int:
        """Number of warm-up steps in a full schedule of ``steps``."""
        return round(self.warmup * steps)

    def optimiser(self, model: nn.Module) -> Optimizer:
        """The optimiser of a model's trainable parameters."""
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if not groups:
            raise must("the model", "have trainable parameters", "none")
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.lr, foreach=True)
        return torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0, foreach=True
        )


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer": OPTIMIZERS,
    "schedule": tuple(SCHEDULES),
    "augmentation": tuple(AUGMENTATIONS),
}
