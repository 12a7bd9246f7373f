"""Numbers that explain how far from its roofline an operation stays: sizes, alignment, tiles and waves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.errors import must
from nas.kernels.op import FAMILIES
from nas.kernels.roofline import amounts, bound_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nas.kernels.op import Op
    from nas.kernels.roofline import Rates

TILES = ((128, 128), (128, 64), (64, 128), (64, 64), (32, 128), (128, 32), (32, 32), (256, 128))
"""Rows and columns of the output that one thread block of a matrix product computes."""
WINOGRAD = (2, 4, 6)
"""Edges of the output tiles of Winograd's and FFT-like convolutions."""
BLOCKS = (128, 256, 512, 1024, 2048, 4096)
"""Elements that one thread block of a memory-bound kernel handles."""


def features(ops: Sequence[Op], rates: Rates) -> tuple[tuple[str, ...], NDArray[Any]]:
    """What is known of operations of one family before they are run.

    Args:
        ops: n operations of the same family.
        rates: of the machine, in the operations' dtype.

    Returns:
        The features' names, and shape (n, features); sizes and times as natural logarithms.

    Raises:
        BadInput: the operations are of several families.
    """
    families = {op.family for op in ops}
    if len(families) != 1:
        raise must("the operations", "be of one family", sorted(families))
    family = families.pop()
    shapes = np.array([op.shape for op in ops], dtype=float)
    sheet = _Sheet(amounts(ops), rates)
    sheet.amounts()
    if family in _PRODUCTS:
        _PRODUCTS[family](sheet, shapes)
    else:
        _streaming(sheet, family, shapes)
    return tuple(sheet.names), np.column_stack(sheet.columns)


@final
class _Sheet:
    """Collects named columns."""

    def __init__(self, of: NDArray[Any], rates: Rates) -> None:
        self.names: list[str] = []
        self.columns: list[NDArray[Any]] = []
        self.of, self.rates = of, rates
        self.roof_ms = bound_ms(of, rates)

    def add(self, name: str, column: NDArray[Any]) -> None:
        self.names.append(name)
        self.columns.append(np.asarray(column, dtype=float))

    def log(self, **columns: NDArray[Any]) -> None:
        for name, column in columns.items():
            self.add(f"log {name}", np.log(np.maximum(column, 1e-12)))

    def multiples(self, name: str, sizes: NDArray[Any], of: Sequence[int]) -> None:
        """Whether sizes are multiples, by which aligned loads and other kernels are chosen."""
        for m in of:
            self.add(f"{name} % {m}", sizes % m == 0)

    def fills(self, name: str, sizes: NDArray[Any], of: Sequence[int]) -> None:
        """The share of what is computed that is wanted, where sizes are rounded up to multiples."""
        for m in of:
            self.add(f"{name} fill {m}", sizes / (np.ceil(sizes / m) * m))

    def amounts(self) -> None:
        flops, read, weights, written = self.of.T
        total = read + weights + written
        self.log(flops=flops, read=read, weights=weights, written=written, bytes=total, roof=self.roof_ms)
        self.log(intensity=flops / total)
        l2 = self.rates.l2_bytes
        self.log(
            total_by_l2=total / l2,
            read_by_l2=read / l2,
            weights_by_l2=weights / l2,
            written_by_l2=written / l2,
        )

    def waves(self, name: str, batch: NDArray[Any], m: NDArray[Any], n: NDArray[Any]) -> None:
        """How well the tiles of a product fill themselves, and rounds of all multiprocessors."""
        for rows, columns in TILES:
            tiles = batch * np.ceil(m / rows) * np.ceil(n / columns)
            waves = tiles / self.rates.multiprocessors
            filled = batch * m * n / (tiles * rows * columns)
            tag = f"{name}{rows}x{columns}"
            self.log(**{f"waves {tag}": waves})
            self.add(f"filled {tag}", filled)
            self.add(f"efficiency {tag}", filled * waves / np.ceil(waves))
            self.add(f"rounds {tag}", np.minimum(np.ceil(waves), 8))


def _product(sheet: _Sheet, batch: NDArray[Any], m: NDArray[Any], n: NDArray[Any], k: NDArray[Any]) -> None:
    """Of ``batch`` products (m, k) × (k, n)."""
    sheet.log(batch=batch, m=m, n=n, k=k, m_by_n=m / n, m_by_k=m / k, n_by_k=n / k, outputs=batch * m * n)
    for name, sizes in (("m", m), ("n", n), ("k", k)):
        sheet.multiples(name, sizes, (4, 8, 16, 32))
    sheet.waves("", batch, m, n)


