"""One operation of a traced module: what it computes, how much of it, and how many bytes it moves."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Mapping

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "conv": (
        "batch",
        "in_channels",
        "out_channels",
        "height",
        "width",
        "kernel",
        "stride",
        "padding",
        "groups",
    ),
    "linear": ("rows", "in_features", "out_features"),
    "bmm": ("batch", "m", "n", "k"),
    "attention": ("batch", "heads", "queries", "keys", "head_size"),
    "softmax": ("rows", "columns"),
    "layer_norm": ("rows", "columns"),
    "batch_norm": ("batch", "channels", "positions"),
    "pointwise": ("elements", "inputs"),
    "pool": ("batch", "channels", "height", "width", "kernel", "stride"),
    "reduce": ("rows", "columns"),
    "concat": ("elements", "inputs"),
    "copy": ("elements",),
    "resize": ("elements", "outputs"),
    "embedding": ("rows", "columns", "vocabulary"),
    "other": ("elements",),
}
"""The shape attributes of each family, in the order of `Op.shape`; ``height`` and ``width`` are the input's,
``kernel``, ``stride`` and ``padding`` the geometric mean of both directions, rounded."""


@final
@dataclass(frozen=True, slots=True)
class Op:
    """An operation with its shapes; equal operations take the same time, whatever module they stand in.

    Args:
        family: one of `FAMILIES`; ``other`` for what has no table.
        name: of the operation, such as ``conv2d`` or ``relu``.
        shape: values of the family's attributes, in their order.
        dtype: ``float32``, ``float16``, ``bfloat16`` or ``int8``.
        flops: floating-point operations, two per multiply-accumulate.
        bytes_in: read of activations.
        bytes_weight: read of parameters.
        bytes_out: written.

    Attributes:
        bytes: all that are moved.

    Raises:
        BadInput: the family is unknown, or the shape does not fit it.
    """

    family: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    flops: float
    bytes_in: float
    bytes_weight: float
    bytes_out: float
    bytes: float = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise must("op.family", f"be one of {', '.join(FAMILIES)}", self.family)
        if len(self.shape) != len(FAMILIES[self.family]):
            raise must("op.shape", f"hold {', '.join(FAMILIES[self.family])}", self.shape)
        object.__setattr__(self, "bytes", self.bytes_in + self.bytes_weight + self.bytes_out)
        object.__setattr__(self, "_hash", hash(tuple(self.record().values())))

    def __hash__(self) -> int:
        """Computed once: operations are looked up by the hundred for each network."""
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        """By its arguments, for another process hashes names otherwise."""
        return Op, tuple(self.record().values())

    def record(self) -> dict[str, Any]:
        """Its arguments by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    @property
    def attributes(self) -> Mapping[str, int]:
        """The shape by the names of its attributes."""
        return dict(zip(FAMILIES[self.family], self.shape, strict=True))


REMEMBERED = 100_000
"""Operations that are kept."""


@lru_cache(maxsize=REMEMBERED)
def known_op(*arguments: Any) -> Op:
    """The operation with these arguments, the same object for the same ones, which is found again faster."""
    return Op(*arguments)
