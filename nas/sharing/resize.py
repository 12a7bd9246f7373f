"""Images of a choosable size."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.sharing.elastic import Elastic, Followed, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
class ElasticResize(Elastic):
    """Scales images bilinearly, without smoothing, to a choosable height; proportions are kept.

    Args:
        height, width: of the images it is given, the largest that can be chosen.
        out: how an architecture chooses the height.

    Source: Cai et al. 2020 (once-for-all), sec. 3.2, elastic resolution.
    """

    def __init__(self, height: int, width: int, *, out: Rule) -> None:
        super().__init__()
        self.height, self.width, self.out = height, width, out
        self.followed = Followed()
        self.seen = height

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, chosen height, width in proportion); images of the largest as they are."""
        self.seen = self.followed.size("resolution", self.out, self.height)
        if self.seen == self.height:
            return x
        return F.interpolate(x, size=self._size, mode="bilinear", align_corners=False)

    def plain(self, memo: Mapping[int, nn.Module]) -> nn.Module:  # noqa: ARG002 - has nothing inside
        """An ``nn.Upsample``, or ``nn.Identity`` at the largest size."""
        if self.seen == self.height:
            return nn.Identity()
        return nn.Upsample(self._size, mode="bilinear", align_corners=False)

    @property
    def _size(self) -> tuple[int, int]:
        return self.seen, max(1, round(self.seen * self.width / self.height))
