"""Times the networks of this folder on this machine and writes result.json.

    python3 measure.py [--passes N] [--seconds S] [--out FILE]

Needs Python 3.8 or later, numpy and onnxruntime; everything else is in the folder. Networks are timed in
turn, several times over; where the first and the last pass differ, the machine was busy: it is tried again.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCHEMA = 1
DRIFT = 0.1
TRIES = 3


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def session(path: Path, threads: int) -> Any:
    """A network with all optimisations, on so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def readings(run: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of single runs: three to warm up, then as many as fit, at least five."""
    for _ in range(3):
        run()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        found.append(1e3 * (time.perf_counter() - start))
    return found


def measured(
    runs: dict[str, Callable[[], object]],
    passes: int,
    seconds: float,
) -> tuple[dict[str, list[list[float]]], float]:
    """All readings of each pass, by network, and how much the last pass differs from the first."""
    found: dict[str, list[list[float]]] = {name: [] for name in runs}
    gc.disable()
    for number in range(passes):
        sys.stderr.write(f"pass {number + 1} of {passes}\n")
        for name, run in runs.items():
            found[name].append(readings(run, seconds))
    gc.enable()
    ends = [np.median(p[-1]) / np.median(p[0]) for p in found.values()]
    return found, float(np.exp(abs(np.log(np.median(ends)))) - 1)


def summary(passes: Sequence[Sequence[float]]) -> dict[str, float]:
    """Median over the passes' medians, p10 and p90 over all readings."""
    every = np.concatenate([np.array(p) for p in passes])
    return {
        "median_ms": float(np.median([np.median(p) for p in passes])),
        "p10_ms": float(np.quantile(every, 0.1)),
        "p90_ms": float(np.quantile(every, 0.9)),
        "runs": len(every),
    }


def machine() -> dict[str, Any]:
    """What is known of this machine."""
    return {
        "processor": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "node": platform.node(),
        "cores": os.cpu_count(),
    }


def checked(folder: Path) -> Any:
    """The manifest; a file that is not the one it names ends the program."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for entry in [*manifest["nets"], manifest["inputs"]]:
        if sha256(folder / entry["file"]) != entry["sha256"]:
            sys.exit(f"{entry['file']} is not the file that was packed; copy the folder again")
    return manifest


def prepared(folder: Path, manifest: Any) -> dict[str, Callable[[], object]]:
    """What runs each network on its input."""
    inputs = np.load(str(folder / manifest["inputs"]["file"]))

    def runs(net: Any) -> Callable[[], object]:
        ready = session(folder / net["file"], manifest["threads"])
        feed = {ready.get_inputs()[0].name: inputs[net["name"]]}
        return lambda: ready.run(None, feed)

    return {net["name"]: runs(net) for net in manifest["nets"]}


def main() -> None:
    """Measure, and write the result."""
    folder = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Times the networks of this folder.")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each network in each pass")
    parser.add_argument("--out", type=Path, default=folder / "result.json")
    given = parser.parse_args()
    manifest = checked(folder)
    runs = prepared(folder, manifest)
    for _ in range(TRIES):
        found, drift = measured(runs, given.passes, given.seconds)
        if drift <= DRIFT:
            break
        sys.stderr.write(f"passes differ by {drift:.0%}: the machine is busy\n")
    result = {
        "schema": SCHEMA,
        "manifest": sha256(folder / "manifest.json"),
        "target": manifest["target"],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "drift": drift,
        "nets": {name: summary(passes) for name, passes in found.items()},
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stderr.write(f"{given.out}\n")


if __name__ == "__main__":
    main()
