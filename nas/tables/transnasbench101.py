"""TransNAS-Bench-101: samples of its cells (micro) and networks (macro) on four tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import must
from nas.tables.draft import Draft
from nas.tables.sources import FAILED, TRAINING_FREE, checksum, found, fraction, numbers, part_of, read_csv

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nas.decision import Value

PARTS = ("micro", "macro")
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
"""Operations by digit. The sizes of the measured networks fit this order of the digits and of the edges
(0-1, 0-2, 1-2, 0-3, 1-3, 2-3) exactly, and no other."""
EDGES = ("edge_0_1", "edge_0_2", "edge_1_2", "edge_0_3", "edge_1_3", "edge_2_3")
FETCH = (
    "tnb101_micro_zerocost.csv.gz and tnb101_macro_zerocost.csv.gz, from NAS-Bench-Suite-Zero "
    "(Krishnakumar et al. 2022) over TransNAS-Bench-101 (Duan et al. 2021); its own .pth file is a pickle, "
    "which is not read"
)

_METRIC = {
    "autoencoder": "autoencoder_valid_ssim",
    "class_object": "class_object_valid_accuracy",
    "class_scene": "class_scene_valid_accuracy",
    "jigsaw": "jigsaw_valid_accuracy",
}


def load(path: Path, part: str | None = None) -> Draft:
    """Read one of the two spaces.

    Args:
        path: the data folder, its folder of this benchmark, or the csv file.
        part: ``micro`` (the default) or ``macro``.

    Raises:
        BadInput: a file is missing or damaged.
    """
    part = part_of(part, PARTS)
    name = f"tnb101_{part}_zerocost.csv.gz"
    file = found(path, (f"transnasbench101/{name}", name), FETCH)
    columns = read_csv(file, ("task", "arch", "val_metric", "params_M", "flops_M"))
    order = sorted(set(columns["arch"]))
    draft = Draft(
        f"transnasbench101/{part}",
        "Duan et al. 2021 (TransNAS-Bench-101); Krishnakumar et al. 2022 (NAS-Bench-Suite-Zero)",
        {file.name: checksum(file)},
        _micro(order) if part == "micro" else _macro(order),
        notes=["accuracies were published in per cent and are fractions here"],
    )
    for task, metric in _METRIC.items():
        _add_task(draft, columns, order, task, metric)
    return draft


def _add_task(draft: Draft, columns: dict[str, list[str]], order: list[str], task: str, metric: str) -> None:
    here = [i for i, t in enumerate(columns["task"]) if t == task]
    if not here:
        raise must("the csv file", f"have rows of the task {task}", "none", f"fetch {FETCH}")
    place = {arch: row for row, arch in enumerate(order)}
    rows = [place[columns["arch"][i]] for i in here]

    def column(name: str, known: str) -> NDArray[np.float64]:
        cells = numbers([columns[known][i] for i in here])
        values = np.full(len(order), np.nan)
        values[rows] = draft.mask(name, cells, cells == FAILED, "the failure mark")
        return values

    score = column(metric, "val_metric")
    draft.add(metric, fraction(score) if metric.endswith("accuracy") else score)
    for name, known in ((f"{task}_params", "params_M"), (f"{task}_flops", "flops_M")):
        draft.add(name, np.round(column(name, known) * 1e6), nature="static")
    for known in (k for k in TRAINING_FREE if k in columns):
        name = f"{task}_{TRAINING_FREE[known]}"
        values = column(name, known)
        if not np.isnan(values).all():  # some tasks have no such metric
            draft.add(name, values, nature="static", missing="the metric failed")


def _micro(archs: list[str]) -> dict[str, Any]:
    for arch in archs:
        if len(arch) != len(EDGES) or set(arch) - set("0123"):
            raise must("arch", "be six digits of 0 to 3", arch)
    return {e: [OPS[int(d)] for d in ds] for e, ds in zip(EDGES, zip(*archs, strict=True), strict=True)}


def _macro(archs: list[str]) -> dict[str, Any]:
    for arch in archs:
        if len(arch) != 6 or not set(arch) <= set("01234") or "0" in arch.rstrip("0"):
            raise must("arch", "be up to six digits of 1 to 4, padded with 0", arch)
    decisions: dict[str, list[Value]] = {"layer.count": [len(a.rstrip("0")) for a in archs]}
    for i in range(6):
        decisions[f"layer.{i}.type"] = [None if a[i] == "0" else MODULES[int(a[i])] for a in archs]
    return decisions


MODULES = ("", "normal", "widen", "downsample", "widen_downsample")
"""Modules of a macro network by digit."""
