"""A model's own self-attention with one map for queries, keys and values, on its most important heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import Tensor, nn

from nas.sharing.elastic import Elastic, Followed, fill, specialised
from nas.sharing.pruned_attention import Projections, attended

if TYPE_CHECKING:
    from collections.abc import Iterator

INSIDE = ("qkv", "c_attn", "in_proj")
OUT = ("proj", "c_proj", "out_proj")
COUNTS = ("num_heads", "n_head", "n_heads", "heads")


class Fused(NamedTuple):
    """How an attention names its parts.

    Attributes:
        inside, out: names of the map of queries, keys and values, and of the output's map.
        heads: how many it has.
        causal: whether a query sees only what came before.
    """

    inside: str
    out: str
    heads: int
    causal: bool

    def projections(self, module: nn.Module) -> Projections:
        """The weights."""
        inside, out = module.get_submodule(self.inside), module.get_submodule(self.out)
        return Projections(inside.weight, inside.bias, out.weight, out.bias)  # type: ignore[arg-type]


def recognised(module: nn.Module, inputs: tuple[Any, ...]) -> Fused | None:
    """How a module's parts are named, if its output is that of plain self-attention with them; else None.

    Args:
        module: in evaluation mode.
        inputs: of one call, a tensor of shape (B, L, E).
    """
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].ndim != 3:
        return None
    if any(isinstance(m, nn.Dropout) and m.p > 0.0 for m in module.modules()):
        return None
    with torch.no_grad():
        expected = module(inputs[0])
        for fused in _candidates(module):
            got, _ = attended(fused.projections(module), fused.heads, (inputs[0],) * 3, causal=fused.causal)
            if got.shape == expected.shape and torch.allclose(got, expected, rtol=1e-4, atol=1e-5):
                return fused
    return None


def _candidates(module: nn.Module) -> Iterator[Fused]:
    children, known = dict(module.named_children()), vars(module)
    for inside in (n for n in INSIDE if type(children.get(n)) is nn.Linear):
        for out in (n for n in OUT if type(children.get(n)) is nn.Linear):
            a: Any = children[inside]
            b: Any = children[out]
            if a.out_features != 3 * b.in_features or a.in_features != b.out_features:
                continue
            for count in (known[n] for n in COUNTS if isinstance(known.get(n), int)):
                if count > 0 and b.in_features % count == 0:
                    yield Fused(inside, out, count, causal=False)
                    yield Fused(inside, out, count, causal=True)


@final
class NarrowFused(nn.Module):
    """Self-attention whose heads together may have fewer features than the stream.

    Args:
        weights: copied.
        num_heads: H.
        causal: whether a query sees only what came before.
    """

    def __init__(self, weights: Projections, num_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        with torch.device("meta"):
            qkv = nn.Linear(weights.inside.shape[1], weights.inside.shape[0], weights.inside_bias is not None)
            proj = nn.Linear(weights.out.shape[1], weights.out.shape[0], weights.out_bias is not None)
        self.qkv = fill(qkv, (("weight", weights.inside), ("bias", weights.inside_bias)))
        self.proj = fill(proj, (("weight", weights.out), ("bias", weights.out_bias)))

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape, (B, L, E)."""
        weights = Projections(self.qkv.weight, self.qkv.bias, self.proj.weight, self.proj.bias)
        return attended(weights, self.num_heads, (x, x, x), causal=self.causal)[0]


@final
class PrunedFused(Elastic):
    """A model's own attention with its most important heads.

    Args:
        attention: the model's.
        fused: how it names its parts.
        out: name of the decision that chooses the number of heads.
        order: of the heads' importance.
    """

    def __init__(self, attention: nn.Module, fused: Fused, out: str, order: Tensor) -> None:
        super().__init__()
        self.followed, self.out, self.fused = Followed(), out, fused
        self.attention = attention
        self.register_buffer("order", order)
        self.order: Tensor
        self.seen = fused.heads

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape; by the model's own code with all heads."""
        self.seen = self.followed.size("heads", self.out, self.fused.heads)
        if self.seen == self.fused.heads:
            out: Tensor = self.attention(x)
            return out
        return attended(self._weights(), self.seen, (x, x, x), causal=self.fused.causal)[0]

    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """The model's own attention with all heads, `NarrowFused` with fewer."""
        if self.seen == self.fused.heads:
            return specialised(self.attention, memo)
        return NarrowFused(self._weights(), self.seen, causal=self.fused.causal)

    def _weights(self) -> Projections:
        whole = self.fused.projections(self.attention)
        return whole.of_heads(self.order, self.seen, whole.out.shape[1] // self.fused.heads)
