"""A small invented table of the same form as the real ones, for tests and examples: no training was run."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from nas.rng import stream
from nas.tables.draft import Draft
from nas.tables.sources import no_part

if TYPE_CHECKING:
    from pathlib import Path

EDGES = ("edge_0_1", "edge_0_2", "edge_1_2")
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
POINTS = 12
_WORTH = np.array([0.0, 0.5, 0.8, 1.0, 0.35])
_COST = np.array([0.0, 0.1, 1.0, 5.0, 0.6])


def load(path: Path | None = None, part: str | None = None) -> Draft:  # noqa: ARG001 - as every importer
    """The table: the 125 cells of three nodes, so that it fits ``{name: nasbench201, nodes: 3}``.

    Its accuracy curve, runs, seconds, sizes and two devices follow simple formulas with a little noise; the
    device ``tpu`` does not compile cells with pooling on the first edge.
    """
    no_part(part, "synthetic")
    cells = list(product(range(len(OPS)), repeat=len(EDGES)))
    codes = np.array(cells)
    rng = stream(0, "table", "synthetic")
    draft = Draft(
        "synthetic",
        "invented: no training was run",
        {},
        {edge: [OPS[c[i]] for c in cells] for i, edge in enumerate(EDGES)},
        complete=len(cells),
        notes=["every number follows a formula"],
    )
    first, across, second = _WORTH[codes].T
    worth = np.maximum(across, first * second) + 0.3 * first
    final = 0.1 + 0.6 * worth
    runs = [np.round(np.clip(final + rng.normal(0, 0.01, len(cells)), 0, 1), 4) for _ in range(3)]
    share = np.arange(1, POINTS + 1) / POINTS
    mean = np.mean(runs, axis=0)
    curve = np.round(0.1 + (mean - 0.1) * (1 - np.exp(-4 * share))[:, None] / (1 - np.exp(-4)), 6)
    names = [f"test_accuracy_run{i}" for i in range(3)]
    draft.add("valid_accuracy", curve, cost="train_seconds", fidelities=share.round(9).tolist())
    draft.add("test_accuracy", mean, cost="train_seconds", runs=names)
    for name, values in zip(names, runs, strict=True):
        draft.add(name, values)
    work = _COST[codes].sum(axis=1)
    draft.add("train_seconds", np.round(30 + 12 * work, 1), "s", "seconds")
    draft.add("params", np.round(5000 * (1 + work)), nature="static")
    draft.add(
        "gpu_latency_ms", np.round(1 + 0.2 * work + rng.uniform(0, 0.05, len(cells)), 3), "ms", "static"
    )
    tpu = np.where(codes[:, 0] == OPS.index("avg_pool_3x3"), np.nan, 0.5 + 0.1 * work)
    draft.add("tpu_latency_ms", tpu, "ms", "static", missing="it does not compile for the device")
    return draft
