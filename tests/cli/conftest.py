from __future__ import annotations

import pytest
from commands import QUICK, TRAINED, Terminal


@pytest.fixture
def nas(tmp_path, monkeypatch, capsys):
    """The command line, in a folder with ``own.py``, ``quick.yaml`` and ``trained.yaml``."""
    terminal = Terminal(tmp_path, monkeypatch, capsys)
    terminal.write("quick.yaml", QUICK)
    terminal.write("trained.yaml", TRAINED)
    return terminal


@pytest.fixture
def quick(nas):
    """The command line with a finished search of six trials in ``run``."""
    assert nas("search", "quick.yaml", "--out", "run").code == 0
    return nas


@pytest.fixture
def trained(nas):
    """The command line with a finished search of four trainings in ``run``."""
    assert nas("search", "trained.yaml", "--out", "run").code == 0
    return nas
