"""Perceptrons over flattened inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import torch
from torch import nn

from nas.decision import Categorical, Integer, Repeat, When
from nas.space import Space
from nas.spaces.settings import classes_of, input_shape_of, whole
from nas.spaces.settings import widths as checked_widths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nas.architecture import Architecture
    from nas.task import Task

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
NORMS: Mapping[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


@final
class MlpSpace(Space):
    """Hidden layers of a width each, one activation, and a normalisation before or after it.

    The output layer is preceded by a dropout at 0, for a recipe to set.

    Args:
        task: where the input shape and classes come from unless they are given.
        layers: most hidden layers, in [1, 64]; their number is the decision ``layer.count``.
        widths: the options of each layer's width, ascending.
        input_shape: shape of one input; (3, 32, 32) without a task.
        classes: number of outputs; 10 without a task. For a task without classes, the numbers in one of its
            targets: one for plain regression.

    Raises:
        BadInput: a setting is out of its range.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        layers: int = 4,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        self.input_shape = input_shape_of(task, input_shape, (3, 32, 32))
        self.classes = classes_of(task, _outputs(task) if classes is None else classes, 10)
        width = Categorical("width", checked_widths("widths", widths))
        self.decisions = (
            Repeat("layer", Integer("count", 1, whole("layers", layers, 1, 64)), (width,)),
            Categorical("activation", tuple(ACTIVATIONS)),
            Categorical("norm", ("none", *NORMS)),
            Categorical("norm_place", ("before", "after"), when=When("norm", tuple(NORMS))),
        )

    def build(self, architecture: Architecture) -> nn.Module:
        """The network; maps inputs of shape (batch, *input_shape) to outputs of shape (batch, classes)."""
        width = math.prod(self.input_shape)
        modules: list[nn.Module] = [nn.Flatten()]
        for layer in architecture.repeated("layer"):
            before, width = width, layer["width"]
            modules += [nn.Linear(before, width), *_after_linear(architecture, width)]
        return nn.Sequential(*modules, nn.Dropout(0.0), nn.Linear(width, self.classes))


def _outputs(task: Task | None) -> int | None:
    """How many numbers a target of a task without classes holds; None where that is not the question."""
    if task is None or task.classes is not None:
        return None
    with torch.random.fork_rng(devices=[]):  # a user's loader may draw from torch's generator
        batch = next(iter(task.batches("train", seed=0)), None)
    targets = None if batch is None else task.targets(batch)
    if not isinstance(targets, torch.Tensor) or not targets.is_floating_point() or targets.ndim > 2:
        return None
    return 1 if targets.ndim == 1 else targets.shape[1]


def _after_linear(architecture: Architecture, width: int) -> list[nn.Module]:
    """Activation and normalisation of a layer, in the chosen order."""
    activation = ACTIVATIONS[architecture["activation"]]()
    if architecture["norm"] == "none":
        return [activation]
    norm = NORMS[architecture["norm"]](width)
    return [norm, activation] if architecture["norm_place"] == "before" else [activation, norm]
