"""A strategy's state: arrays and JSON values with their checksum, never pickles."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from nas.errors import StorageError, must
from nas.files import checksum

if TYPE_CHECKING:
    from nas.files import Files

SNAPSHOT, PREVIOUS = "snapshot.npz", "snapshot.previous.npz"
"""Names of the last state and of the one before it."""
HEAD = b"nas snapshot "
"""What stands before the checksum; files without it are of versions that kept none."""

log = logging.getLogger(__name__)


def save_snapshot(files: Files, state: Mapping[str, Any], told: int) -> None:
    """Keep a state and how many trials were told before it; the one before stays until that is done.

    Raises:
        BadInput: the state holds something that is neither an array nor JSON.
        StorageError: it cannot be written.
    """
    content = packed(state, told)
    if _readable(files, SNAPSHOT) is not None:
        files.move(SNAPSHOT, PREVIOUS)
    files.keep(SNAPSHOT, content)


def saved_snapshot(files: Files) -> tuple[Mapping[str, Any], int] | None:
    """The last whole state; None where there is none, and everything has to be told again."""
    return next(saved_snapshots(files), None)


def saved_snapshots(files: Files) -> Iterator[tuple[Mapping[str, Any], int]]:
    """The whole states that are there, the last one first."""
    for name in (SNAPSHOT, PREVIOUS):
        found = _readable(files, name)
        if found is not None:
            yield found


def _readable(files: Files, name: str) -> tuple[Mapping[str, Any], int] | None:
    """A state, if it is there and whole; what is wrong with it is logged."""
    content = files.read(name)
    if content is None:
        return None
    try:
        return unpacked(content)
    except StorageError as error:
        log.warning("%s in %s is passed over: %s", name, files, error)
        return None


def packed(state: Mapping[str, Any], told: int) -> bytes:
    """Arrays and JSON values as one npz file behind a checksum.

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
    file = io.BytesIO()
    np.savez(file, **arrays)
    content = file.getvalue()
    return HEAD + checksum(content).encode() + b"\n" + content


def unpacked(content: bytes) -> tuple[Mapping[str, Any], int]:
    """What `packed` packed.

    Raises:
        StorageError: it is damaged.
    """
    if content.startswith(HEAD):
        head, _, content = content.partition(b"\n")
        if head != HEAD + checksum(content).encode():
            raise StorageError("the snapshot is damaged: its checksum is another")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
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
        raise StorageError(f"the snapshot is damaged: {error}") from error
