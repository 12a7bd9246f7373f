"""Tables of the data folder, imported once for all benchmarks."""

from __future__ import annotations

import importlib
import os
from functools import cache
from pathlib import Path

from nas.table import SUFFIX, Table
from nas.tables import BUILTIN

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "tables"
"""Where tables are kept; git ignores it."""


@cache
def table(kind: str) -> Table:
    """A benchmark's table; the data folder is NAS_DATA, or ``../shared/data`` beside the project.

    Raises:
        BadInput: the data is not there, or a table of other data is: remove that.
    """
    return Table.open(table_file(kind))


def table_file(kind: str) -> Path:
    """The file of `table`, which is made where it is not there."""
    module, _, load = BUILTIN[kind].partition(":")
    draft = getattr(importlib.import_module(module), load)(data_folder(), None)
    draft.write(FOLDER / f"{kind}{SUFFIX}")
    return FOLDER / f"{kind}{SUFFIX}"


def data_folder() -> Path:
    """Where the converted measurements lie."""
    return Path(os.environ.get("NAS_DATA") or ROOT.parent / "shared" / "data")
