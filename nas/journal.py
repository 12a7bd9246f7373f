"""The journal file: Optuna's format, with lines that the disk confirms together."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@final
class Journal:
    """A file that Optuna's journal storage reads and appends to.

    Optuna's own backend waits for the disk at every line, which with many places takes most of a driver's
    time. This one leaves that to `confirm`, so that trials that ended together are confirmed together.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Any = None

    @property
    def storage(self) -> Any:
        """An Optuna storage on this file, which is made if there is none."""
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self._reader = JournalFileBackend(str(self._path))
        return JournalStorage(self)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._path.stat().st_size

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Lines from a number on; for Optuna."""
        yield from self._reader.read_logs(log_number_from)

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Append lines in one write, so that others who append to the same file cannot split them."""
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in logs).encode()
        with self._path.open("ab", buffering=0) as file:
            written = file.write(text)
        if written != len(text):
            raise OSError(f"{written} of {len(text)} bytes could be written")

    def confirm(self) -> None:
        """Wait until the disk has all that was appended."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def cut(self, size: int) -> None:
        """Take back what was appended beyond a size."""
        os.truncate(self._path, size)

    def repair(self) -> int:
        """Cut what a killed owner left half written, and take away its lock; gives the bytes cut."""
        # There is one owner at a time, so a lock is a dead one's; Optuna would wait half a minute for it.
        self._path.with_name(f"{self._path.name}.lock").unlink(missing_ok=True)
        return truncate_torn_tail(self._path)


def truncate_torn_tail(path: Path) -> int:
    """Cut a journal after its last complete line, and give the number of bytes cut.

    A kill or a full disk can leave half a line; whatever is appended behind it would be unreadable.
    """
    if not path.is_file():
        return 0
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep:
            start = max(0, keep - 65536)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)
    return end - keep
