"""A strategy's state as one file: arrays and JSON values, never pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from nas.errors import StorageError, must

if TYPE_CHECKING:
    from pathlib import Path


def write_snapshot(path: Path, state: Mapping[str, Any], told: int) -> None:
    """Write arrays and JSON values to one npz file, atomically.

    Raises:
        BadInput: the state holds something that is neither an array nor JSON.
    """
    arrays: dict[str, Any] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            arrays[f"a{len(arrays)}"] = value
            return {"__array__": f"a{len(arrays) - 1}"}
        if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        if isinstance(value, str | int | float | bool | None):
            return value
        raise must("a snapshot", "hold arrays, and JSON values with text keys, only", value)

    text = json.dumps({"told": told, "state": plain(state)})
    arrays["json"] = np.frombuffer(text.encode(), dtype=np.uint8)
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_snapshot(path: Path) -> tuple[Mapping[str, Any], int]:
    """What `write_snapshot` wrote.

    Raises:
        StorageError: the file is damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            data = json.loads(file["json"].tobytes().decode())

            def restored(value: Any) -> Any:
                if isinstance(value, dict):
                    return (
                        file[value["__array__"]]
                        if "__array__" in value
                        else {k: restored(v) for k, v in value.items()}
                    )
                return [restored(v) for v in value] if isinstance(value, list) else value

            return restored(data["state"]), int(data["told"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StorageError(f"the snapshot {path} is damaged: {error}") from error
