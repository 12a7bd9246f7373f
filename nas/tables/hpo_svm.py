"""A support vector machine's hyperparameters: the whole grid of 288 on 25 data sets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nas.errors import must
from nas.tables.draft import Draft
from nas.tables.sources import checksum, found, no_part, numbers, read_csv

if TYPE_CHECKING:
    from pathlib import Path

GRID = 288
FETCH = "svm_grid_25_datasets.csv.gz, converted from the tables of Wistuba et al. 2016"

_SETTINGS = ("kernel_rbf", "kernel_poly", "kernel_linear", "log_C", "log_gamma", "degree")


def load(path: Path, part: str | None = None) -> Draft:
    """Read the grid, a metric for each data set.

    The published settings are scaled: log2(C) / 6, log10(gamma) / 4 and log10(degree).

    Raises:
        BadInput: the file is missing or damaged.
    """
    no_part(part, "hpo_svm")
    file = found(path, ("hpo_tabular/svm_grid_25_datasets.csv.gz", "svm_grid_25_datasets.csv.gz"), FETCH)
    columns = read_csv(file, ("dataset", "accuracy", *_SETTINGS))
    settings = list(zip(*[numbers(columns[name]).tolist() for name in _SETTINGS], strict=True))
    accuracy = numbers(columns["accuracy"])
    by_data: dict[str, dict[tuple[float, ...], float]] = {}
    for data, setting, value in zip(columns["dataset"], settings, accuracy, strict=True):
        by_data.setdefault(data, {})[setting] = float(value)
    grid = sorted(next(iter(by_data.values())))
    decisions = {name: [_read(s)[name] for s in grid] for name in ("kernel", "log2_C", "gamma", "degree")}
    files = {file.name: checksum(file)}
    draft = Draft("hpo_svm", "Wistuba et al. 2016", files, decisions, complete=GRID)
    for data, values in sorted(by_data.items()):
        if sorted(values) != grid:
            raise must(f"{file}: {data}", "have the same settings as the others", len(values))
        name = data.lower().replace("-", "_")
        draft.add(f"{name}_accuracy", numbers([str(values[s]) for s in grid]))
    return draft


def _read(setting: tuple[float, ...]) -> dict[str, Any]:
    rbf, poly, _, c, gamma, degree = setting
    return {
        "kernel": "rbf" if rbf else "poly" if poly else "linear",
        "log2_C": round(6 * c),
        "gamma": float(f"{math.pow(10, 4 * gamma):.3g}") if rbf else None,
        "degree": round(math.pow(10, degree)) if poly else None,
    }
