"""A run's journal for other tools to look at, never to write to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path


def storage(journal: Path) -> Any:
    """An Optuna storage of a journal that refuses every change.

    What a tool such as optuna-dashboard would write (notes, deletions) would lie between the trials of a
    search that goes on.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

    class ReadOnly(BaseJournalBackend):  # type: ignore[misc]
        def __init__(self) -> None:
            self._file = JournalFileBackend(str(journal))

        def read_logs(self, log_number_from: int) -> Any:
            return self._file.read_logs(log_number_from)

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            raise StorageError(f"{journal} is shown to be read only, got {len(logs)} changes")

    return JournalStorage(ReadOnly())
