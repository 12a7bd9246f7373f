"""How good is each of the 125 three-node cells of NAS-Bench-201's space when it is trained on its own?

    python benchmarks/cell125.py            # trains what is missing; kill it and start it again at will
    python benchmarks/cell125.py --write    # makes nas/tables/cell125.table of what there is

Every cell, in a network of one cell a stage at 8 channels, is trained three times on Fashion-MNIST at 14×14
pixels: 8,000 images to train on, 4,000 for validation after each epoch, all 10,000 test images at the end.
Training is that of the evaluator ``training`` under run seed 0, whose replicates 0, 1 and 2 are the three
runs, so that anything else can be trained just as the cells were. Each finished training is a line of
``benchmarks/.cell125/trainings.jsonl``; the runs come one after another, so that a part is of use. When all
375 are there, ``--write`` records how well the runs agree. One thread; about 65 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from itertools import combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from record import record
from scipy.stats import kendalltau

from nas.errors import Diverged, must
from nas.estimators.cost import CostEvaluator
from nas.estimators.training import TrainingEvaluator
from nas.proposal import Measurement, Proposal
from nas.spaces.nasbench201 import OPS, NasBench201Space
from nas.table import SHIPPED, SUFFIX
from nas.tables.draft import Draft
from nas.tables.sources import checksum
from nas.tasks.fashion_mnist import FashionMnist

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from nas.architecture import Architecture
    from nas.task import Task

FOLDER = Path(__file__).parent / ".cell125"
TABLE = SHIPPED / f"cell125{SUFFIX}"
TASK: dict[str, Any] = {"limit": 12_000, "val_share": 1 / 3, "resolution": 14}
NETWORK: dict[str, Any] = {"nodes": 3, "channels": 8, "cells": 1}
RECIPE: dict[str, Any] = {"epochs": 4, "optimizer": "sgd", "lr": 0.1, "schedule": "cosine", "batch_size": 128}
RUNS = 3
SEED = 0
BEST = 25
"""Cells among which the agreement of runs is told apart."""


# --- training ---------------------------------------------------------------------------------------------


def cells(space: NasBench201Space) -> list[Architecture]:
    """All cells, the last edge changing fastest."""
    names = [leaf.name for leaf in space.leaves]
    return [space.architecture(dict(zip(names, ops, strict=True))) for ops in product(OPS, repeat=len(names))]


def train(
    space: NasBench201Space, task: Task, recipe: Mapping[str, Any], cell: Architecture, run: int
) -> dict[str, Any]:
    """One training from scratch: accuracies, None where it diverged, and the processor's seconds."""
    epochs = recipe["epochs"]
    row: dict[str, Any] = {"cell": dict(cell.to_json()), "run": run}
    with TemporaryDirectory() as folder:
        evaluator = TrainingEvaluator(space, task, **recipe, folder=Path(folder))
        began = time.process_time()
        try:
            told = list(_epoch_by_epoch(evaluator, cell, run, epochs))
        except Diverged:
            return {**row, "valid_accuracy": [None] * epochs, "test_accuracy": None, "cpu_seconds": None}
        seconds = time.process_time() - began
        last = told[-1]
        assert last.weights is not None
        test = evaluator.score(Proposal(cell, ("accuracy",), replicate=run), last.weights, "test")
    return {
        **row,
        "valid_accuracy": [m.values["accuracy"] for m in told],
        "test_accuracy": test["accuracy"],
        "cpu_seconds": round(seconds, 2),
    }


def _epoch_by_epoch(
    evaluator: TrainingEvaluator, cell: Architecture, run: int, epochs: int
) -> Iterator[Measurement]:
    for epoch in range(1, epochs + 1):
        continued = epoch - 2 if epoch > 1 else None
        proposal = Proposal(cell, ("accuracy",), fidelity=epoch / epochs, replicate=run, continues=continued)
        outcome = evaluator.evaluate([proposal], seed=SEED)[0]
        assert isinstance(outcome, Measurement)
        yield outcome


