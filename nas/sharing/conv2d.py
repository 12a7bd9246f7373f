"""Convolutions with a choosable number of outputs and a choosable kernel."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.errors import must
from nas.sharing.elastic import Elastic, Followed, Rule, fill

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@final
class ElasticConv2d(Elastic, nn.Conv2d):
    """A convolution of which the first outputs and the kernel's centre are used, on the inputs it is given.

    Padded so that the stride alone changes the size of the image. A smaller kernel is the centre of the next
    larger one, through a learned square matrix that starts as the identity.

    Args:
        in_channels, out_channels: the largest sizes.
        kernel_size: the largest one, odd.
        stride: of the convolution.
        groups: 1, or ``in_channels`` for one convolution a channel, whose outputs are as many as its inputs.
        bias: whether there is one.
        out: how an architecture chooses the number of outputs; None for all.
        kernel: how it chooses the kernel size; None for the largest.
        kernel_sizes: ascending odd ones that can be chosen.

    Raises:
        BadInput: a size is out of its range.

    Source: Yu et al. 2019 (slimmable networks), sec. 3; Cai et al. 2020 (once-for-all), sec. 3.3, kernel
    transformation matrices.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        *,
        bias: bool = True,
        out: Rule | None = None,
        kernel: Rule | None = None,
        kernel_sizes: Sequence[int] = (),
    ) -> None:
        if groups not in (1, in_channels):
            raise must("groups", f"be 1 or in_channels ({in_channels})", groups)
        if groups > 1 and (out is not None or out_channels != in_channels):
            raise must("out", "be left to the inputs of a convolution of each channel", out)
        if kernel is not None and (not kernel_sizes or max(kernel_sizes) != kernel_size):
            raise must("kernel_sizes", f"end with kernel_size ({kernel_size})", tuple(kernel_sizes))
        if any(k % 2 == 0 for k in (kernel_size, *kernel_sizes)):
            raise must("kernel_size", "be odd", (kernel_size, *kernel_sizes))
        self.kernel_sizes = tuple(sorted(kernel_sizes))
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, 1, groups, bias)
        self.followed = Followed()
        self.out, self.kernel = out, kernel
        self.transforms = nn.ParameterDict(
            {str(small): torch.eye(small * small) for small, _ in pairwise(self.kernel_sizes)}
        )
        self.seen = (in_channels, out_channels, kernel_size)

    def reset_parameters(self) -> None:
        """Fresh weights, and transformations that change nothing."""
        super().reset_parameters()
        for small, matrix in self._modules.get("transforms", {}).items():  # type: ignore[union-attr,operator]
            matrix.data.copy_(torch.eye(int(small) ** 2))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, chosen outputs, height / stride, width / stride), rounded up."""
        i = x.shape[1]
        o = i if self.groups > 1 else self.followed.size("out_channels", self.out, self.out_channels)
        k = self._chosen_kernel()
        self.seen = (i, o, k)
        weight, bias = self._used(i, o, k)
        groups = i if self.groups > 1 else 1
        return F.conv2d(x, weight, bias, self.stride, k // 2, 1, groups)

    def plain(self, memo: Mapping[int, nn.Module]) -> nn.Conv2d:  # noqa: ARG002 - has nothing inside
        """An ``nn.Conv2d``, its kernel already transformed."""
        i, o, k = self.seen
        groups = i if self.groups > 1 else 1
        with torch.device("meta"):
            layer = nn.Conv2d(i, o, k, self.stride, k // 2, 1, groups, self.bias is not None)  # type: ignore[arg-type]
        weight, bias = self._used(i, o, k)
        return fill(layer, (("weight", weight), ("bias", bias)))

    def _chosen_kernel(self) -> int:
        value = self.followed.value(self.kernel)
        if value is None:
            return int(self.kernel_size[0])
        if value not in self.kernel_sizes:
            raise must("kernel_size", f"be among {self.kernel_sizes}, the supernet's", value)
        return int(value)

    def _used(self, i: int, o: int, k: int) -> tuple[Tensor, Tensor | None]:
        """The weights and bias of the first outputs and inputs, at a kernel size."""
        weight, bias = self.weight, self.bias
        if (i, o) != (self.in_channels, self.out_channels):
            weight = weight[:o] if self.groups > 1 else weight[:o, :i]
            bias = None if bias is None else bias[:o]
        for small, large in reversed(list(pairwise(self.kernel_sizes))):
            if small < k:
                break
            cut = (large - small) // 2
            centre = weight[..., cut : cut + small, cut : cut + small]
            weight = F.linear(centre.flatten(2), self.transforms[str(small)]).view(centre.shape)
        return weight, bias
