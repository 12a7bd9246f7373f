"""Normalisation of however many channels there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, final

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.errors import must
from nas.sharing.elastic import Elastic, Followed, fill, shell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm


@final
class ElasticNorm(Elastic):
    """A normalisation whose first scales, shifts and statistics are used.

    The running statistics of a batch norm mix those of all architectures: they must be estimated again for
    the one that is evaluated. A group norm keeps the number of channels in a group.

    Args:
        norm: for the largest number of channels: ``BatchNorm1d``, ``BatchNorm2d``, ``LayerNorm`` or
            ``RMSNorm`` over one axis, or ``GroupNorm``.

    Raises:
        BadInput: it is another module, or normalises several axes.

    Source: Yu et al. 2019 (slimmable networks), sec. 3; Yu & Huang 2019 (universally slimmable), sec. 4.2.
    """

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        if not isinstance(norm, Norm):
            raise must("norm", "be a batch, layer, group or RMS norm", type(norm).__name__)
        if isinstance(norm, nn.LayerNorm | nn.RMSNorm) and len(norm.normalized_shape) > 1:
            raise must("norm.normalized_shape", "have one axis", tuple(norm.normalized_shape))
        self.norm = norm
        self.followed = Followed()
        self.seen = self._largest

    @property
    def _largest(self) -> int:
        match self.norm:
            case nn.LayerNorm() | nn.RMSNorm():
                return int(self.norm.normalized_shape[0])
            case nn.GroupNorm():
                return self.norm.num_channels
            case _:
                return self.norm.num_features

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape: channels last for layer and RMS norms, second for others."""
        norm = self.norm
        last = isinstance(norm, nn.LayerNorm | nn.RMSNorm)
        c = self.seen = x.shape[-1] if last else x.shape[1]
        if c == self._largest:
            out: Tensor = norm(x)
            return out
        if c > self._largest:
            raise must("channels", f"be at most {self._largest}, the supernet's", c)
        weight, bias = (None if p is None else p[:c] for p in (norm.weight, getattr(norm, "bias", None)))
        match norm:
            case nn.LayerNorm():
                return F.layer_norm(x, (c,), weight, bias, norm.eps)
            case nn.RMSNorm():
                return F.rms_norm(x, (c,), weight, norm.eps)
            case nn.GroupNorm():
                return F.group_norm(x, self._groups(norm, c), weight, bias, norm.eps)
            case _:
                return self._batch_norm(norm, x, weight, bias)

    def plain(self, memo: Mapping[int, nn.Module]) -> Norm:  # noqa: ARG002 - is a leaf
        """The normalisation for the channels last seen."""
        c = self.seen
        layer = shell(self.norm)
        for kept in ("_parameters", "_buffers"):
            vars(layer)[kept] = dict(vars(self.norm)[kept])
        match layer:
            case nn.LayerNorm() | nn.RMSNorm():
                layer.normalized_shape = (c,)
            case nn.GroupNorm():
                layer.num_groups, layer.num_channels = self._groups(self.norm, c), c  # type: ignore[arg-type]
            case _:
                layer.num_features = c
        return fill(layer, self._used(c))

    def _used(self, c: int) -> Iterator[tuple[str, Tensor | None]]:
        for kept in ("_parameters", "_buffers"):
            for name, tensor in vars(self.norm)[kept].items():
                yield name, tensor[:c] if tensor is not None and tensor.ndim else tensor

    @staticmethod
    def _groups(norm: nn.GroupNorm, channels: int) -> int:
        size = norm.num_channels // norm.num_groups
        if channels % size:
            raise must("channels", f"be a multiple of {size}, those of a group", channels)
        return channels // size

    @staticmethod
    def _batch_norm(
        norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor, weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        norm._check_input_dim(x)
        c = x.shape[1]
        mean, var = (None if b is None else b[:c] for b in (norm.running_mean, norm.running_var))
        rate = norm.momentum
        if norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            rate = 1.0 / float(norm.num_batches_tracked) if rate is None else rate
        return F.batch_norm(
            x, mean, var, weight, bias, norm.training or mean is None, 0.0 if rate is None else rate, norm.eps
        )
