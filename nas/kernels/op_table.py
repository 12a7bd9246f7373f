"""Timed operations of one device: rows as csv.gz, and a JSON header beside them that says where from.

Reading needs the standard library and numpy alone.
"""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from nas.errors import must, unknown
from nas.kernels.op import Op
from nas.kernels.roofline import Rates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SCHEMA = 1
"""Version of the columns; a table of another one is refused."""
_OP = ("family", "name", "shape", "dtype", "flops", "bytes_in", "bytes_weight", "bytes_out")
_TIMES = ("position", "median_ms", "p10_ms", "p90_ms")


@final
@dataclass(frozen=True)
class OpTable:
    """Operations that were timed one by one.

    Args:
        device: as it names itself.
        dtype: of all operations.
        backend: what ran them, such as ``eager``.
        mode: how, such as ``warm`` or ``cold`` caches.
        rates: the machine's peaks in this dtype.
        ops: n operations; one that stands several times was measured again.
        median_ms, p10_ms, p90_ms: shape (n,); p10 and p90 are nan where only one figure is known.
        position: shape (n,), when in its session a row was measured, from 0 to 1; a clock that drifts shows.
        notes: JSON values: versions, dates, sources.

    Raises:
        BadInput: columns differ in length, a time is not positive, or an operation has another dtype.
    """

    device: str
    dtype: str
    backend: str
    mode: str
    rates: Rates
    ops: tuple[Op, ...]
    median_ms: NDArray[Any]
    p10_ms: NDArray[Any]
    p90_ms: NDArray[Any]
    position: NDArray[Any]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("median_ms", "p10_ms", "p90_ms", "position"):
            if getattr(self, name).shape != (len(self.ops),):
                raise must(name, f"have shape ({len(self.ops)},)", getattr(self, name).shape)
        if not (self.median_ms > 0).all():
            raise must("median_ms", "be positive", float(self.median_ms.min()))
        for op in self.ops:
            if op.dtype != self.dtype:
                raise must("the table's operations", f"be of {self.dtype}", op.dtype)

    def only(self, keep: NDArray[Any]) -> OpTable:
        """The rows that a mask or row numbers name."""
        rows = np.arange(len(self.ops))[keep]
        columns = {name: getattr(self, name)[rows] for name in _TIMES}
        return replace(self, ops=tuple(self.ops[i] for i in rows), **columns)

    def kinds(self) -> dict[tuple[str, str], NDArray[Any]]:
        """Row numbers by (family, name), in the order of first appearance."""
        found: dict[tuple[str, str], list[int]] = {}
        for i, op in enumerate(self.ops):
            found.setdefault((op.family, op.name), []).append(i)
        return {kind: np.array(rows) for kind, rows in found.items()}

    def save(self, path: Path) -> None:
        """Write ``path`` (.csv.gz) and the header, whose name ends with .json instead."""
        with gzip.open(path, "wt", encoding="utf-8", newline="", compresslevel=6) as file:
            writer = csv.writer(file)
            writer.writerow((*_OP, *_TIMES))
            for i, op in enumerate(self.ops):
                of_op = [getattr(op, name) for name in _OP]
                of_op[2] = " ".join(map(str, op.shape))
                writer.writerow([*of_op, *(repr(float(getattr(self, name)[i])) for name in _TIMES)])
        header_of(path).write_text(json.dumps(self._header(), indent=1) + "\n", encoding="utf-8")

    def _header(self) -> dict[str, Any]:
        rates = {name: getattr(self.rates, name) for name in Rates.__slots__}
        named = {name: getattr(self, name) for name in ("device", "dtype", "backend", "mode")}
        return {"schema": SCHEMA, **named, "rates": rates, "rows": len(self.ops), "notes": dict(self.notes)}

    @classmethod
    def load(cls, path: Path, device: str | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            path: of the csv.gz.
            device: whose table is expected; any when None.

        Raises:
            BadInput: the table is of another schema version or device, cut short, or no table.
        """
        header = _checked(path, device)
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if len(rows) != header["rows"]:
            raise must(
                f"{path}: rows", f"be {header['rows']}", len(rows), "the file was cut short or changed"
            )
        times: dict[str, Any] = {name: np.array([float(row[name]) for row in rows]) for name in _TIMES}
        named = {name: header[name] for name in ("device", "dtype", "backend", "mode", "notes")}
        return cls(**named, **times, rates=Rates(**header["rates"]), ops=tuple(map(_op, rows)))


def header_of(path: Path) -> Path:
    """Where the header of a table lies."""
    return path.with_name(path.name.removesuffix(".csv.gz") + ".json")


def _checked(path: Path, device: str | None) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(header_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise must(f"{path}: header", "be a JSON file beside the table", str(header_of(path))) from None
    if header.get("schema") != SCHEMA:
        raise must(
            f"{path}: schema version", f"be {SCHEMA}", header.get("schema"), "profile the device again"
        )
    if device is not None and header["device"] != device:
        raise must(
            f"{path}: device", f"be {device}", header["device"], "this table tells nothing of that device"
        )
    return header


def _op(row: Mapping[str, str]) -> Op:
    shape = tuple(map(int, row["shape"].split()))
    amounts = (float(row[name]) for name in _OP[4:])
    return Op(row["family"], row["name"], shape, row["dtype"], *amounts)


GPU_OPS: Mapping[str, tuple[str, Rates]] = {
    "p4": ("Tesla P4", Rates(5.699e12, 192e9, 40, 2 * 2.0**20)),
    "p100": ("Tesla P100-PCIE-16GB", Rates(9.519e12, 732e9, 56, 4 * 2.0**20)),
    "t4": ("Tesla T4", Rates(8.141e12, 320e9, 40, 4 * 2.0**20)),
    "a100": ("NVIDIA A100", Rates(19.492e12, 1555e9, 108, 40 * 2.0**20)),
}
"""Names and peaks of the devices of the public timings; A100s are PCIe cards of 40 GB, of 80 GB for conv."""


def read_gpu_ops(folder: Path, device: str) -> OpTable:
    """The public timings of one GPU, of the folder ``gpu_ops`` of the data.

    Convolutions are square with biases left out; a row's position is its place among the device's rows.

    Raises:
        UnknownName: there is no such device.
        BadInput: the folder lacks a file.
    """
    if device not in GPU_OPS:
        raise unknown("device", device, GPU_OPS)
    prefix, rates = GPU_OPS[device]
    ops: list[Op] = []
    ms: list[float] = []
    position: list[float] = []
    for file, make in _READERS.items():
        rows = [row for row in _rows(folder / f"{file}.csv.gz") if row["device"].startswith(prefix)]
        ops += [make(row) for row in rows]
        ms += [float(row["latency_ms"]) for row in rows]
        position += [i / len(rows) for i in range(len(rows))]
    unknown_ms = np.full(len(ops), np.nan)
    times = (np.array(ms), unknown_ms, unknown_ms, np.array(position))
    notes = {
        "source": "NeuSight (Lee et al. 2025), operator timings, MIT licence",
        "timing": "best 5 of 25, warm L2",
    }
    return OpTable(prefix, "float32", "eager", "warm", rates, tuple(ops), *times, notes)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise must("the folder gpu_ops", f"hold {path.name}", str(path.parent))
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _ints(row: Mapping[str, str], names: Sequence[str]) -> list[int]:
    return [int(row[name]) for name in names]


def _conv(row: Mapping[str, str]) -> Op:
    names = ("B", "Input_Channel", "Output_Channel", "Input_Size", "kernel_size", "Stride", "Padding")
    batch, ins, outs, edge, kernel, stride, padding = _ints(row, names)
    out = (edge + 2 * padding - kernel) // stride + 1
    flops = 2.0 * batch * ins * outs * kernel**2 * out**2
    shape = (batch, ins, outs, edge, edge, kernel, stride, padding, 1)
    moved = (4.0 * batch * ins * edge**2, 4.0 * ins * outs * kernel**2, 4.0 * batch * outs * out**2)
    return Op("conv", "conv2d", shape, "float32", flops, *moved)


def _linear(row: Mapping[str, str]) -> Op:
    batch, m, n, k = _ints(row, ("B", "M", "N", "K"))
    rows = batch * m
    return Op(
        "linear",
        "linear",
        (rows, k, n),
        "float32",
        2.0 * rows * k * n,
        4.0 * rows * k,
        4.0 * n * k,
        4.0 * rows * n,
    )


def _bmm(row: Mapping[str, str]) -> Op:
    batch, m, n, k = _ints(row, ("B", "M", "N", "K"))
    moved = (4.0 * batch * (m * k + k * n), 0.0, 4.0 * batch * m * n)
    return Op("bmm", "bmm", (batch, m, n, k), "float32", 2.0 * batch * m * n * k, *moved)


def _by_columns(family: str, name: str, flops: float, weights: int) -> Callable[[Mapping[str, str]], Op]:
    def make(row: Mapping[str, str]) -> Op:
        rows, columns = _ints(row, ("B", "H"))
        size = 4.0 * rows * columns
        return Op(
            family,
            name,
            (rows, columns),
            "float32",
            flops * rows * columns,
            size,
            4.0 * weights * columns,
            size,
        )

    return make


def _pointwise(name: str, inputs: int) -> Callable[[Mapping[str, str]], Op]:
    def make(row: Mapping[str, str]) -> Op:
        rows, columns = _ints(row, ("B", "H"))
        n = rows * columns
        return Op("pointwise", name, (n, inputs), "float32", float(n), 4.0 * n * inputs, 0.0, 4.0 * n)

    return make


_READERS: Mapping[str, Callable[[Mapping[str, str]], Op]] = {
    "conv": _conv,
    "linear": _linear,
    "bmm": _bmm,
    "softmax": _by_columns("softmax", "softmax", 5.0, 0),
    "ln": _by_columns("layer_norm", "layer_norm", 8.0, 2),
    "relu": _pointwise("relu", 1),
    "gelu": _pointwise("gelu", 1),
    "add": _pointwise("add", 2),
}
