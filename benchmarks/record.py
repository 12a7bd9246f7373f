"""Writes what a benchmark found, with all that is needed to find it again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "torch", "optuna", "pymoo", "scikit-learn")


def record(name: str, figures: Mapping[str, Any], seeds: Sequence[int]) -> Path:
    """Write ``results/<name>.json``.

    Args:
        name: the benchmark's file name without its ending.
        figures: JSON values: what was measured, in units that the names end with.
        seeds: all that were run.

    Returns:
        The file.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    data = {
        "command": f"python benchmarks/{name}.py",
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "seeds": list(seeds),
        "figures": figures,
    }
    path.write_text(json.dumps(data, indent=1) + "\n")
    return path


def _commit() -> str:
    """The commit, with a plus sign when tracked files differ from it; ``uncommitted`` before the first."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True, check=False
        )

    head = git("rev-parse", "--verify", "HEAD")
    if head.returncode:
        return "uncommitted"
    changed = git("diff", "--quiet", "HEAD", "--", "..", ":(exclude)results").returncode
    return head.stdout.strip() + ("+" if changed else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
