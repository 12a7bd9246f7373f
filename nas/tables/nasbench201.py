"""NAS-Bench-201: all 15,625 cells with accuracies, and their latencies and energies on 20 devices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from nas.errors import must
from nas.tables.draft import Draft
from nas.tables.sources import (
    FAILED,
    TRAINING_FREE,
    checksum,
    found,
    fraction,
    no_part,
    numbers,
    read_csv,
    read_npz,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CELLS = 15_625
FETCH = (
    "nb201.csv.gz with hw_nas_bench_nb201.csv.gz (HW-NAS-Bench, Li et al. 2021), "
    "help_nb201_latency_ms.npz (HELP, Lee et al. 2021) and zc_cifar10.csv.gz (NAS-Bench-Suite-Zero, "
    "Krishnakumar et al. 2022), converted from NAS-Bench-201 (Dong & Yang 2020); "
    "the official .pth and NATS-Bench .pickle files hold pickles, which are not read"
)

_EDGES = ("edge_0_1", "edge_0_2", "edge_1_2", "edge_0_3", "edge_1_3", "edge_2_3")
_GPUS = {"1080ti": "gtx_1080ti", "titanx": "titan_x", "titanxp": "titan_xp"}
_COST = "cifar10_hp12_seconds"


def load(path: Path, part: str | None = None) -> Draft:
    """Read the table from the data folder, its ``nasbench201`` folder, or the csv file.

    Devices and training-free metrics are joined in from the neighbouring folders ``hw_nas_bench``,
    ``latency_devices`` and ``nasbench201_zerocost`` where they are there.

    Raises:
        BadInput: a file is missing or damaged.
    """
    no_part(part, "nasbench201")
    file = found(path, ("nasbench201/nb201.csv.gz", "nb201.csv.gz"), FETCH)
    columns = read_csv(file, ("index", "arch", "cifar10_test_acc", "cifar10_hp12_valid_acc"))
    cells = [_ops(text) for text in columns["arch"]]
    if columns["index"] != [str(i) for i in range(len(cells))]:
        raise must(str(file), "list the official indices in order", "another order", f"fetch {FETCH}")
    draft = Draft(
        "nasbench201",
        "Dong & Yang 2020 (NAS-Bench-201); Dong et al. 2021 (NATS-Bench)",
        {file.name: checksum(file)},
        dict(zip(_EDGES, map(list, zip(*cells, strict=True)), strict=True)),
        complete=CELLS,
        notes=["accuracies were published in per cent and are fractions here"],
    )
    _accuracies(draft, columns)
    _sizes(draft, columns)
    _edge_devices(draft, file.parent.parent / "hw_nas_bench" / "hw_nas_bench_nb201.csv.gz")
    _gpus_and_phones(draft, file.parent.parent / "latency_devices" / "help_nb201_latency_ms.npz")
    _training_free(draft, file.parent.parent / "nasbench201_zerocost" / "zc_cifar10.csv.gz")
    return draft


def _ops(text: str) -> list[str]:
    ops = re.findall(r"([a-z0-9_]+)~\d", text)
    if len(ops) != len(_EDGES):
        raise must("a cell", "name six operations", text, f"fetch {FETCH}")
    return ops


def _accuracies(draft: Draft, columns: dict[str, list[str]]) -> None:
    def percent(name: str) -> NDArray[np.float64]:
        return fraction(numbers(columns[name]))

    hp12, seconds = percent("cifar10_hp12_valid_acc"), numbers(columns["cifar10_hp12_cost_s"])
    draft.add("cifar10_hp12_valid_accuracy", hp12, cost=_COST)
    draft.add(_COST, seconds, "s", "seconds")
    runs = [f"cifar10_test_accuracy_run{i}" for i in range(3)]
    draft.add("cifar10_test_accuracy", percent("cifar10_test_acc"), runs=runs)
    for i, name in enumerate(runs):
        draft.add(name, percent(f"cifar10_test_acc_v1.1_run{i}"), missing="it was trained fewer times")
    draft.add("cifar100_test_accuracy", percent("cifar100_test_acc"))
    draft.add("cifar100_test_accuracy_1run", percent("cifar100_test_acc_1run"))
    for data in ("cifar10", "cifar100"):
        draft.add(f"{data}_train_accuracy_1run", percent(f"{data}_train_acc_1run"))


def _sizes(draft: Draft, columns: dict[str, list[str]]) -> None:
    for data in ("cifar10", "cifar100"):
        params = np.round(numbers(columns[f"{data}_params_M"]) * 1e6)
        draft.add(f"{data}_params", params, nature="static")
        latency = numbers(columns[f"{data}_gpu_latency_s"]) * 1e3
        draft.add(f"{data}_gpu_latency_ms", latency, "ms", "static")


def _edge_devices(draft: Draft, file: Path) -> None:
    """HW-NAS-Bench: an edge GPU, an Edge TPU and a Pixel 3, for either image size of output."""
    if not file.is_file():
        draft.notes.append(f"{file.name} is not there: no HW-NAS-Bench devices")
        return
    draft.files = {**draft.files, file.name: checksum(file)}
    columns = read_csv(file, ("dataset", "index", "pixel3_latency_ms"))
    for data in ("cifar10", "cifar100"):
        here = np.array(columns["dataset"]) == data
        order = np.argsort(numbers(columns["index"])[here], kind="stable")
        if len(order) != CELLS:
            raise must(f"{file}: rows of {data}", f"be {CELLS:,}", len(order), f"fetch {FETCH}")
        for column, unit in (("edgegpu_latency_ms", "ms"), ("edgegpu_energy_mJ", "mJ")):
            draft.add(f"{data}_{column.lower()}", numbers(columns[column])[here][order], unit, "static")
        tpu = numbers(columns["edgetpu_latency_ms"])[here][order]
        draft.notes.append(f"{data}_edgetpu_latency_ms: {int(np.isnan(tpu).sum()):,} cells do not compile")
        why = "it does not compile for the Edge TPU"
        draft.add(f"{data}_edgetpu_latency_ms", tpu, "ms", "static", missing=why)
        phone = numbers(columns["pixel3_latency_ms"])[here][order]
        name = f"{data}_pixel3_latency_ms"
        phone = draft.mask(
            name,
            phone,
            phone < _FAULT_MS,
            _FOLDED,
        )
        draft.add(name, phone, "ms", "static", missing=_FOLDED)


_FOLDED = "the phone folded a cell that carries nothing to a constant"
_FAULT_MS = 1.0
"""Pixel 3 readings below this are no latencies of the network: they belong to the cells whose input does
not reach their output, down to 0.003 ms; the fastest other cell takes longer."""


def _gpus_and_phones(draft: Draft, file: Path) -> None:
    """HELP: GPUs at three batch sizes, server CPUs and phones; its Pixel 3 repeats HW-NAS-Bench's."""
    if not file.is_file():
        draft.notes.append(f"{file.name} is not there: no HELP devices")
        return
    draft.files = {**draft.files, file.name: checksum(file)}
    for device, latency in read_npz(file, ("1080ti_1",)).items():
        name, _, batch = device.rpartition("_")
        known = f"{_GPUS[name]}_batch{batch}" if name in _GPUS else device.removesuffix("_1")
        if known == "pixel3":
            continue
        latency = draft.mask(known, latency, latency <= 0, "not above 0 ms")
        draft.add(f"cifar10_{known}_latency_ms", latency, "ms", "static")


def _training_free(draft: Draft, file: Path) -> None:
    """NAS-Bench-Suite-Zero: training-free metrics of the 9,445 cells without dead operations."""
    if not file.is_file():
        draft.notes.append(f"{file.name} is not there: no training-free metrics")
        return
    draft.files = {**draft.files, file.name: checksum(file)}
    columns = read_csv(file, ("index", "synflow", "flops_M"))
    rows = numbers(columns["index"]).astype(np.int64)
    for column, metric in TRAINING_FREE.items():
        name, values = f"cifar10_{metric}", np.full(CELLS, np.nan)
        given = numbers(columns[column])
        values[rows] = draft.mask(name, given, given == FAILED, "the failure mark")
        draft.add(name, values, nature="static", missing="a dead operation in the cell, or a failure")
    flops = np.full(CELLS, np.nan)
    flops[rows] = np.round(numbers(columns["flops_M"]) * 1e6)
    draft.add("cifar10_flops", flops, nature="static", missing="a dead operation in the cell")
