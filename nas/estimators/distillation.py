"""What the paths of one training step learn from: labels, the step's first path, or a teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, final

from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.errors import must, unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Distillation(ABC):
    """The loss of one path of a step that trains several."""

    @abstractmethod
    def loss(
        self, output: Tensor, labels_loss: Tensor, first: Tensor | None, teacher: Tensor | None
    ) -> Tensor:
        """The path's own part of the step's loss; the step's loss is the sum over its paths.

        Args:
            output: the path's logits, shape (batch, ..., classes).
            labels_loss: the task's loss of each sample, shape (batch,).
            first: logits of the step's first path, detached; None for that path itself.
            teacher: logits of a network outside the supernet, detached; None without one.

        Returns:
            A scalar, the mean over samples.
        """


@final
class Labels(Distillation):
    """Every path learns the labels."""

    def loss(
        self,
        output: Tensor,  # noqa: ARG002 - learns from nobody
        labels_loss: Tensor,
        first: Tensor | None,  # noqa: ARG002
        teacher: Tensor | None,  # noqa: ARG002
    ) -> Tensor:
        """The mean loss on the labels."""
        return labels_loss.mean()


@final
class InPlace(Distillation):
    """The first path, the largest, learns the labels, and every other path learns its soft predictions.

    Args:
        temperature: that softens both predictions, above 0; the loss is scaled by its square.

    Raises:
        BadInput: the temperature is out of range.

    Source: Yu & Huang 2019 (universally slimmable networks), sec. 3.3 and algorithm 1; as a Kullback-Leibler
    divergence, which differs from their soft cross entropy by a constant.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = _above_zero(temperature)

    def loss(
        self,
        output: Tensor,
        labels_loss: Tensor,
        first: Tensor | None,
        teacher: Tensor | None,  # noqa: ARG002 - its teacher is the first path
    ) -> Tensor:
        """The labels' loss for the first path, the divergence from it for others."""
        return labels_loss.mean() if first is None else divergence(output, first, self.temperature)


@final
class InstaTune(Distillation):
    """Labels, the first path and a conventionally trained teacher of the same size at once.

    The first path S has α CE + (1 − α) γ KL(S, T), and every other one
    α CE + (1 − α) [(1 − γ) KL(S_i, S) + γ KL(S_i, T)]. Without a teacher γ counts as 0.

    Args:
        alpha: weight of the labels, in [0, 1].
        gamma: share of the teacher in what is distilled, in [0, 1].
        temperature: that softens predictions, above 0; divergences are scaled by its square.

    Raises:
        BadInput: a weight is out of its range.

    Source: Sridhar et al. 2023 (InstaTune), loss of the supernet's fine-tuning; KL(S, T) is taken as the
    divergence of the student S from the soft targets of T, through which no gradient flows.
    """

    def __init__(self, alpha: float = 0.3, gamma: float = 1.0, temperature: float = 1.0) -> None:
        self.alpha, self.gamma = _share("alpha", alpha), _share("gamma", gamma)
        self.temperature = _above_zero(temperature)

    def loss(
        self, output: Tensor, labels_loss: Tensor, first: Tensor | None, teacher: Tensor | None
    ) -> Tensor:
        """The weighted sum of what there is to learn from."""
        loss = self.alpha * labels_loss.mean()
        gamma = 0.0 if teacher is None else self.gamma
        for weight, target in ((gamma, teacher), (1.0 - gamma, first)):
            if target is not None and weight * (1.0 - self.alpha) > 0.0:
                soft = divergence(output, target, self.temperature)
                loss = loss + (1.0 - self.alpha) * weight * soft
        return loss


def divergence(output: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of softened predictions from softened targets, a scalar in nats.

    Args:
        output: logits, shape (batch, ..., classes).
        target: logits of the same shape; no gradient flows into them.
        temperature: by which logits are divided, above 0.

    Returns:
        The mean over all axes but the last, times the squared temperature.

    Source: Hinton, Vinyals & Dean 2015, sec. 2.
    """
    student = F.log_softmax(output / temperature, -1).flatten(0, -2)
    soft = F.log_softmax(target.detach() / temperature, -1).flatten(0, -2)
    return F.kl_div(student, soft, reduction="batchmean", log_target=True) * temperature**2


DISTILLATIONS: dict[str, Callable[[float, float, float], Distillation]] = {
    "none": lambda _alpha, _gamma, _temperature: Labels(),
    "in_place": lambda _alpha, _gamma, temperature: InPlace(temperature),
    "instatune": InstaTune,
}


def distillation(name: str, alpha: float = 0.3, gamma: float = 1.0, temperature: float = 1.0) -> Distillation:
    """A distillation by its name; settings that it does not have are left aside.

    Args:
        name: ``none``, ``in_place`` or ``instatune``.
        alpha, gamma: see `InstaTune`.
        temperature: see `InPlace` and `InstaTune`.

    Raises:
        UnknownName: there is none of that name.
        BadInput: a setting is out of its range.
    """
    if name not in DISTILLATIONS:
        raise unknown("distillation", name, DISTILLATIONS)
    return DISTILLATIONS[name](alpha, gamma, temperature)


def _share(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise must(name, "lie in [0, 1]", value)
    return float(value)


def _above_zero(temperature: float) -> float:
    if not 0.0 < temperature < float("inf"):
        raise must("temperature", "be a positive number", temperature)
    return float(temperature)
