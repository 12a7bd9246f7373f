"""Fits the models of operations that ship with the toolkit to the public timings of four GPUs.

    python benchmarks/fit_gpu_ops.py

Writes ``nas/kernels/models/<device>.npz`` with a JSON header: arrays of trees, and where they come from, not
the timings. Held-out errors and intervals are those of models that saw four fifths of the operations; the
shipped ones saw all. One core, about 6 minutes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from imported import ROOT, data_folder

from nas.kernels.op_table import GPU_OPS, read_gpu_ops
from nas.kernels.predictor import fit

FOLDER = Path(ROOT) / "nas" / "kernels" / "models"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for device in GPU_OPS:
        models = fit(read_gpu_ops(data_folder() / "gpu_ops", device))
        notes = {**models.notes, "command": "python benchmarks/fit_gpu_ops.py"}
        dataclasses.replace(models, notes=notes).save(FOLDER / f"{device}.npz")
        print(device, models.notes["held_out_mape"], flush=True)
    print(sum(file.stat().st_size for file in FOLDER.iterdir()) / 1e6, "MB")


if __name__ == "__main__":
    main()
