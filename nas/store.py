"""Where a run lives: its trials, what describes it, who works on it, and what others ask of it."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Literal, TypeAlias, final

from nas.errors import StorageError
from nas.files import Files, FolderFiles
from nas.history import OptunaHistory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nas.objective import Objective
    from nas.space import Space

Request: TypeAlias = Literal["run", "pause", "stop"]
REQUESTS: tuple[Request, ...] = ("run", "pause", "stop")
"""What may be asked of a run: to go on, to begin nothing new until that is asked, or to end."""
DESCRIPTION, CONFIG = "run.json", "config.json"
"""Names of what a run is, and of the config that it was started with."""
JOURNAL, LOCK, ASKED = "journal.log", "lock", "request"
"""Names in a run's folder."""


class Store(Files):
    """A run's place: its files, its trials, one owner at a time, and the request of everyone else."""

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether it holds a run."""

    @abstractmethod
    def own(self) -> None:
        """Become the one who works on the run; whatever was asked of the last one is forgotten.

        Raises:
            StorageError: another process is, which is named; or it cannot be written.
        """

    @abstractmethod
    def release(self) -> None:
        """Let others work on the run, and let go of what is open."""

    @abstractmethod
    def owner(self) -> str | None:
        """Who works on the run, as "pid on host"; None when nobody does."""

    @abstractmethod
    def check(self) -> None:
        """Make sure that this process still owns the run.

        Raises:
            StorageError: another one has taken it over, which is named.
        """

    @abstractmethod
    def beat(self) -> Request:
        """Say that this owner lives, and hear what is asked of it; called about once a second.

        Raises:
            StorageError: another one has taken the run over.
        """

    @abstractmethod
    def request(self) -> Request:
        """What is asked of the run."""

    @abstractmethod
    def ask(self, request: Request) -> None:
        """Ask something of the run's owner, who hears it within about a second."""

    @abstractmethod
    def history(self, space: Space, objectives: Sequence[Objective], writer: str) -> OptunaHistory:
        """The run's trials, to be read or (by its owner) written."""

    @abstractmethod
    def mirror(self, folder: Path) -> None:
        """Put copies of what describes the run into a folder, where a program on this machine finds them."""


def _locked(lock: int) -> bool:
    """Whether the lock could be taken; who only looks for an owner holds it for a moment, too."""
    for _ in range(5):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


@final
class FolderStore(FolderFiles, Store):
    """A run in a folder: a journal file, and a lock that its owner holds as long as it lives.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._lock: int | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a description."""
        return (self.folder / DESCRIPTION).is_file()

    def own(self) -> None:
        """Make the folder and take its lock."""
        try:
            for name in ("logs", "weights"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT)
            if not _locked(lock):
                os.close(lock)
                owner = (self.folder / LOCK).read_text().strip() or "that has just started"
                raise in_use(self, owner, "wait for it or stop it")
            os.truncate(lock, 0)
            os.write(lock, f"{process()}\n".encode())
        except OSError as error:
            raise StorageError(f"the run's folder {self.folder} cannot be written: {error}") from error
        self._lock = lock
        self.drop(ASKED)

    def release(self) -> None:
        """Drop the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def owner(self) -> str | None:
        """Who holds the lock."""
        try:
            with (self.folder / LOCK).open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return lock.read().strip()
        except OSError:
            return None
        return None

    def check(self) -> None:
        """Nobody can take a lock from a process that lives."""

    def beat(self) -> Request:
        """The lock says that the owner lives."""
        return self.request()

    def request(self) -> Request:
        """What stands in the file `ASKED`; "run" where there is none."""
        asked = (self.read(ASKED) or b"run").decode(errors="replace").strip()
        return asked if asked in REQUESTS else "run"

    def ask(self, request: Request) -> None:
        """Write the file."""
        self.note(ASKED, request.encode())

    def history(self, space: Space, objectives: Sequence[Objective], writer: str) -> OptunaHistory:
        """The journal."""
        return OptunaHistory(self.folder / JOURNAL, space, objectives, files=self, writer=writer)

    def mirror(self, folder: Path) -> None:
        """Nothing to do: whoever has the store has the folder."""


def process() -> str:
    """This process, as owners are named."""
    return f"{os.getpid()} on {platform.node()}"


def in_use(store: Store, owner: str, remedy: str) -> StorageError:
    """The error for a run that another process works on."""
    return StorageError(f"{store} is in use by process {owner}; {remedy}")
