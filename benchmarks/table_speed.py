"""Is a table of real trainings there at once, small in memory, and fast to ask?

Claims: all of NAS-Bench-201 with more than 20 columns of latencies and energies (device, batch size and
data set) opens within 0.3 s, adds at most 200 MB of resident memory when every value has been read, and
answers at least 1 million batched lookups a second. Every figure is that of a fresh process, which had
imported the toolkit before.

    python benchmarks/table_speed.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from imported import data_folder, table_file
from record import record

KIND = "nasbench201"
SEEDS = range(5)
BATCH = 100_000
BARS = {"open_seconds": 0.3, "resident_mb": 200.0, "lookups_per_second": 1e6}


def main() -> None:
    """Import into a new place, ask fresh processes, print the figures beside their bars, and keep them."""
    file = table_file(KIND)
    runs = [measured(file, seed) for seed in SEEDS]
    figures = {name: median(run[name] for run in runs) for name in runs[0]}
    figures["import_seconds"] = median(import_seconds() for _ in SEEDS)
    figures["file_mb"] = file.stat().st_size / 2**20
    for name, value in figures.items():
        bar = BARS.get(name)
        sense = ">=" if name.endswith("per_second") else "<="
        print(f"{name:<28}{value:>14,.4g}" + (f"   bar {sense} {bar:,.4g}" if bar else ""))
    print(record("table_speed", {"table": KIND, "batch": BATCH, "medians": figures, "bars": BARS}, SEEDS))


def import_seconds() -> float:
    """Reading the csv files and putting the table together, without writing it."""
    from nas.tables.nasbench201 import load

    start = time.perf_counter()
    load(data_folder()).packed()
    return time.perf_counter() - start


def measured(file: Path, seed: int) -> dict[str, float]:
    """What a fresh process finds."""
    command = [sys.executable, __file__, str(file), str(seed)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(out)
    return found


def probe(file: str, seed: int) -> dict[str, float]:
    """Open, look up, read everything, in this process."""
    from nas.table import Table

    before = resident_mb()
    start = time.perf_counter()
    table = Table.open(file)
    table.values("cifar10_hp12_valid_accuracy")[0]
    opened = time.perf_counter() - start
    sizes = [len(c.options) for c in table.columns]
    codes = np.random.default_rng(seed).integers(sizes, size=(BATCH, len(sizes)))
    table.find(codes[:1])
    lookups = BATCH / seconds_of(lambda: table.values("cifar10_hp12_valid_accuracy")[table.find(codes)])
    rows = table.find(codes)
    values = BATCH / seconds_of(lambda: table.values("cifar10_edgegpu_latency_ms")[rows])
    architectures = architectures_of(table, seed)
    exact = len(architectures) / seconds_of(lambda: table.rows(architectures))
    total = sum(float(np.nansum(table.values(name))) for name in table.metrics)
    assert np.isfinite(total)
    return {
        "open_seconds": opened,
        "resident_mb": resident_mb() - before,
        "lookups_per_second": lookups,
        "values_of_rows_per_second": values,
        "architectures_per_second": exact,
        "device_columns": sum("latency" in name or "energy" in name for name in table.metrics),
        "metrics": len(table.metrics),
        "rows": table.size,
    }


def architectures_of(table, seed: int) -> list:
    """1,000 random rows as architectures, as strategies hold them."""
    from nas.architecture import Architecture

    rows = np.random.default_rng(seed).integers(table.size, size=1_000)
    found = [Architecture(table.choices(int(row))) for row in rows]
    table.rows(found[:1])
    return found


def seconds_of(action) -> float:
    """The fastest of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def resident_mb() -> float:
    """Resident memory of this process, mapped files included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(probe(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
