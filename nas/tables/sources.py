"""Reading what benchmarks are published as; nothing here ever unpickles."""

from __future__ import annotations

import csv
import gzip
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def found(path: Path, names: Sequence[str], fetch: str) -> Path:
    """The file itself, or the first of ``names`` that is in the folder.

    Raises:
        BadInput: there is none; says what to fetch.
    """
    if path.is_file():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    raise must("PATH", f"be or hold {' or '.join(names)}", str(path), f"fetch {fetch}")


def part_of(part: str | None, known: Sequence[str]) -> str:
    """The part that was asked for; the first one without a wish.

    Raises:
        BadInput: it is none of them.
    """
    if part is None:
        return known[0]
    if part not in known:
        raise must("--part", f"be one of {', '.join(known)}", part)
    return part


def no_part(part: str | None, name: str) -> None:
    """Refuse a part of a benchmark that has a single table.

    Raises:
        BadInput: one was asked for.
    """
    if part is not None:
        raise must("--part", f"be left out: {name} is a single table", part)


def checksum(path: Path) -> str:
    """32 hexadecimal digits of a file's contents."""
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def read_csv(path: Path, needed: Sequence[str] = ()) -> dict[str, list[str]]:
    """The columns of a csv file, which may be gzipped, as text.

    Raises:
        BadInput: it is no csv file, lines differ in length, or a needed column is not there.
    """
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
            lines = list(csv.reader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise must(str(path), "be a csv file, or one gzipped", str(error)) from error
    if len(lines) < 2:
        raise must(str(path), "have a line of names and at least one row", f"{len(lines)} lines")
    for i, line in enumerate(lines, start=1):
        if len(line) != len(lines[0]):
            raise must(f"{path}: line {i}", f"have {len(lines[0])} cells", len(line))
    columns = {name: list(cells) for name, cells in zip(lines[0], zip(*lines[1:], strict=True), strict=True)}
    for name in needed:
        if name not in columns:
            raise must(str(path), f"have the column {name}", ", ".join(columns))
    return columns


def numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    """Numbers of a csv column, shape (rows,); NaN for empty cells.

    Raises:
        BadInput: a cell is no number.
    """
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError as error:
        raise must("a column of numbers", "hold numbers and empty cells", str(error)) from None


def read_npz(path: Path, needed: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file without pickled parts.

    Raises:
        BadInput: it is none, or an array is missing.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise must(str(path), "be an npz file without pickled parts", str(error)) from error
    for name in needed:
        if name not in arrays:
            raise must(str(path), f"hold the array {name}", ", ".join(arrays))
    return arrays


def fraction(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percentages as fractions, with the decimals that they were published with."""
    return np.round(percent / 100, 12)


FAILED = -1e8
"""What NAS-Bench-Suite-Zero writes for a training-free metric that failed."""
TRAINING_FREE = {
    "grad_norm": "grad_norm",
    "snip": "snip",
    "grasp": "grasp",
    "fisher": "fisher",
    "synflow": "synflow",
    "jacov": "jacob_cov",
    "l2_norm": "l2_norm",
    "nwot": "naswot",
    "epe_nas": "epe_nas",
    "plain": "plain",
    "zen": "zen",
}
"""Its columns, and what the metrics are called here."""
