"""Attention of a trained network that runs with its most important heads only.

Shapes: B samples, L queries, S keys, E features of the stream, H heads of D features each.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.errors import must
from nas.sharing.elastic import Elastic, Followed, fill
from nas.sharing.pruned import PrunedMap, kept, plain_copy, recast


class Projections(NamedTuple):
    """Weights of attention with H heads.

    Attributes:
        inside: of queries, keys and values, one below the other, shape (3 * H * D, E).
        inside_bias: shape (3 * H * D,).
        out: shape (E, H * D).
        out_bias: shape (E,).
    """

    inside: Tensor
    inside_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None

    def of_heads(self, order: Tensor, heads: int, dim: int) -> Projections:
        """Those of the most important heads, whose order is given."""
        index = kept(order, heads, dim)
        step = self.out.shape[1]
        rows = torch.cat([index, index + step, index + 2 * step])
        bias = None if self.inside_bias is None else self.inside_bias.index_select(0, rows)
        out = self.out.index_select(1, index)
        return Projections(self.inside.index_select(0, rows), bias, out, self.out_bias)


def attended(
    weights: Projections,
    heads: int,
    inputs: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    causal: bool = False,
    wanted: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention.

    Args:
        weights: of that many heads.
        heads: H.
        inputs: queries (B, L, E), keys and values (B, S, E).
        mask: is added to the scores, shape (B or 1, 1, L or 1, S).
        dropout: of the attention's weights.
        causal: whether a query sees only keys up to its own place; instead of a mask.
        wanted: whether the attention's weights are.

    Returns:
        Shapes (B, L, E) and (B, H, L, S).
    """
    biases = (None,) * 3 if weights.inside_bias is None else weights.inside_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).unflatten(-1, (heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]
        for x, w, b in zip(inputs, weights.inside.chunk(3), biases, strict=True)
    )
    shares = None
    if wanted:
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        shares = F.dropout(torch.softmax(scores if mask is None else scores + mask, -1), dropout)
        mixed = shares @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
    return F.linear(mixed.transpose(1, 2).flatten(2), weights.out, weights.out_bias), shares


def called(
    weights: Projections,
    heads: int,
    settings: tuple[bool, float],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,  # noqa: FBT001, FBT002 - the call of nn.MultiheadAttention
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,  # noqa: FBT001, FBT002
    is_causal: bool = False,  # noqa: ARG001, FBT001, FBT002 - the mask says it
) -> tuple[Tensor, Tensor | None]:
    """Attention called as ``nn.MultiheadAttention`` is.

    Args:
        weights, heads: as in `attended`.
        settings: whether the batch is the first axis, and the dropout.
        query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal: as
            there; masks of three axes are refused.

    Raises:
        BadInput: the mask has three axes.
    """
    batch_first, dropout = settings
    batched = query.ndim == 3
    inputs = tuple(
        x[None] if not batched else x if batch_first else x.transpose(0, 1) for x in (query, key, value)
    )
    mask = _merged(attn_mask, key_padding_mask, query.dtype)
    out, shares = attended(weights, heads, inputs, mask, dropout=dropout, wanted=need_weights)  # type: ignore[arg-type]
    if shares is not None and average_attn_weights:
        shares = shares.mean(1)
    if not batched:
        return out[0], None if shares is None else shares[0]
    return out if batch_first else out.transpose(0, 1), shares


