"""Layers of a trained network that run with their most important units only; at full size they are as before.

A unit is a channel of a convolution or a feature of a linear map. An order of importance names the units that
each width keeps, so that widths are nested; kept units stay in their own order, and no weight moves.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.sharing.elastic import Elastic, Followed, fill, specialised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

M = TypeVar("M", bound=nn.Module)
OWN = ("followed", "out", "block", "seen")
ORDERS = ("outputs", "inputs", "channels", "order")


def kept(order: Tensor, count: int, block: int = 1) -> Tensor:
    """Positions of the most important units, ascending.

    Args:
        order: all units from the most to the least important, shape (units,).
        count: units to keep.
        block: neighbouring positions that make up a unit.

    Returns:
        Shape (count * block,).
    """
    units = order[:count].sort().values
    if block == 1:
        return units
    return (units[:, None] * block + torch.arange(block, device=order.device)).flatten()


def recast(kind: type[M], module: nn.Module) -> M:
    """A module of another class with the same attributes, parameters and submodules."""
    made = kind.__new__(kind)
    vars(made).update(vars(module))
    for held in ("_parameters", "_buffers", "_modules"):
        vars(made)[held] = dict(vars(module)[held])
    return made


def plain_copy(kind: type[M], module: nn.Module, memo: dict[int, nn.Module]) -> M:
    """The module as it was before it followed anything, with copies of all its weights."""
    made = recast(kind, module)
    for name in OWN:
        vars(made).pop(name, None)
    for name in ORDERS:
        made._buffers.pop(name, None)
    made._modules = {k: None if m is None else specialised(m, memo) for k, m in module._modules.items()}
    return fill(made, (*module._parameters.items(), *_statistics(made)))


def _statistics(module: nn.Module) -> Iterator[tuple[str, Tensor | None]]:
    yield from dict(module._buffers).items()


class PrunedMap(Elastic):
    """A linear map or convolution, whose weight has the shape (outputs, inputs, ...).

    Attributes:
        out: name of the decision that chooses the number of outputs; None for all.
        outputs: order of importance of the outputs, None where all run.
        inputs: the same of the units that it reads, None where all are there.
        block: input features that make up a unit.
    """

    out: str | None
    outputs: Tensor | None
    inputs: Tensor | None
    block: int
    weight: Tensor
    bias: Tensor | None
    seen: tuple[int, int]

    def follow(
        self,
        out: str | None = None,
        outputs: Tensor | None = None,
        inputs: Tensor | None = None,
        block: int = 1,
    ) -> None:
        """Begin to follow a decision, or what is read."""
        self.followed, self.out, self.block = Followed(), out, block
        self.register_buffer("outputs", outputs)
        self.register_buffer("inputs", inputs)
        self.widen()

    @property
    def chosen(self) -> int:
        """Outputs that run."""
        return self.followed.size("outputs", self.out, self.weight.shape[0])

    @property
    def whole(self) -> bool:
        """Whether all of them do."""
        return self.chosen == self.weight.shape[0]

    def widen(self) -> None:
        """Note that the full size ran."""
        self.seen = (self.weight.shape[1], self.weight.shape[0])

    def _look(self, width: int) -> bool:
        """Note the sizes that are used; whether they are the full ones."""
        self.seen = width, self.chosen
        return self.seen == (self.weight.shape[1], self.weight.shape[0])

    def _used(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.weight, self.bias
        i, o = self.seen
        if self.inputs is not None and i < weight.shape[1]:
            weight = weight.index_select(1, kept(self.inputs, i // self.block, self.block))
        if self.outputs is not None and o < weight.shape[0]:
            index = kept(self.outputs, o)
            weight, bias = (
                weight.index_select(0, index),
                None if bias is None else bias.index_select(0, index),
            )
        return weight, bias

    def _filled(self, layer: M) -> M:
        weight, bias = self._used()
        return fill(layer, (("weight", weight), ("bias", bias)))


@final
class PrunedLinear(PrunedMap, nn.Linear):  # type: ignore[misc]
    """A linear map with its most important outputs, on the inputs that are there."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., chosen outputs) for inputs of shape (..., inputs)."""
        if self._look(x.shape[-1]):
            return super().forward(x)
        return F.linear(x, *self._used())

    def plain(self, memo: dict[int, nn.Module]) -> nn.Linear:
        """An ``nn.Linear``."""
        layer = plain_copy(nn.Linear, self, memo)
        layer.in_features, layer.out_features = self.seen
        return self._filled(layer)


