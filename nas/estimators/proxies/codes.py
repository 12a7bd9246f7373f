"""Which inputs of ReLUs are positive, however the ReLUs are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_aten = torch.ops.aten
_RELUS = frozenset({_aten.relu, _aten.relu_, _aten.leaky_relu, _aten.leaky_relu_, _aten._prelu_kernel})
_CLIPPED = frozenset({_aten.hardtanh, _aten.hardtanh_})


@final
class ReluCodes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, for every ReLU that runs inside, which of its inputs are positive.

    Attributes:
        found: in order of running, bool, shape (batch, units).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Take note of the input before an in-place operation overwrites it."""
        packet = func._overloadpacket
        if packet in _RELUS or (packet in _CLIPPED and len(args) > 1 and args[1] == 0):
            self.found.append((args[0] > 0).flatten(1))
        return func(*args, **(kwargs or {}))
