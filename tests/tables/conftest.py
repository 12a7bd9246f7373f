"""Where the benchmarks' data lies, and tables of it that are made once."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import pytest

from nas.table import Table
from nas.tables import BUILTIN

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data():
    """The data folder."""
    folder = Path(os.environ.get("NAS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the data folder is absent: set NAS_DATA")
    return folder


def load(kind):
    module, _, attribute = BUILTIN[kind].partition(":")
    return getattr(import_module(module), attribute)


@pytest.fixture(scope="session")
def imported(data, tmp_path_factory):
    """What gives the table of a kind, imported once."""
    made = {}

    def table(kind, part=None):
        if (kind, part) not in made:
            if kind == "hw_gpt_bench":
                pytest.importorskip("pyarrow", reason="pyarrow reads the parquet file")
            out = tmp_path_factory.mktemp("tables") / f"{kind}.table"
            load(kind)(data, part).write(out)
            made[kind, part] = Table.open(out)
        return made[kind, part]

    return table
