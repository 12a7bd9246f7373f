"""Linear maps with a choosable number of outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.errors import must
from nas.sharing.elastic import Elastic, Followed, Rule, fill

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
class ElasticLinear(Elastic, nn.Linear):
    """A linear map of which the first outputs are used, on however many inputs it is given.

    Args:
        in_features, out_features: the largest sizes.
        bias: whether there is one, or how an architecture chooses it.
        out: how an architecture chooses the number of outputs; None for all.
        parts: equal parts that the outputs consist of, such as queries, keys and values; the first of each
            part are used, equally many.

    Raises:
        BadInput: the parts are not equal.

    Source: Yu et al. 2019 (slimmable networks), sec. 3; Chen et al. 2021 (AutoFormer), sec. 3.2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool | Rule = True,
        out: Rule | None = None,
        parts: int = 1,
    ) -> None:
        if out_features % parts:
            raise must("out_features", f"be a multiple of its {parts} parts", out_features)
        super().__init__(in_features, out_features, bias is not False)
        self.followed = Followed()
        self.out, self.parts = out, parts
        self.biased = None if isinstance(bias, bool) else bias
        self.seen = (in_features, out_features, self.bias is not None)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., chosen outputs) for inputs of shape (..., at most in_features)."""
        o = self.followed.size("out_features", self.out, self.out_features)
        if o % self.parts:
            raise must("out_features", f"be a multiple of its {self.parts} parts", o)
        biased = self.followed.value(self.biased)
        self.seen = (x.shape[-1], o, self.bias is not None and biased is not False)
        return F.linear(x, *self._used())

    def plain(self, memo: Mapping[int, nn.Module]) -> nn.Linear:  # noqa: ARG002 - has nothing inside
        """An ``nn.Linear``."""
        with torch.device("meta"):
            layer = nn.Linear(*self.seen)
        weight, bias = self._used()
        return fill(layer, (("weight", weight), ("bias", bias)))

    def _used(self) -> tuple[Tensor, Tensor | None]:
        """The weights and bias of the first outputs of each part, and of the first inputs."""
        i, o, biased = self.seen
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias if biased else None
        if i < self.in_features:
            weight = weight[:, :i]
        if o < self.out_features:
            weight = self._first(weight, o)
            bias = None if bias is None else self._first(bias, o)
        return weight, bias

    def _first(self, tensor: Tensor, outputs: int) -> Tensor:
        if self.parts == 1:
            return tensor[:outputs]
        by_part = tensor.view(self.parts, -1, *tensor.shape[1:])
        return by_part[:, : outputs // self.parts].flatten(0, 1)
