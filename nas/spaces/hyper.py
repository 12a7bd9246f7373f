"""Training settings as decisions: optimiser, schedule, regularisation and augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from torch import nn

from nas.architecture import Architecture, Fixed
from nas.decision import Categorical, Decision, OneOf, Real
from nas.errors import must, unknown
from nas.space import Adaptation
from nas.spaces.settings import widths
from nas.spaces.stochastic_depth import StochasticDepth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nas.decision import Declared, Value
    from nas.task import Task

RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "sgd": {"lr": (3e-3, 0.5), "weight_decay": (1e-5, 1e-2)},
    "adamw": {"lr": (1e-4, 2e-2), "weight_decay": (1e-3, 0.3)},
}
"""Learning rate and weight decay of each optimiser, searched on a log scale: the same number does not
suit both, as AdamW's steps are normalised and its decay is decoupled from them."""

OTHERS: Mapping[str, Decision] = {
    "schedule": Categorical("schedule", ("cosine", "linear", "constant")),
    "label_smoothing": Real("label_smoothing", 0.0, 0.2),
    "dropout": Real("dropout", 0.0, 0.5),
    "stochastic_depth": Real("stochastic_depth", 0.0, 0.3),
    "ema": Categorical("ema", (0.0, 0.99, 0.999)),
    "augmentation": Categorical("augmentation", ("none", "crop_flip")),
    "mixup": Categorical("mixup", (0.0, 0.1, 0.2, 0.4)),
}
"""The decisions that depend on neither the optimiser nor a setting."""

NAMES = ("optimizer", "lr", "weight_decay", "batch_size", *OTHERS)
"""What `HyperSpace` can search."""

_IN_MODULE = ("dropout", "stochastic_depth")


@final
class HyperSpace(Adaptation):
    """How a network is trained; joined with a space of networks, or over a model of its own.

    Learning rate and weight decay have their own range under each optimiser (``optimizer.sgd.lr``); a
    `recipe` gives them by their plain names. Dropout and stochastic depth are set in the module.

    Args:
        task: augmentation and mixup are left out where its inputs are no images, label smoothing where
            it has no classes.
        only: names of the decisions to search, among `NAMES`; None for all.
        optimizers: options of ``optimizer``. When ``only`` leaves that decision out but has ``lr`` or
            ``weight_decay``, a single one, which the recipe then names.
        batch_sizes: options of ``batch_size``, ascending.
        model: factory of the module to train, or ``"package.module:name"``, when not joined.

    Raises:
        BadInput: a name is unknown or does not suit the task, or ``lr`` and the optimiser do not go together.
    """

    def __init__(
        self,
        task: Task | None = None,
        *,
        only: Sequence[str] | None = None,
        optimizers: Sequence[str] = tuple(RANGES),
        batch_sizes: Sequence[int] = (32, 64, 128, 256),
        model: str | Callable[[], nn.Module] | None = None,
    ) -> None:
        self.model = None if model is None else Fixed(model).build
        self.optimizers = _distinct("optimizers", optimizers, tuple(RANGES))
        self.names = _names(only, task)
        self.decisions = (*self._optimization(), *self._others(batch_sizes))

    def _optimization(self) -> Declared:
        """Optimiser, learning rate and weight decay, as far as they are searched."""
        ranged = [name for name in ("lr", "weight_decay") if name in self.names]
        groups = {
            label: tuple(Real(name, *RANGES[label][name], log=True) for name in ranged)
            for label in self.optimizers
        }
        one = len(self.optimizers) == 1
        if "optimizer" in self.names:
            if not one and "lr" not in ranged:
                raise must(
                    "only", "have lr beside optimizer", list(self.names), "one rate does not suit both"
                )
            return (OneOf("optimizer", groups),)
        if ranged and not one:
            remedy = "set optimizers: [sgd], or add optimizer to only:"
            raise must("optimizers", f"be one to search {ranged[0]} of", list(self.optimizers), remedy)
        return groups[self.optimizers[0]]

    def _others(self, batch_sizes: Sequence[int]) -> Declared:
        sizes = Categorical("batch_size", widths("batch_sizes", batch_sizes))
        available = {"batch_size": sizes, **OTHERS}
        return tuple(available[name] for name in self.names if name in available)

    def recipe(self, architecture: Architecture) -> Mapping[str, Value]:
        """The chosen training settings by their plain names, without those that `adapt` sets."""
        chosen = {name: value for name, value in architecture.items() if name in self.names}
        optimizer = chosen.get("optimizer", self.optimizers[0])
        if "optimizer" in chosen:
            chosen.update(architecture.part(f"optimizer.{optimizer}"))
        elif "lr" in chosen or "weight_decay" in chosen:
            chosen["optimizer"] = optimizer
        return {name: chosen[name] for name in NAMES if name in chosen and name not in _IN_MODULE}

    def adapt(self, module: nn.Module, architecture: Architecture) -> nn.Module:
        """The module with its dropouts set, and its stochastic depth rising linearly to the chosen rate.

        Raises:
            BadInput: the space searches one of them and the module has none.

        Source: linear decay of survival, Huang et al. 2016, eq. 4.
        """
        if "dropout" in architecture:
            for layer in self._all(module, nn.Dropout, "dropout"):
                layer.p = architecture["dropout"]
        if "stochastic_depth" in architecture:
            branches = self._all(module, StochasticDepth, "stochastic_depth")
            for i, branch in enumerate(branches, start=1):
                branch.p = architecture["stochastic_depth"] * i / len(branches)
        return module

    def _all(self, module: nn.Module, kind: type[nn.Module], name: str) -> list[nn.Module]:
        """The module's parts of a kind, in order of depth."""
        found = [part for part in module.modules() if isinstance(part, kind)]
        if not found:
            remedy = f"leave it out with only: [{', '.join(n for n in self.names if n != name)}]"
            condition = f"have a {kind.__name__} for {name} to be searched"
            raise must("the module", condition, type(module).__name__, remedy)
        return found


def _names(only: Sequence[str] | None, task: Task | None) -> tuple[str, ...]:
    """The names to search, in the order of `NAMES`."""
    unsuited = set()
    if task is not None and not task.augmentable:
        unsuited |= {"augmentation", "mixup"}
    if task is not None and task.classes is None:
        unsuited |= {"label_smoothing", "mixup"}
    if only is None:
        return tuple(name for name in NAMES if name not in unsuited)
    wanted = _distinct("only", only, NAMES)
    for name in wanted:
        if name in unsuited:
            raise must("only", f"suit the task {type(task).__name__}", name, "leave it out")
    return tuple(name for name in NAMES if name in wanted)


def _distinct(setting: str, given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The given names, when they are known, distinct and at least one."""
    if isinstance(given, str) or not given or len(set(given)) != len(given):
        raise must(setting, f"list distinct names among {', '.join(known)}", given)
    for name in given:
        if name not in known:
            raise unknown("name", name, known).at(setting)
    return tuple(given)
