"""Options and fixtures of the whole suite."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads this once a process: clusters of different tests must agree on it.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


def pytest_addoption(parser):
    parser.addoption(
        "--renew-golden",
        action="store_true",
        help="write tests/golden anew from what strategies propose now",
    )