class _Conv(PrunedMap, nn.modules.conv._ConvNd):
    """A convolution with its most important outputs, on the channels that are there."""

    @abstractmethod
    def _kind(self) -> type[nn.modules.conv._ConvNd]: ...

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, chosen outputs, ...) for inputs of shape (batch, channels, ...)."""
        if self._look(x.shape[1]):
            return self._conv_forward(x, self.weight, self.bias)
        return self._conv_forward(x, *self._used())

    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """The plain convolution."""
        layer = plain_copy(self._kind(), self, memo)
        layer.in_channels, layer.out_channels = self.seen
        return self._filled(layer)


class _Depthwise(Elastic, nn.modules.conv._ConvNd):
    """A convolution of each channel, on the channels that are there."""

    channels: Tensor
    seen: int

    @abstractmethod
    def _kind(self) -> type[nn.modules.conv._ConvNd]: ...

    def follow(self, channels: Tensor) -> None:
        """Begin to follow what is read; ``channels`` is its order of importance."""
        self.followed = Followed()
        self.register_buffer("channels", channels)
        self.seen = self.in_channels

    def forward(self, x: Tensor) -> Tensor:
        """The input's number of channels."""
        self.seen = x.shape[1]
        if self.seen == self.in_channels:
            return self._conv_forward(x, self.weight, self.bias)
        narrow = copy.copy(self)
        narrow.groups = self.seen
        return narrow._conv_forward(x, *self._used())

    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """The plain convolution."""
        layer = plain_copy(self._kind(), self, memo)
        layer.in_channels = layer.out_channels = layer.groups = self.seen
        weight, bias = self._used()
        return fill(layer, (("weight", weight), ("bias", bias)))

    def _used(self) -> tuple[Tensor, Tensor | None]:
        if self.seen == self.in_channels:
            return self.weight, self.bias
        index = kept(self.channels, self.seen)
        return self.weight.index_select(0, index), None if self.bias is None else self.bias.index_select(
            0, index
        )