def _merged(attention: Tensor | None, padding: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Both masks as one that is added to the scores, shape (B or 1, 1, L or 1, S)."""
    if attention is not None and attention.ndim != 2:
        raise must("attn_mask", "have two axes where heads are left out", tuple(attention.shape))
    shaped = [] if attention is None else [attention[None, None]]
    if padding is not None:
        shaped.append((padding if padding.ndim == 2 else padding[None])[:, None, None])
    added = [_added(m, dtype) for m in shaped]
    return sum(added[1:], added[0]) if added else None


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to scores: minus infinity where a boolean one forbids."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)


@final
class NarrowAttention(nn.Module):
    """``nn.MultiheadAttention`` whose heads together may have fewer features than the stream.

    Args:
        weights: copied.
        num_heads: H.
        dropout: of the attention's weights.
        batch_first: whether inputs are (B, L, E) rather than (L, B, E).
    """

    def __init__(self, weights: Projections, num_heads: int, dropout: float, *, batch_first: bool) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.batch_first = num_heads, dropout, batch_first
        with torch.device("meta"):
            out_proj = nn.Linear(weights.out.shape[1], weights.out.shape[0], weights.out_bias is not None)
        self.out_proj = fill(out_proj, (("weight", weights.out), ("bias", weights.out_bias)))
        self.in_proj_weight = nn.Parameter(weights.inside.detach().clone())
        bias = weights.inside_bias
        self.in_proj_bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def reset_parameters(self) -> None:
        """Fresh input projections, as those of ``nn.MultiheadAttention``."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention``."""
        settings = self.batch_first, self.dropout if self.training else 0.0
        weights = Projections(
            self.in_proj_weight, self.in_proj_bias, self.out_proj.weight, self.out_proj.bias
        )
        return called(weights, self.num_heads, settings, query, key, value, *args, **kwargs)  # type: ignore[arg-type]


@final
class PrunedAttention(Elastic, nn.MultiheadAttention):
    """``nn.MultiheadAttention`` with its most important heads."""

    order: Tensor
    out: str
    seen: int

    def follow(self, out: str, order: Tensor) -> None:
        """Begin to follow the decision ``out``; ``order`` is that of the heads' importance."""
        self.followed, self.out = Followed(), out
        self.register_buffer("order", order)
        self.seen = self.num_heads

    @property
    def chosen(self) -> int:
        """Heads that run."""
        return self.followed.size("heads", self.out, self.num_heads)

    @property
    def whole(self) -> bool:
        """Whether all of them do."""
        return self.chosen == int(self.num_heads)

    def widen(self) -> None:
        """Note that all heads ran."""
        self.seen = self.num_heads

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention``."""
        self.seen = self.chosen
        if self.seen == self.num_heads:
            return super().forward(query, key, value, *args, **kwargs)  # type: ignore[arg-type]
        settings = self.batch_first, self.dropout if self.training else 0.0
        return called(self._weights(), self.seen, settings, query, key, value, *args, **kwargs)  # type: ignore[arg-type]

    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """``nn.MultiheadAttention`` with all heads, `NarrowAttention` with fewer."""
        if self.seen == self.num_heads:
            return plain_copy(nn.MultiheadAttention, self, memo)
        return NarrowAttention(self._weights(), self.seen, self.dropout, batch_first=self.batch_first)

    def _weights(self) -> Projections:
        whole = Projections(self.in_proj_weight, self.in_proj_bias, self.out_proj.weight, self.out_proj.bias)
        return whole.of_heads(self.order, self.seen, self.head_dim)


class _LongWay(nn.TransformerEncoderLayer):
    """A layer that computes by its submodules, whatever their sizes, and never by torch's fused kernel."""

    def _run(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,  # noqa: FBT001, FBT002 - the call of nn.TransformerEncoderLayer
    ) -> Tensor:
        if src.is_nested:  # what nn.TransformerEncoder makes of padded inputs in evaluation mode
            return self._run_nested(src)
        mask, padding = (
            None if m is None else _added(m, src.dtype) for m in (src_mask, src_key_padding_mask)
        )
        if self.norm_first:
            x = src + self._sa_block(self.norm1(src), mask, padding, is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(src + self._sa_block(src, mask, padding, is_causal))
        out: Tensor = self.norm2(x + self._ff_block(x))
        return out

    def _run_nested(self, src: Tensor) -> Tensor:
        lengths = [len(sample) for sample in src.unbind()]
        padded = src.to_padded_tensor(0.0)
        places = torch.arange(padded.shape[1], device=src.device)
        mask = places >= torch.tensor(lengths, device=src.device)[:, None]
        out = self._run(padded, None, mask)
        return torch.nested.as_nested_tensor([o[:n] for o, n in zip(out, lengths, strict=True)])


@final
class NarrowEncoderLayer(_LongWay):
    """``nn.TransformerEncoderLayer`` with fewer heads or hidden features."""

    def forward(self, src: Tensor, *args: object, **kwargs: object) -> Tensor:
        """As ``nn.TransformerEncoderLayer``."""
        return self._run(src, *args, **kwargs)  # type: ignore[arg-type]


@final
class PrunedEncoderLayer(Elastic, _LongWay):
    """``nn.TransformerEncoderLayer`` whose attention or first linear map may be elastic."""

    def follow(self) -> None:
        """Begin to look at what the submodules follow."""
        self.followed = Followed()

    def forward(self, src: Tensor, *args: object, **kwargs: object) -> Tensor:
        """As ``nn.TransformerEncoderLayer``; at full size by torch's own code, fused where that is."""
        parts = [
            m
            for m in (self.self_attn, self.linear1, self.linear2)
            if isinstance(m, PrunedMap | PrunedAttention)
        ]
        if not all(part.whole for part in parts):
            return self._run(src, *args, **kwargs)  # type: ignore[arg-type]
        for part in parts:
            part.widen()  # since torch's fused kernel would not run them
        return super().forward(src, *args, **kwargs)  # type: ignore[arg-type]

    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """``nn.TransformerEncoderLayer``, or a `NarrowEncoderLayer`."""
        layer = plain_copy(nn.TransformerEncoderLayer, self, memo)
        narrow = isinstance(layer.self_attn, NarrowAttention) or (
            layer.linear1.out_features < self.linear1.out_features
        )
        return recast(NarrowEncoderLayer, layer) if narrow else layer
