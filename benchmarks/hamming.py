"""Are Hamming distances on packed bits cheaper than by matrix products?

    python benchmarks/hamming.py

Codes of 64 and 128 samples by 100,000, 446,464 (all ReLUs of a cell of NAS-Bench-201 with five convolutions)
and a million units, five seeds each. Every figure is that of a fresh process with one thread: the median of
five calls in seconds, and by how much calling raised the peak of resident memory beyond the codes themselves.
``gemm`` is the reference, two products of float32 0/1 matrices; both give the same integers. Three minutes
on 2 cores.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from statistics import median

from record import record

BATCHES = (64, 128)
UNITS = (100_000, 446_464, 1_000_000)
SEEDS = range(5)
WAYS = ("packed", "gemm")


def measured(way: str, batch: int, units: int, seed: int) -> dict[str, float]:
    """Seconds, added MB and the sum of the distances, of one way in this process."""
    import torch

    from nas.kernels.hamming import hamming, reference

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2, (batch, units), dtype=torch.bool, generator=generator)
    distances = {"packed": hamming, "gemm": reference}[way]
    distances(codes[:, :640])
    before, seconds = peak_mb(), []
    for _ in range(5):
        start = time.perf_counter()
        found = distances(codes)
        seconds.append(time.perf_counter() - start)
    return {"seconds": median(seconds), "added_mb": peak_mb() - before, "sum": int(found.sum())}


def peak_mb() -> float:
    """The most resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fresh(way: str, batch: int, units: int, seed: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, way, str(batch), str(units), str(seed)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(out)
    return found


def main() -> None:
    """All sizes by both ways."""
    rows = []
    for batch in BATCHES:
        for units in UNITS:
            found = {way: [fresh(way, batch, units, seed) for seed in SEEDS] for way in WAYS}
            assert [r["sum"] for r in found["packed"]] == [r["sum"] for r in found["gemm"]]
            row: dict[str, float] = {"batch": batch, "units": units}
            for way, runs in found.items():
                row[f"{way}_seconds"] = median(r["seconds"] for r in runs)
                row[f"{way}_added_mb"] = median(r["added_mb"] for r in runs)
            row["speedup"] = row["gemm_seconds"] / row["packed_seconds"]
            rows.append(row)
            print(" ".join(f"{name}={value:.4g}" for name, value in row.items()), flush=True)
    print(record("hamming", {"rows": rows}, SEEDS))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        way, *sizes = sys.argv[1:]
        print(json.dumps(measured(way, *map(int, sizes))))
    else:
        main()
