"""Columns of a table: read as text, and turned into features."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nas.errors import must, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

Columns: TypeAlias = "dict[str, list[str]]"

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
EMBEDDED = ("breast_cancer", "diabetes", "iris", "wine")
"""Tables that come with scikit-learn."""
RARE = 2
"""Training rows in which a value must occur to get a feature of its own."""


def read_columns(data: str | Path, delimiter: str = ",") -> Columns:
    """Cells of every column by its name.

    Args:
        data: a csv file with a head line, plain or ``.gz``; or ``sklearn:NAME``.
        delimiter: between cells.

    Raises:
        BadInput: there is no such file, or it is not a rectangular table of UTF-8 text.
    """
    if isinstance(data, str) and data.startswith("sklearn:"):
        return _embedded(data.removeprefix("sklearn:"))
    if len(delimiter) != 1:
        raise must("delimiter", "be one character", delimiter)
    path = Path(data)
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            return _columns(path, [(rows.line_num, row) for row in rows if row])
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error, OSError) as error:
        raise must("data", "be a csv file that can be read", str(path), str(error)) from error


def missing(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.strip().lower() in MISSING


def numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """The cells as numbers, NaN where missing; None where a cell is neither."""
    try:
        values = np.array([math.nan if missing(cell) else float(cell) for cell in cells])
    except ValueError:
        return None
    return None if np.isinf(values).any() else values


def encoded(
    columns: Mapping[str, Sequence[str]],
    train: NDArray[np.int64],
    categorical: Collection[str],
    categories: int,
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Features of shape (rows, F) and their names; all statistics are of the training rows.

    Args:
        columns: cells by name.
        train: positions of the training rows.
        categorical: columns of names even where they hold numbers.
        categories: most values of a column that get a feature of their own.
    """
    features: dict[str, NDArray[np.float64]] = {}
    for name, cells in columns.items():
        values = None if name in categorical else numbers(cells)
        if values is None or np.isnan(values[train]).all():
            features |= _one_hot(name, cells, train, categories)
        else:
            features |= _standardised(name, values, train)
    return np.column_stack(list(features.values())).astype(np.float32), tuple(features)


def _standardised(
    name: str, values: NDArray[np.float64], train: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Zero mean and unit deviation over the training rows that have a value; the mean where there is none."""
    absent = np.isnan(values)
    known = values[train][~absent[train]]
    spread = float(known.std())
    scaled = np.where(absent, 0.0, (values - known.mean()) / (spread if spread > 0 else 1.0))
    features = {name: scaled}
    if absent[train].any():
        features[f"{name} missing"] = absent.astype(np.float64)
    return features


def _one_hot(
    name: str, cells: Sequence[str], train: NDArray[np.int64], categories: int
) -> dict[str, NDArray[np.float64]]:
    """A feature for each frequent value, a missing one being a value, too; and one for all others."""
    values = np.array(["" if missing(cell) else cell.strip() for cell in cells])
    counts = Counter(values[train].tolist())
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    frequent = [value for value in ranked if counts[value] >= RARE][:categories]
    features = {f"{name}={value}": (values == value).astype(np.float64) for value in frequent}
    features[f"{name}=other"] = (~np.isin(values, frequent)).astype(np.float64)
    return features


def _columns(path: Path, lines: Sequence[tuple[int, list[str]]]) -> Columns:
    if len(lines) < 2:
        raise must(str(path), "hold a head line and rows", f"{len(lines)} lines")
    names = [name.strip() for name in lines[0][1]]
    for name, times in Counter(names).items():
        if times > 1 or not name:
            raise must(f"the head line of {path}", "name every column once", name)
    for line, row in lines[1:]:
        if len(row) != len(names):
            raise must(
                f"line {line} of {path}", f"have {len(names)} cells", len(row), "is the delimiter right?"
            )
    return {name: [row[i] for _, row in lines[1:]] for i, name in enumerate(names)}


def _embedded(name: str) -> Columns:
    """A table of scikit-learn; its label is the column ``target``, classes by their names."""
    if name not in EMBEDDED:
        raise unknown("table of scikit-learn", name, EMBEDDED)
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    columns = {
        str(column): [repr(v) for v in cells]
        for column, cells in zip(bunch.feature_names, bunch.data.T.tolist(), strict=True)
    }
    names = bunch.get("target_names")
    return {**columns, "target": [str(v if names is None else names[int(v)]) for v in bunch.target.tolist()]}
