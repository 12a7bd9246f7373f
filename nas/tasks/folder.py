"""Where the files of a task are."""

from __future__ import annotations

import os
from pathlib import Path

from nas.errors import must


def data_folder(setting: str | Path | None, names: tuple[str, ...], wanted: str) -> Path:
    """The folder of a task's files.

    Args:
        setting: the task's ``data``; None looks for ``names`` in the folder that the environment variable
            NAS_DATA names, then in ``../shared/data``.
        names: folders to look for, in order.
        wanted: the files that are needed, for the error.

    Raises:
        BadInput: there is no such folder.
    """
    if setting is not None:
        if not Path(setting).is_dir():
            raise must("data", f"be a folder with {wanted}", str(setting))
        return Path(setting)
    named = os.environ.get("NAS_DATA")
    roots = ([Path(named)] if named else []) + [Path("..", "shared", "data")]
    for root in roots:
        for name in names:
            if (root / name).is_dir():
                return root / name
    raise must("data", f"be a folder with {wanted}", None, "set data: or the variable NAS_DATA")
