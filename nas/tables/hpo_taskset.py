"""TaskSet: 1,000 settings of Adam with decays, on six recurrent text classifiers, with learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nas.tables.draft import Draft
from nas.tables.sources import checksum, found, no_part, read_npz

if TYPE_CHECKING:
    from pathlib import Path

FETCH = "taskset_adam8p_6tasks.npz, converted from TaskSet (Metz et al. 2020)"


def load(path: Path, part: str | None = None) -> Draft:
    """Read the settings and the curves; losses that are not numbers are masked as diverged.

    A curve has 51 points, evenly spaced over the schedule; the first one is untrained. No time was recorded.

    Raises:
        BadInput: the file is missing or damaged.
    """
    no_part(part, "hpo_taskset")
    file = found(path, ("hpo_tabular/taskset_adam8p_6tasks.npz", "taskset_adam8p_6tasks.npz"), FETCH)
    arrays = read_npz(file, ("hp", "hp_names", "task_names"))
    decisions: dict[str, Any] = {}
    for name, values in zip(arrays["hp_names"].tolist(), arrays["hp"].T, strict=True):
        beta = name.startswith("beta")
        decisions[f"one_minus_{name}" if beta else name] = 1 - values if beta else values
    draft = Draft("hpo_taskset", "Metz et al. 2020 (TaskSet)", {file.name: checksum(file)}, decisions)
    for task in arrays["task_names"].tolist():
        for split in ("train", "valid", "test"):
            curve = arrays[f"{task}__{split}_loss"].T
            name = f"{task}_{split}_loss"
            curve = draft.mask(name, curve, ~np.isfinite(curve), "training diverged")
            points = np.linspace(0.0, 1.0, len(curve)).round(9).tolist()
            draft.add(name, curve, "nat", fidelities=points, missing=DIVERGED)
    return draft


DIVERGED = "training diverged"