class _BatchNorm(Elastic, nn.modules.batchnorm._BatchNorm):
    """A batch norm of the channels that are there; their statistics mix those of all paths."""

    channels: Tensor
    seen: int

    @abstractmethod
    def _kind(self) -> type[nn.modules.batchnorm._BatchNorm]: ...

    def follow(self, channels: Tensor) -> None:
        """Begin to follow what is read; ``channels`` is its order of importance."""
        self.followed = Followed()
        self.register_buffer("channels", channels)
        self.seen = self.num_features

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape."""
        self.seen = x.shape[1]
        if self.seen == self.num_features:
            return super().forward(x)
        narrow, index = self._narrow()
        out: Tensor = narrow(x)
        for name in ("running_mean", "running_var"):
            whole, part = self._buffers[name], narrow._buffers[name]
            if self.training and whole is not None and part is not None:
                whole.index_copy_(0, index, part)
        return out

    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """The plain norm."""
        layer = plain_copy(self._kind(), self, memo)
        layer.num_features = self.seen
        narrow, _ = self._narrow()
        return fill(layer, (*narrow._parameters.items(), *narrow._buffers.items()))

    def _narrow(self) -> tuple[nn.modules.batchnorm._BatchNorm, Tensor]:
        """The norm of the kept channels, through whose parameters gradients flow; their positions."""
        index = kept(self.channels, self.seen)
        narrow = recast(self._kind(), self)
        for held in ("_parameters", "_buffers"):
            whole: dict[str, Tensor | None] = vars(narrow)[held]
            whole.update({k: t.index_select(0, index) for k, t in whole.items() if t is not None and t.ndim})
        narrow._buffers.pop("channels")
        return narrow, index


@final
class PrunedConv1d(_Conv, nn.Conv1d):
    """`_Conv` along one axis."""

    def _kind(self) -> type[nn.Conv1d]:
        return nn.Conv1d


@final
class PrunedConv2d(_Conv, nn.Conv2d):
    """`_Conv` along two axes."""

    def _kind(self) -> type[nn.Conv2d]:
        return nn.Conv2d


@final
class PrunedConv3d(_Conv, nn.Conv3d):
    """`_Conv` along three axes."""

    def _kind(self) -> type[nn.Conv3d]:
        return nn.Conv3d


@final
class PrunedDepthwise1d(_Depthwise, nn.Conv1d):
    """`_Depthwise` along one axis."""

    def _kind(self) -> type[nn.Conv1d]:
        return nn.Conv1d


@final
class PrunedDepthwise2d(_Depthwise, nn.Conv2d):
    """`_Depthwise` along two axes."""

    def _kind(self) -> type[nn.Conv2d]:
        return nn.Conv2d


@final
class PrunedDepthwise3d(_Depthwise, nn.Conv3d):
    """`_Depthwise` along three axes."""

    def _kind(self) -> type[nn.Conv3d]:
        return nn.Conv3d


@final
class PrunedBatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """`_BatchNorm` of features or sequences."""

    def _kind(self) -> type[nn.BatchNorm1d]:
        return nn.BatchNorm1d


@final
class PrunedBatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """`_BatchNorm` of images."""

    def _kind(self) -> type[nn.BatchNorm2d]:
        return nn.BatchNorm2d


@final
class PrunedBatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """`_BatchNorm` of volumes."""

    def _kind(self) -> type[nn.BatchNorm3d]:
        return nn.BatchNorm3d


MAPS: Mapping[type[nn.Module], type[PrunedMap]] = {
    nn.Linear: PrunedLinear,
    nn.Conv1d: PrunedConv1d,
    nn.Conv2d: PrunedConv2d,
    nn.Conv3d: PrunedConv3d,
}
DEPTHWISE: Mapping[type[nn.Module], type[_Depthwise]] = {
    nn.Conv1d: PrunedDepthwise1d,
    nn.Conv2d: PrunedDepthwise2d,
    nn.Conv3d: PrunedDepthwise3d,
}
NORMS: Mapping[type[nn.Module], type[_BatchNorm]] = {
    nn.BatchNorm1d: PrunedBatchNorm1d,
    nn.BatchNorm2d: PrunedBatchNorm2d,
    nn.BatchNorm3d: PrunedBatchNorm3d,
}


@final
class Passed(nn.Module):
    """A block that was left out: gives its first input, whatever else it is called with."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """The first input."""
        return x


@final
class Skippable(Elastic):
    """A residual block that runs only where enough blocks do.

    Args:
        block: whose output has its first input's shape.
        depth: name of the decision that chooses how many blocks of the row run.
        place: of the block in the row, from 0.

    Source: Cai et al. 2020 (once-for-all), sec. 3.3, elastic depth: the first D of N blocks are kept.
    """

    def __init__(self, block: nn.Module, depth: str, place: int) -> None:
        super().__init__()
        self.followed = Followed()
        self.block, self.depth, self.place = block, depth, place
        self.seen = True

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What the block gives, or its first input."""
        depth = self.followed.value(self.depth)
        self.seen = depth is None or self.place < depth
        out: Tensor = self.block(x, *args, **kwargs) if self.seen else x
        return out

    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """The block, or nothing."""
        return specialised(self.block, memo) if self.seen else Passed()
