"""Options and fixtures of the whole suite."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads this once a process: clusters of different tests must agree on it.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


def pytest_addoption(parser):
    parser.addoption(
        "--renew-golden",
        action="store_true",
        help="write tests/golden anew from what strategies propose now",
    )


def pytest_runtest_setup(item):
    """Tests of the marker ``cuda`` are skipped where no CUDA device is."""
    if item.get_closest_marker("cuda") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(scope="module")
def survival():
    """The benchmark of the same name, which tests run in small."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("survival")
    finally:
        sys.path.remove(folder)
