"""One of several modules, chosen by a decision; all of them, weighted, under a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from nas.errors import must
from nas.sharing.elastic import Elastic, Followed, specialised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nas.decision import Value


@final
class Zero(nn.Module):
    """Nothing: zeros of its input's shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x)


@final
class Choice(Elastic):
    """The module of the option that an architecture chooses.

    Under relaxed weights it is the sum of all options' outputs times their weights; an option of weight 0
    does not run unless a gradient by the weights is wanted.

    Args:
        name: of the categorical decision.
        options: a module for each of its options, in their order.

    Source: Guo et al. 2020 (single path one-shot), sec. 3.2; Liu et al. 2019 (DARTS), eq. 2.
    """

    def __init__(self, name: str, options: Mapping[Value, nn.Module]) -> None:
        super().__init__()
        if not options:
            raise must("options", "hold at least one module", dict(options))
        self.name = name
        self.followed = Followed()
        self.options = nn.ModuleDict({str(option): module for option, module in options.items()})
        self.seen = str(next(iter(options)))

    @property
    def relaxes(self) -> frozenset[str]:
        """The decision."""
        return frozenset({self.name})

    def forward(self, x: Tensor) -> Tensor:
        """The output of the chosen option, or of all of them, weighted."""
        relaxed = self.followed.relaxed
        if relaxed is not None:
            return self._mixed(x, relaxed)
        out: Tensor = self.chosen(x)
        return out

    @property
    def chosen(self) -> nn.Module:
        """The module of the chosen option; the first one where nothing is chosen.

        Raises:
            BadInput: the architecture chooses what is not there.
        """
        value = self.followed.value(self.name)
        if value is not None:
            self.seen = str(value)
            if self.seen not in self.options:
                raise must(self.name, f"be among {', '.join(self.options)}, the supernet's", value)
        return self.options[self.seen]

    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """The chosen option."""
        return specialised(self.options[self.seen], memo)

    def _mixed(self, x: Tensor, relaxed: Mapping[str, Tensor]) -> Tensor:
        weights = relaxed[self.name]
        if len(weights) != len(self.options):
            raise must(f"mixture.{self.name}", f"have {len(self.options)} weights", len(weights))
        wanted = [True] * len(weights) if weights.requires_grad else [w != 0.0 for w in weights.tolist()]
        parts = [
            w * option(x)
            for w, option, run in zip(weights, self.options.values(), wanted, strict=True)
            if run
        ]
        return sum(parts[1:], parts[0]) if parts else torch.zeros_like(x)
