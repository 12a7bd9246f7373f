"""Named contents that a run keeps beside its trials, each there whole or not at all."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from hashlib import blake2b
from typing import TYPE_CHECKING

from nas.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Files(ABC):
    """Contents by name; a name may have one folder before it (``sources/own.py``)."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A content; None where there is none.

        Raises:
            StorageError: it cannot be read.
        """

    @abstractmethod
    def keep(self, name: str, content: bytes) -> None:
        """Put a content in the place of what has this name; durable on return.

        Raises:
            StorageError: it cannot be written; what was there before still is.
        """

    def note(self, name: str, content: bytes) -> None:
        """The same for what is renewed all the time, and may be lost with the machine (not the process)."""
        self.keep(name, content)

    @abstractmethod
    def drop(self, name: str) -> None:
        """Have nothing of this name."""

    @abstractmethod
    def move(self, name: str, to: str) -> None:
        """Give what has a name another one, in the place of what has that."""


class FolderFiles(Files):
    """Files of a folder.

    Args:
        folder: that exists when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.folder / name} cannot be read: {error}") from error

    def keep(self, name: str, content: bytes) -> None:
        """Write beside the file, bring that to the disk, and rename it."""
        self._written(name, content, os.fsync)

    def note(self, name: str, content: bytes) -> None:
        """Write beside the file and rename that."""
        self._written(name, content, lambda _: None)

    def _written(self, name: str, content: bytes, settle: Callable[[int], None]) -> None:
        path = self.folder / name
        partial = path.with_name(path.name + ".part")
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                settle(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error}") from error

    def drop(self, name: str) -> None:
        """Delete a file if it is there."""
        try:
            (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self.folder / name} cannot be written: {error}") from error

    def move(self, name: str, to: str) -> None:
        """Rename a file if it is there."""
        try:
            (self.folder / name).replace(self.folder / to)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"{self.folder / name} cannot be moved: {error}") from error


def checksum(content: bytes | memoryview) -> str:
    """32 hexadecimal digits of a content."""
    return blake2b(content, digest_size=16).hexdigest()
