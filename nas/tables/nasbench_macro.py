"""NAS-Bench-Macro: all 6,561 networks of eight blocks, trained three times on CIFAR-10."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import must
from nas.tables.draft import Draft
from nas.tables.sources import checksum, found, fraction, no_part, numbers, read_csv

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = 8
BLOCKS = ("identity", "mb_k3_e3", "mb_k5_e6")
FETCH = (
    "nasbench_macro_cifar10.csv.gz, or nas-bench-macro_cifar10.json as published by its authors "
    "(NAS-Bench-Macro, Su et al. 2021)"
)


def load(path: Path, part: str | None = None) -> Draft:
    """Read the csv file of the data folder, or the published JSON file.

    Raises:
        BadInput: the file is missing or damaged.
    """
    no_part(part, "nasbench_macro")
    names = ("nasbench_macro/nasbench_macro_cifar10.csv.gz", "nasbench_macro_cifar10.csv.gz")
    file = found(path, (*names, "nas-bench-macro_cifar10.json"), FETCH)
    columns = _json(file) if file.suffix == ".json" else read_csv(file, ("arch", "test_acc_0", "flops"))
    for arch in columns["arch"]:
        if len(arch) != LAYERS or set(arch) - set("012"):
            raise must(f"{file}: arch", "be eight digits of 0, 1 and 2", arch)
    digits = list(zip(*columns["arch"], strict=True))
    draft = Draft(
        "nasbench_macro",
        "Su et al. 2021 (NAS-Bench-Macro)",
        {file.name: checksum(file)},
        {f"layer_{i}": [BLOCKS[int(d)] for d in digits[i]] for i in range(LAYERS)},
        complete=len(BLOCKS) ** LAYERS,
        notes=["accuracies were published in per cent and are fractions here"],
    )
    runs = [f"cifar10_test_accuracy_run{i}" for i in range(3)]
    single = [fraction(numbers(columns[f"test_acc_{i}"])) for i in range(3)]
    draft.add("cifar10_test_accuracy", np.mean(single, axis=0), runs=runs)
    for name, values in zip(runs, single, strict=True):
        draft.add(name, values)
    draft.add("params", numbers(columns["params"]), nature="static")
    draft.add("macs", numbers(columns["flops"]), nature="static")
    return draft


def _json(file: Path) -> dict[str, list[Any]]:
    """The published form: by architecture, ``test_acc`` (three runs), ``params`` and ``flops``."""
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        rows = [(a, *r["test_acc"][:3], r["params"], r["flops"]) for a, r in records.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = f"fetch {FETCH}"
        raise must(
            str(file), "map architectures to test_acc, params and flops", repr(error), remedy
        ) from error
    names = ("arch", "test_acc_0", "test_acc_1", "test_acc_2", "params", "flops")
    return {name: list(map(str, cells)) for name, cells in zip(names, zip(*rows, strict=True), strict=True)}
