"""A run's folder, opened to be read while its search may still go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from nas.result import Result


def opened(run: Path) -> Result:
    """The parts, trials and weights of a run, wherever its folder and the user's sources are now.

    Raises:
        BadInput: the folder holds no run.
        StorageError: its journal cannot be read.
    """
    from nas import sources
    from nas.config import search_of, stored
    from nas.errors import must
    from nas.history import OptunaHistory
    from nas.parts import Parts
    from nas.result import Result

    parts = Parts(sources.from_run(search_of(*stored(run)), run), run)
    journal = run / "journal.log"
    if not journal.is_file():
        raise must("run", "hold a journal", str(journal))
    return Result(parts, OptunaHistory(journal, parts.space, parts.objectives, writer="reader"), run)
