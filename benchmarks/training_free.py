"""Do the training-free metrics rank NAS-Bench-201 as the published tables of them do, and what do they cost?

    python benchmarks/training_free.py [--cells 300] [--dear-cells 40]

300 cells are drawn among the 9,445 without dead operations, and each metric is computed as the evaluator
does: the published network (C = 16, N = 5), PyTorch's own initialisation, one batch of 64 real CIFAR-10
images for all cells, one draw of weights a cell, one processor core. For each metric: its Spearman
correlation with ``cifar10_test_acc`` beside that of the published column **on the same cells** and of
``params``, with a 95 % bootstrap interval of the difference; and its correlation with the published column
itself. The column is the one of the table of 9,445 cells (``zc_cifar10``); ``published_pair`` tells how far
the two published columns of one metric agree with each other on the cells that both hold (the second table
has 725). Metrics without a published column are computed on fewer cells (``--dear-cells``).

``seconds`` are medians of each metric's own with its share of passes that others use as well,
``seconds_alone`` those of evaluating nothing else; ``published_seconds`` are those of the second table, of
another machine that it does not name. ``together`` is what grad_norm, snip, plain, fisher and l2_norm cost
in one evaluation, over the dearest of them alone. ``bit_equal`` tells which metrics gave the same bits in
two runs.

Whatever was computed is kept in ``benchmarks/tmp_training_free/`` and is not computed again; delete it to
start anew. On one quiet core: 2 s a cell for all but grasp and zen (10 minutes), 9 s for these two (45
minutes), and 45 s a cell for the 40 cells of the dear ones (30 minutes).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import os
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from record import record
from scipy.stats import spearmanr

from nas.estimators.proxies import METRICS
from nas.estimators.training_free import TrainingFree
from nas.proposal import Failure, Proposal
from nas.registry import create
from nas.rng import stream

SEED = 0
DATA = Path(os.environ.get("NAS_DATA", Path(__file__).parents[2] / "shared" / "data"))
KEPT = Path(__file__).parent / "tmp_training_free"
COLUMNS = {"jacob_cov": "jacov", "naswot": "nwot", "params": "params_M", "macs": "flops_M"}
"""Published names that differ from ours."""
TOGETHER = ("grad_norm", "snip", "plain", "fisher", "l2_norm")
SLOW = ("grasp", "zen")
"""With a published column, so computed on all cells, but after the others."""
DEAR = ("zico", "meco", "swap", "az_nas", "linear_regions", "ntk_condition")
MARGIN = 0.06


class Cells:
    """The drawn cells, and what is known of them."""

    def __init__(self, count: int) -> None:
        self.published = _rows("nasbench201_zerocost/zc_cifar10.csv.gz")
        self.second = [
            r
            for r in _rows("nasbench201_zerocost/subset_2datasets_with_times.csv.gz")
            if r["dataset"] == "cifar10"
        ]
        accuracy = {r["index"]: float(r["cifar10_test_acc"]) for r in _rows("nasbench201/nb201.csv.gz")}
        order = stream(SEED, "cells").permutation(len(self.published))[:count]
        self.drawn = [self.published[i] for i in order]
        self.accuracy = np.array([accuracy[r["index"]] for r in self.drawn])
        data = {"name": "cifar10", "data": str(DATA / "cifar10_jpeg"), "limit": 4096}
        self.task = create("task", data)
        self.space = create("space", {"name": "nasbench201"}, {"task": self.task})

    def evaluate(self, cell: dict[str, str], metrics: tuple[str, ...]) -> dict[str, Any]:
        """Values, reasons and seconds of one cell's metrics."""
        evaluator = TrainingFree(self.space, self.task, metrics)
        proposal = Proposal(self.space.from_string(cell["arch"]), tuple(sorted(evaluator.metrics)))
        (outcome,) = evaluator.evaluate([proposal], seed=SEED)
        if isinstance(outcome, Failure):
            return {"values": {}, "notes": {"failed": outcome.reason}, "seconds": outcome.seconds}
        values = {m: v for m, v in outcome.values.items() if math.isfinite(v)}
        return {"values": values, "notes": dict(outcome.notes), "seconds": outcome.seconds}


