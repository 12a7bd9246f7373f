"""A trained network as a space of its own narrower and shallower versions."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.architecture import Architecture
from nas.decision import Categorical, When
from nas.errors import must
from nas.sharing.elastic import Elastic, Followed
from nas.sharing.importance import by_loss, by_weights, order
from nas.sharing.plan import Row, Width, rows_of, widths_of
from nas.sharing.space import ElasticSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nas.sharing.supernet import ElasticSupernet

ALONE = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Models that are exchanged as a whole, and so need something that holds them."""


@final
class AdoptedSpace(ElasticSpace):
    """Narrower and shallower versions of one trained network; made by `elastic`.

    Architectures built on their own have fresh weights; paths of `supernet` begin with the trained ones.

    Attributes:
        decisions: the numbers of units, heads and blocks that can be chosen, each up to all of them.
        full: the architecture of the network as it was.
        rigid: why what is not elastic is not, by the name of the layer.
    """

    def __init__(
        self, network: nn.Module, example: Tensor, decisions: Sequence[Categorical], rigid: Mapping[str, str]
    ) -> None:
        self.decisions = tuple(decisions)
        self.rigid = dict(rigid)
        self._network, self._example = network, example

    @property
    def full(self) -> Architecture:
        """Everything at its full size."""
        return self.architecture({leaf.name: leaf.values[-1] for leaf in self.leaves})

    def elastic(self) -> nn.Module:
        """A copy of the trained network with elastic layers."""
        return copy.deepcopy(self._network)

    def example(self) -> Tensor:
        """The input that it was adopted with."""
        return self._example

    def build(self, architecture: Architecture) -> nn.Module:
        """The narrow network with fresh weights.

        A module draws them by its ``reset_parameters()``. Parameters of a module without that are drawn from
        a normal distribution with the mean and deviation that they were trained to; buffers stay.
        """
        module = self._shared.path(architecture)
        for part in module.modules():
            _refresh(part)
        return module.train()

    @cached_property
    def _shared(self) -> ElasticSupernet:
        """What paths are copied from; never trained."""
        return self.supernet()

    def __str__(self) -> str:
        elastic = [f"  {leaf.name}: {' | '.join(map(str, leaf.values))}" for leaf in self.leaves]
        rigid = [f"  {name}: {reason}" for name, reason in self.rigid.items()]
        return "\n".join(["elastic", *elastic, "rigid", *rigid])


def elastic(
    model: nn.Module,
    example: Tensor,
    widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    *,
    depth: int | None = None,
    batch: tuple[Any, Any] | None = None,
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
) -> AdoptedSpace:
    """A trained network as a space whose supernet has its weights, and computes at full size what it does.

    Elastic are hidden channels and features between two maps with nothing but channel-wise operations in
    between, hidden features of transformer layers, heads of attention, and rows of residual blocks, of which
    the last are left out first. Whatever is not understood stays as it is, and `AdoptedSpace.rigid` says why.
    What every width keeps are the most important units, in their own order.

    Args:
        model: left as it is.
        example: one input, shape (1, ...), on the model's device.
        widths: shares of units and heads that can be chosen, in (0, 1]; all of them always can.
        depth: blocks of each row of residual blocks that always run, at least 0; None lets all run.
        batch: inputs and targets by whose loss units are ordered; without it they are by their weights.
        loss: of the model's output and the targets, a scalar.

    Raises:
        BadInput: a setting is out of its range, or nothing in the model can be elastic.

    Source: Sridhar et al. 2023 (InstaTune): a pretrained network is made elastic and trained in the same run.
    """
    shares = _shares(widths)
    if depth is not None and (depth < 0 or int(depth) != depth):
        raise must("depth", "be a whole number of at least 0, or None", depth)
    if type(model) in ALONE:
        model = nn.Sequential(model)
    network = copy.deepcopy(model).eval()
    rigid: dict[str, str] = {}
    plan = _Plan(
        rows_of(network, example, depth) if depth is not None else [], widths_of(network, example, rigid)
    )
    orders = _orders(plan.widths, network, batch, loss)
    plan, orders = _kept(plan, orders, model, example, shares, rigid)
    decisions = plan.decisions(shares)
    if not decisions:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in rigid.items()) or "it has no such layers"
        raise must("model", "have hidden widths, heads or residual blocks that can vary", reasons)
    return AdoptedSpace(plan.applied(model, orders, decisions), example, decisions, rigid)