def _bmm(sheet: _Sheet, shapes: NDArray[Any]) -> None:
    batch, m, n, k = shapes.T
    _product(sheet, batch, m, n, k)


def _linear(sheet: _Sheet, shapes: NDArray[Any]) -> None:
    rows, ins, outs = shapes.T
    _product(sheet, np.ones(len(rows)), rows, outs, ins)


def _conv(sheet: _Sheet, shapes: NDArray[Any]) -> None:
    """As the product that an implicit convolution is, and as Winograd's products of transformed tiles."""
    batch, ins, outs, height, width, kernel, stride, padding, groups = shapes.T
    high = np.maximum(1, (height + 2 * padding - kernel) // stride + 1)
    wide = np.maximum(1, (width + 2 * padding - kernel) // stride + 1)
    _product(sheet, groups, batch * high * wide, outs / groups, ins / groups * kernel**2)
    sheet.log(images=batch, ins=ins, outs=outs, high=high, wide=wide, pixels=batch * high * wide)
    sheet.log(kernel=kernel, stride=stride, groups=groups)
    sheet.multiples("ins", ins, (2, 4, 8, 32))
    sheet.multiples("outs", outs, (2, 4, 8, 32))
    sheet.fills("ins", ins, (8, 32))
    sheet.fills("outs", outs, (32, 64))
    for edge in WINOGRAD:
        _winograd(sheet, edge, (batch, ins, outs), (high, wide), kernel)


def _winograd(
    sheet: _Sheet,
    edge: int,
    sizes: tuple[NDArray[Any], ...],
    plane: tuple[NDArray[Any], ...],
    kernel: NDArray[Any],
) -> None:
    """F(edge × edge, kernel × kernel): one product for each point of a transformed tile.

    Source: Lavin & Gray 2016, eq. 8 and sec. 4.1.
    """
    (batch, ins, outs), (high, wide) = sizes, plane
    down, across = np.ceil(high / edge), np.ceil(wide / edge)
    tiles, points = batch * down * across, (edge + kernel - 1) ** 2
    sheet.add(f"plane fill {edge}", high * wide / (down * across * edge**2))
    sheet.add(f"height % {edge}", high % edge)
    flops = 2 * points * tiles * ins * outs
    scratch = 4 * points * (tiles * (ins + outs) + ins * outs)
    moved = sheet.of[:, 1:].sum(axis=1) + 2 * scratch
    compute, memory = flops / sheet.rates.peak_flops, moved / sheet.rates.bandwidth
    roof = sheet.roof_ms / 1e3
    sheet.log(
        **{
            f"transformed {edge}": (compute + memory) / roof,
            f"fused {edge}": np.maximum(compute / roof, 1e-3),
        }
    )
    sheet.log(**{f"scratch {edge}": scratch, f"scratch intensity {edge}": flops / moved})
    if edge < WINOGRAD[-1]:
        sheet.waves(f"winograd {edge} ", points, tiles, outs)


def _streaming(sheet: _Sheet, family: str, shapes: NDArray[Any]) -> None:
    """Of what reads and writes each number once or a few times: sizes, and how they fill thread blocks."""
    for name, sizes in zip(FAMILIES[family], shapes.T, strict=True):
        sheet.log(**{name: sizes})
    last = shapes[:, 1] if shapes.shape[1] == 2 and family != "pointwise" else shapes[:, 0]
    sheet.multiples("last", last, (4, 8, 16, 32, 128))
    sheet.fills("last", last, (32, 128, 256, 512, 1024))
    power = 2.0 ** np.ceil(np.log2(np.maximum(last, 1)))
    sheet.add("power of two", power)
    sheet.add("power of two fill", last / power)
    sheet.add("last", last)
    for block in BLOCKS:
        waves = sheet.of[:, 3] / 4 / (sheet.rates.multiprocessors * block)
        sheet.add(f"filled {block}", np.where(waves < 64, waves / np.ceil(waves), 1))
        sheet.add(f"rounds {block}", np.minimum(np.ceil(waves), 64))
    for rows in (1, 2, 4, 8, 16):
        waves = shapes[:, 0] / (sheet.rates.multiprocessors * rows)
        sheet.add(f"rows filled {rows}", np.where(waves < 32, waves / np.ceil(waves), 1))


_PRODUCTS: Mapping[str, Any] = {"conv": _conv, "linear": _linear, "bmm": _bmm}