def computed(cells: Cells, group: str, metrics: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    """The first cells' metrics of a group, from the file where they are known."""
    KEPT.mkdir(exist_ok=True)
    file = KEPT / f"{group}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    known = {row["index"]: row for row in map(json.loads, lines)}
    found = []
    with file.open("a") as out:
        for i, cell in enumerate(cells.drawn[:count]):
            if cell["index"] not in known:
                row = {"index": cell["index"], **cells.evaluate(cell, metrics)}
                out.write(json.dumps(row) + "\n")
                out.flush()
                known[cell["index"]] = row
                print(f"{group}: {i + 1}/{count} in {row['seconds']:.2f} s", flush=True)
            found.append(known[cell["index"]])
    return found


def compared(cells: Cells, metric: str, values: list[float]) -> dict[str, Any]:
    """One metric's correlations on the first cells, as many as there are values."""
    ours, accuracy = np.array(values), cells.accuracy[: len(values)]
    there = np.isfinite(ours)
    figures: dict[str, Any] = {"cells": int(there.sum()), "with_accuracy": rho(ours[there], accuracy[there])}
    figures["params_with_accuracy"] = rho(_column(cells.drawn, "params")[: len(ours)][there], accuracy[there])
    if COLUMNS.get(metric, metric) not in cells.published[0]:
        return figures
    table = _column(cells.drawn, metric)[: len(ours)]
    there &= np.isfinite(table)
    a, b, y = ours[there], table[there], accuracy[there]
    difference = rho(a, y) - rho(b, y)
    return figures | {
        "published_with_accuracy": rho(b, y),
        "difference": difference,
        "difference_95": interval(a, b, y),
        "within_margin": abs(difference) <= MARGIN,
        "with_published": rho(a, b),
        "published_pair": _pair(cells, metric),
    }


def interval(a: np.ndarray, b: np.ndarray, y: np.ndarray, draws: int = 1000) -> tuple[float, float]:
    """Bootstrap over cells: where 95 % of the differences of the correlations with y lie."""
    rng = stream(SEED, "bootstrap")
    found = []
    for _ in range(draws):
        i = rng.integers(len(y), size=len(y))
        found.append(rho(a[i], y[i]) - rho(b[i], y[i]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def together(cells: Cells, count: int = 5, times: int = 3) -> dict[str, Any]:
    """Seconds of the five alone and in one evaluation, and the ratio."""
    seconds: dict[str, list[float]] = {name: [] for name in (*TOGETHER, "all")}
    for cell in cells.drawn[:count]:
        for name in seconds:
            metrics = TOGETHER if name == "all" else (name,)
            seconds[name].append(min(cells.evaluate(cell, metrics)["seconds"] for _ in range(times)))
    sums = {name: sum(s) / count for name, s in seconds.items()}
    return {"seconds": sums, "ratio": sums["all"] / max(sums[name] for name in TOGETHER)}


def alone(cells: Cells, metrics: tuple[str, ...], count: int = 3) -> dict[str, float]:
    """Median seconds of an evaluation of each metric by itself, the building of the module included."""
    return {m: median(cells.evaluate(cell, (m,))["seconds"] for cell in cells.drawn[:count]) for m in metrics}


def bit_equal(cells: Cells, count: int = 3) -> dict[str, bool]:
    """By metric but the dear ones: whether two runs gave the same bits."""
    names = (*(m for m in METRICS if m not in (*DEAR, "grasp")), "meco", "az_nas")
    pairs = [[cells.evaluate(cell, names)["values"] for _ in range(2)] for cell in cells.drawn[:count]]
    return {m: all(a[m] == b[m] for a, b in pairs) for m in pairs[0][0]}


def rho(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman correlation."""
    return float(spearmanr(a, b).statistic)


def _rows(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / name, "rt") as file:
        return list(csv.DictReader(file))


def _column(rows: list[dict[str, str]], metric: str) -> np.ndarray:
    """Published values; NaN where one is missing or failed."""
    values = np.array([float(r[COLUMNS.get(metric, metric)] or "nan") for r in rows])
    return np.where(values <= -1e8, np.nan, values)


def _pair(cells: Cells, metric: str) -> float | None:
    """How far the two published columns of one metric agree."""
    name = COLUMNS.get(metric, metric)
    if name not in cells.second[0]:
        return None
    one = {r["index"]: r for r in cells.published}
    both = [(one[r["index"]], r) for r in cells.second if r["index"] in one]
    a, b = (_column([pair[i] for pair in both], metric) for i in range(2))
    there = np.isfinite(a) & np.isfinite(b)
    return rho(a[there], b[there])


def _published_seconds(cells: Cells, metric: str) -> float | None:
    name = f"{COLUMNS.get(metric, metric).removesuffix('_M')}_time_s"
    if name not in cells.second[0]:
        return None
    return median(float(r[name]) for r in cells.second if r[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--dear-cells", type=int, default=40)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cells = Cells(asked.cells)
    quick = tuple(m for m in METRICS if m not in (*DEAR, *SLOW))
    groups = {"quick": (quick, asked.cells), **{m: ((m,), asked.cells) for m in SLOW}}
    groups |= {m: ((m,), min(asked.cells, asked.dear_cells)) for m in DEAR}
    figures: dict[str, Any] = {"batch_size": 64, "margin": MARGIN, "metrics": {}}
    for group, (metrics, count) in groups.items():
        rows = computed(cells, group, metrics, count)
        for m in metrics:
            seconds = median(r["notes"].get(f"seconds.{m}", r["seconds"]) for r in rows)
            for value in METRICS[m].components or (m,):
                found = compared(cells, value, [r["values"].get(value, math.nan) for r in rows])
                found |= {"seconds": seconds, "published_seconds": _published_seconds(cells, m)}
                figures["metrics"][value] = found
                print(value, json.dumps(found), flush=True)
    for m, seconds in alone(cells, quick).items():
        figures["metrics"][m]["seconds_alone"] = seconds
    figures["together"] = together(cells)
    figures["bit_equal"] = bit_equal(cells)
    print(json.dumps({k: figures[k] for k in ("together", "bit_equal")}, indent=1))
    record("training_free", figures, seeds=[SEED])


if __name__ == "__main__":
    main()
