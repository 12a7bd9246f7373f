"""Embeddings with a choosable width."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.sharing.elastic import Elastic, Followed, Rule, fill

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
class ElasticEmbedding(Elastic, nn.Embedding):
    """A table of vectors of which the first channels are used.

    Args:
        num_embeddings, embedding_dim: rows, and the largest width.
        out: how an architecture chooses the width; None for all of it.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, out: Rule | None = None) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.followed = Followed()
        self.out = out
        self.seen = embedding_dim

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., chosen width) for whole numbers of shape (...)."""
        width = self.seen = self.followed.size("embedding_dim", self.out, self.embedding_dim)
        return F.embedding(x, self.weight if width == self.embedding_dim else self.weight[:, :width])

    def plain(self, memo: Mapping[int, nn.Module]) -> nn.Embedding:  # noqa: ARG002 - has nothing inside
        """An ``nn.Embedding``."""
        with torch.device("meta"):
            layer = nn.Embedding(self.num_embeddings, self.seen)
        return fill(layer, (("weight", self.weight[:, : self.seen]),))
