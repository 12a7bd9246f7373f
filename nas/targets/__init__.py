"""Machines that latency, memory and energy refer to, a data file each."""

from pathlib import Path

FOLDER = Path(__file__).parent

BUILTIN = {
    "host": "nas.target:host",
    **{file.stem: f"nas.targets.files:{file.stem}" for file in sorted(FOLDER.glob("*.yaml"))},
}
