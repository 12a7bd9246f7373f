"""A sequence of which a choosable number of modules run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from torch import nn

from nas.sharing.elastic import Elastic, Followed, Rule, specialised

if TYPE_CHECKING:
    from collections.abc import Iterable


@final
class ElasticSequential(Elastic):
    """The first modules of a sequence, one after another.

    Args:
        modules: all of them.
        depth: how an architecture chooses how many run, at least 1.

    Source: Cai et al. 2020 (once-for-all), sec. 3.3, elastic depth: the first D of N layers are kept.
    """

    def __init__(self, modules: Iterable[nn.Module], *, depth: Rule) -> None:
        super().__init__()
        self.followed = Followed()
        self.depth = depth
        self.layers = nn.ModuleList(modules)
        self.seen = len(self.layers)

    def forward(self, x: Any) -> Any:
        """What the last of the chosen modules gives."""
        self.seen = self.followed.size("depth", self.depth, len(self.layers))
        for layer in self.layers[: self.seen]:
            x = layer(x)
        return x

    def plain(self, memo: dict[int, nn.Module]) -> nn.Sequential:
        """An ``nn.Sequential`` of the chosen modules."""
        return nn.Sequential(*(specialised(layer, memo) for layer in self.layers[: self.seen]))