def train_all(
    space: NasBench201Space,
    task: Task,
    recipe: Mapping[str, Any],
    chosen: Sequence[Architecture],
    file: Path,
    runs: int = RUNS,
) -> list[dict[str, Any]]:
    """Rows of all trainings of the chosen cells, of which those that the file lacks are done now."""
    rows = opened(file, settings(task, recipe))
    done = {(space.architecture(row["cell"]).key, row["run"]) for row in rows}
    missing = [(run, cell) for run in range(runs) for cell in chosen if (cell.key, run) not in done]
    began = time.monotonic()
    for i, (run, cell) in enumerate(missing, 1):
        row = {**train(space, task, recipe, cell, run), "date": datetime.now(UTC).date().isoformat()}
        append(file, row)
        rows.append(row)
        left = (time.monotonic() - began) / i * (len(missing) - i) / 60
        final = row["valid_accuracy"][-1], row["test_accuracy"]
        print(f"{len(rows)}/{runs * len(chosen)}", run, space.to_string(cell), *final, f"{left:.0f} min left")
    return rows


# --- the file of trainings --------------------------------------------------------------------------------


def settings(task: Task, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """All that must be equal for trainings to stand in one file."""
    machine = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    asked = {"task": task.fingerprint(), "network": NETWORK, "recipe": dict(recipe), "seed": SEED}
    return {**asked, "torch": torch.__version__, "machine": machine}


def opened(file: Path, header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a file that has this header; a new file gets it, and a line that was cut short goes.

    Raises:
        BadInput: the file has another header.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    content = file.read_bytes() if file.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(file, len(whole))
    if not whole:
        append(file, header)
        return []
    first, *rows = map(json.loads, whole.splitlines())
    if first != header:
        raise must(str(file), f"hold trainings under {header}", first, "choose another --folder")
    return rows


def append(file: Path, row: Mapping[str, Any]) -> None:
    """One more line, on the disk when this returns."""
    with file.open("a") as lines:
        lines.write(json.dumps(row) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


# --- the table --------------------------------------------------------------------------------------------


def drafted(
    space: NasBench201Space, task: Task, recipe: Mapping[str, Any], file: Path, runs: int = RUNS
) -> Draft:
    """The table of all cells; what was not trained yet is missing."""
    header, *rows = map(json.loads, file.read_bytes().splitlines())
    chosen = cells(space)
    place = {cell.key: i for i, cell in enumerate(chosen)}
    curves = np.full((runs, recipe["epochs"], len(chosen)), np.nan)
    tests, seconds = np.full((2, runs, len(chosen)), np.nan)
    for row in rows:
        at = row["run"], place[space.architecture(row["cell"]).key]
        for array, name in ((tests, "test_accuracy"), (seconds, "cpu_seconds")):
            array[at] = np.array(row[name], dtype=float)  # None, where it diverged, becomes NaN
        curves[at[0], :, at[1]] = np.array(row["valid_accuracy"], dtype=float)
    draft = Draft(
        "cell125",
        "trained by benchmarks/cell125.py",
        {file.name: checksum(file)},
        {leaf.name: [cell[leaf.name] for cell in chosen] for leaf in space.leaves},
        complete=len(chosen),
        notes=_provenance(header, rows, task, runs * len(chosen)),
    )
    _add_trained(draft, curves, tests, seconds)
    _add_costs(draft, space, task, chosen)
    return draft


def _add_trained(draft: Draft, curves: NDArray[Any], tests: NDArray[Any], seconds: NDArray[Any]) -> None:
    epochs = curves.shape[1]
    shares = [round(i / epochs, 9) for i in range(1, epochs + 1)]
    why, cost = "it was not trained, or diverged", "train_seconds"
    names = [f"valid_accuracy_run{run}" for run in range(len(curves))]
    draft.add("valid_accuracy", _mean(curves), cost=cost, runs=names, fidelities=shares, missing=why)
    for name, curve in zip(names, curves, strict=True):
        draft.add(name, curve, cost=cost, fidelities=shares, missing=why)
    names = [f"test_accuracy_run{run}" for run in range(len(tests))]
    draft.add("test_accuracy", _mean(tests), cost=cost, runs=names, missing=why)
    for name, values in zip(names, tests, strict=True):
        draft.add(name, values, missing=why)
    draft.add("train_seconds", _mean(seconds), "s", "seconds", missing=why)


def _add_costs(draft: Draft, space: NasBench201Space, task: Task, chosen: Sequence[Architecture]) -> None:
    names = ("params", "macs")
    told = CostEvaluator(space, task).evaluate([Proposal(cell, names) for cell in chosen], seed=SEED)
    counted = [outcome.values for outcome in told if isinstance(outcome, Measurement)]
    for name in names:
        draft.add(name, np.array([values[name] for values in counted]), nature="static")


def _mean(values: NDArray[Any]) -> NDArray[Any]:
    """Mean over the runs, the first axis, that are there; NaN where none is."""
    there = np.isfinite(values)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.where(there.any(axis=0), total / np.maximum(1, there.sum(axis=0)), np.nan)


def _provenance(
    header: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], task: Task, whole: int
) -> list[str]:
    dates = sorted({row["date"] for row in rows}) or ["never"]
    counts = ", ".join(f"{task.count(split):,} {split}" for split in ("train", "val", "test"))
    return [
        f"{len(rows)} of {whole} trainings, {dates[0]} to {dates[-1]}; runs are replicates 0, 1, … of the "
        f"evaluator training under run seed {header['seed']}",
        f"network: nasbench201 with {json.dumps(header['network'])}",
        f"task: fashion_mnist with {json.dumps(TASK)}: {counts} images of shape {task.input_shape}",
        f"recipe: {json.dumps(header['recipe'])}, else the defaults of training",
        f"torch {header['torch']}, {header['machine']}; train_seconds are processor time of one thread",
    ]


# --- how well runs agree ----------------------------------------------------------------------------------


def figures(draft: Draft) -> dict[str, Any]:
    """Agreement of runs, of validation with test, and how far cells lie apart beside runs of one cell."""
    valid = np.stack([draft.arrays[f"valid_accuracy_run{run}"][-1] for run in range(RUNS)])
    tests = np.stack([draft.arrays[f"test_accuracy_run{run}"] for run in range(RUNS)])
    mean = tests.mean(axis=0)
    best = np.argsort(-mean, kind="stable")[:BEST]
    chosen = {name: list(values) for name, values in draft.decisions.items()}
    return {
        "test_tau_of_runs": _taus(tests),
        "valid_tau_of_runs": _taus(valid),
        f"test_tau_of_runs_among_the_best_{BEST}": _taus(tests[:, best]),
        "tau_of_mean_valid_and_mean_test": float(kendalltau(valid.mean(axis=0), mean)[0]),
        "tau_of_mean_test_and": {n: float(kendalltau(draft.arrays[n], mean)[0]) for n in ("params", "macs")},
        "test_deviation_of_runs": float(np.sqrt(tests.var(axis=0, ddof=1).mean())),
        f"test_deviation_of_runs_of_the_best_{BEST}": float(
            np.sqrt(tests[:, best].var(axis=0, ddof=1).mean())
        ),
        "test_quantiles_of_cells": {
            str(q): float(np.quantile(mean, q)) for q in (0, 0.25, 0.5, 0.75, 0.9, 1)
        },
        "best_cells": [
            {**{n: v[i] for n, v in chosen.items()}, "test_accuracy": float(mean[i])} for i in best[:5]
        ],
        "cpu_minutes": float(np.nansum(draft.arrays["train_seconds"]) * RUNS / 60),
    }


def _taus(runs: NDArray[Any]) -> list[float]:
    return [float(kendalltau(a, b)[0]) for a, b in combinations(runs, 2)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--write", action="store_true", help="make the table instead of training")
    asked = parser.parse_args()
    file = asked.folder / "trainings.jsonl"
    task = FashionMnist(**TASK)
    space = NasBench201Space(task, **NETWORK)
    if not asked.write:
        train_all(space, task, RECIPE, cells(space), file)
        return
    draft = drafted(space, task, RECIPE, file)
    TABLE.write_bytes(draft.packed())
    print(*draft.notes, TABLE, sep="\n")
    if not any(np.isnan(values).any() for values in draft.arrays.values()):
        found = figures(draft)
        print(json.dumps(found, indent=1), record("cell125", found, seeds=range(RUNS)))


if __name__ == "__main__":
    main()
