"""A run, found by its folder or by its name in a storage, and opened to be read while its search goes on."""

from __future__ import annotations

import shlex
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nas.database_store import DatabaseStore
    from nas.parts import Search
    from nas.result import Result
    from nas.store import Request, Store

RUNS = Path("runs")
"""Where commands put runs that are given no folder."""
SHOWN = 16
"""Runs that are listed where another one was named."""


@final
@dataclass(frozen=True)
class Found:
    """Where a run is.

    Attributes:
        folder: that describes it; a copy where it is kept in a database.
        out: where commands put what they make of it.
        store: that keeps it.
        search: as it was asked for, with the run's own copies of the user's sources.
        words: by which a command line names the run.
        discard: takes away the copy.
    """

    folder: Path
    out: Path
    store: Store
    search: Search
    words: str
    discard: Callable[[], object] = lambda: None

    def close(self) -> None:
        """Let go of the store and the copy, for who looks again and again."""
        self.store.release()
        self.discard()


def found(run: Path | None, storage: str | None, name: str | None) -> Found:
    """Find a run by its folder, or by its name in a storage.

    Args:
        run: folder of the run.
        storage: URL; beside a folder in the place of the one that the run was started with.
        name: of the run in the storage.

    Raises:
        BadInput: there is no such run, or too much or too little was given to name it.
        StorageError: the storage cannot be opened.
    """
    from nas.database import hidden
    from nas.database_store import DatabaseStore
    from nas.errors import must

    if run is None and storage is not None and name is not None:
        return _in_storage(storage, name)
    if run is None or name is not None:
        given = {"RUN": None if run is None else str(run), "--run": name}
        raise must("the run", "be given as RUN, or as --storage URL and --run NAME", given)
    _check_folder(run)
    search = _search(run, storage)
    store = _store(search, run)
    if storage is not None and isinstance(store, DatabaseStore) and not store.exists:
        raise must("--storage", f"hold the run {store.run}", hidden(storage), _kept(store))
    return Found(run, run, store, search, shlex.quote(str(run)))


def _in_storage(storage: str, name: str) -> Found:
    """A run of a storage, described in a temporary folder that goes with its store."""
    from nas.database import hidden
    from nas.database_store import DatabaseStore
    from nas.errors import must

    store = DatabaseStore(storage, name, "reader")
    if not store.exists:
        raise must("--run", f"name a run in {hidden(storage)}", name, _kept(store))
    scratch = tempfile.mkdtemp(prefix="nas-")
    discard = weakref.finalize(store, _removed, scratch)
    folder = Path(scratch) / name.replace("/", "_")
    store.mirror(folder)
    search = _search(folder, storage)
    out = RUNS / name if search.artifacts is None else search.artifacts / name
    words = f"--storage {shlex.quote(hidden(storage))} --run {shlex.quote(name)}"
    return Found(folder, out, store, search, words, discard)


def _kept(store: DatabaseStore) -> str:
    """What a database holds."""
    return f"it holds: {_listed(store.runs()) or 'no run'}"


def _check_folder(run: Path) -> None:
    """Refuse what is no folder of a run, and name those that are where runs are put.

    Raises:
        BadInput: it is none.
    """
    from nas.errors import must
    from nas.store import CONFIG

    if (run / CONFIG).is_file():
        return
    others = _listed(str(config.parent) for config in sorted(RUNS.glob(f"*/{CONFIG}")))
    remedy = f"here are: {others}" if others else "begin one with: nas search CONFIG"
    raise must("run", "be a folder made by 'nas search'", str(run), remedy)


def _listed(names: Iterable[str]) -> str:
    """Names in one line, which ends where there are too many."""
    found = list(names)
    return ", ".join([*found[:SHOWN], *(["…"] if len(found) > SHOWN else [])])


def _search(folder: Path, storage: str | None) -> Search:
    from dataclasses import replace

    from nas import sources
    from nas.config import search_of, stored, stored_name

    search = sources.from_run(search_of(*stored(folder)), folder)
    return replace(search, storage=storage or search.storage, run=stored_name(folder))


def _store(search: Search, folder: Path) -> Store:
    from nas.run import store_of

    return store_of(search, folder, "reader")


def _removed(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def opened(at: Found) -> Result:
    """The parts, trials and weights of a run, wherever its folder and the user's sources are now.

    Raises:
        StorageError: its trials cannot be read.
    """
    from nas.errors import must
    from nas.parts import Parts
    from nas.result import Result
    from nas.store import JOURNAL

    parts = Parts(at.search, at.folder)
    journal = at.folder / JOURNAL
    if at.search.storage is None and not journal.is_file():
        raise must("run", "hold a journal", str(journal), "bring the run's whole folder")
    return Result(parts, at.store.history(parts.space, parts.objectives, "reader"), at.folder, at.words)


def asked(
    run: Path | None, storage: str | None, name: str | None, request: Request, *, as_json: bool
) -> None:
    """Ask something of whoever works on a run.

    Raises:
        BadInput: nobody does.
    """
    from nas.cli.app import print_json, say
    from nas.errors import must

    at = found(run, storage, name)
    owner = at.store.owner()
    if owner is None:
        raise must("the run", "be running", at.words, f"continue it with: nas resume {at.words}")
    at.store.ask(request)
    if as_json:
        print_json({"run": at.words, "owner": owner, "asked": request})
        return
    say(f"asked process {owner} to {request} after the evaluations that run now")
    say(f"continue with: nas resume {at.words}")