class _Plan(NamedTuple):
    """What will be elastic."""

    rows: list[Row]
    widths: list[Width]

    def decisions(self, shares: Sequence[float]) -> list[Categorical]:
        """Depths first, since widths inside a block are chosen only where it runs."""
        depths = [
            Categorical(
                row.name, tuple(range(row.least, len(row.blocks) + 1)), when=self._when(row.blocks[0])
            )
            for row in self.rows
        ]
        return depths + [
            Categorical(w.name, options, when=self._when(w.place))
            for w in self.widths
            if len(options := sizes(w.units.number, shares)) > 1
        ]

    def _when(self, place: str) -> tuple[When, ...]:
        """The depths under which what lies there runs."""
        found = []
        for row in self.rows:
            for i, block in enumerate(row.blocks):
                if i >= row.least and place.startswith(f"{block}."):
                    found.append(When(row.name, tuple(range(i + 1, len(row.blocks) + 1))))
        return tuple(found)

    def applied(
        self, model: nn.Module, orders: Mapping[str, Tensor], decisions: Sequence[Categorical]
    ) -> nn.Module:
        """A copy of the model in which all of it is."""
        network, chosen = copy.deepcopy(model), {d.name for d in decisions}
        for width in self.widths:
            if width.name in chosen:
                width.apply(network, orders[width.name].clone())
        for row in reversed(self.rows):  # inner ones first, so that their names still hold
            row.apply(network)
        return network


def sizes(count: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers of units that are the shares of all, ascending, at least 1."""
    return tuple(sorted({max(1, round(share * count)) for share in shares}))


def _shares(widths: Sequence[float]) -> list[float]:
    if not widths or any(isinstance(w, bool) or not 0.0 < w <= 1.0 for w in widths):
        raise must("widths", "be shares in (0, 1]", tuple(widths))
    return [*widths, 1.0]


def _orders(
    widths: Sequence[Width],
    network: nn.Module,
    batch: tuple[Any, Any] | None,
    loss: Callable[[Any, Any], Tensor],
) -> dict[str, Tensor]:
    """The order of importance of each group of units, by its name."""
    units = [w.units for w in widths]
    if batch is None:
        scores = [by_weights(u) for u in units]
    else:
        inputs, targets = batch
        scores = by_loss(units, network, lambda: loss(network(inputs), targets))
    return {w.name: order(s) for w, s in zip(widths, scores, strict=True)}


def _kept(
    plan: _Plan,
    orders: dict[str, Tensor],
    model: nn.Module,
    example: Tensor,
    shares: Sequence[float],
    rigid: dict[str, str],
) -> tuple[_Plan, dict[str, Tensor]]:
    """What runs when it alone is at its smallest; the rest stays rigid."""
    decisions = plan.decisions(shares)
    network = plan.applied(model, orders, decisions).eval()
    followed = Followed()
    for layer in network.modules():
        if isinstance(layer, Elastic):
            layer.followed = followed
    with torch.no_grad():
        whole = network(example)
        full = {d.name: d.options[-1] for d in decisions}
        for d in decisions:
            followed.architecture = Architecture({**full, d.name: d.options[0]})
            try:
                out = network(example)
                reason = "" if _alike(out, whole) else "the output changes its shape without it"
            except Exception as error:
                reason = f"the model does not run without it ({type(error).__name__}: {error})"
            if reason:
                rigid[d.name] = reason
    good = _Plan(
        [r for r in plan.rows if r.name not in rigid], [w for w in plan.widths if w.name not in rigid]
    )
    return good, orders


def _alike(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape
    return type(a) is type(b)


def _refresh(part: nn.Module) -> None:
    """Fresh weights for what a module holds itself."""
    own = [p for p in part._parameters.values() if p is not None]
    if isinstance(part, nn.MultiheadAttention):
        part._reset_parameters()
    elif callable(reset := getattr(part, "reset_parameters", None)):
        reset()
    else:
        with torch.no_grad():
            for p in own:
                p.normal_(float(p.mean()), float(p.std()) if p.numel() > 1 else 0.0)
