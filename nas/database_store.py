"""A run in a database: everything but the weights, and a lease that a dead owner cannot keep."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

from nas.database import Database
from nas.errors import NasError, StorageError, must
from nas.files import FolderFiles
from nas.history import OptunaHistory
from nas.inflight import LEDGER
from nas.snapshot import PREVIOUS, SNAPSHOT
from nas.store import DESCRIPTION, Request, Store, in_use, process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Row, Select
    from sqlalchemy.orm import Session

    from nas.objective import Objective
    from nas.space import Space

LEASE = 30.0
"""Seconds after an owner's last sign of life from which another process may take its run over."""
PART = 2**22
"""Most bytes of a content in one row."""
LONGEST_NAME = 200
"""Characters that the name of a run may have."""
OWN_STATE = (LEDGER, SNAPSHOT, PREVIOUS)
"""What only the run's owner needs, and reads from the database itself."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@final
class DatabaseStore(Store):
    """A run in a database.

    The owner holds a lease, which it renews every second or so, and which has a number, the fence: each new
    owner has the next one. Every change of the run checks the fence in the transaction that makes it, and by
    that renews the lease; so an owner that was taken for dead, and was not, can change nothing.

    Times are compared by the database's clock alone.

    Args:
        url: of the database; see `nas.database.Address`.
        run: name of the run.
        writer: "owner" makes what is missing; "reader" changes nothing but the request.

    Raises:
        BadInput: the URL or the name cannot be used.
        StorageError: the database cannot be opened.
    """

    def __init__(self, url: str, run: str, writer: str = "owner") -> None:
        if not run or len(run) > LONGEST_NAME:
            raise must("run", f"be a name of 1 to {LONGEST_NAME} characters", run)
        self.run = run
        self.database = Database(url, writer)
        self.database.guards.append(self._guard)
        self._fence: int | None = None

    def __str__(self) -> str:
        return f"run {self.run} in {self.database}"

    # --- the lease ------------------------------------------------------------------------------------

    def own(self) -> None:
        """Take the lease, if it is free, stale, or that of a dead process of this machine."""
        from sqlalchemy.exc import IntegrityError

        try:
            self._asked(self._take)
        except IntegrityError:
            raise in_use(self, "that has just started", "wait for it or stop it") from None

    def _take(self, connection: Connection) -> None:
        from sqlalchemy import func

        leases = self.database.leases
        found = connection.execute(self._lease()).first()
        mine = {"owner": process(), "process": _here(os.getpid()), "request": "run"}
        if found is None:
            values = {**mine, "run": self.run, "fence": 1, "beat": func.current_timestamp()}
            connection.execute(leases.insert().values(values))
            self._fence = 1
            return
        silent = _silent(found)
        if found.owner and silent <= LEASE and not _dead(found.process):
            last = f"wait {LEASE:.0f} s from its last sign of life, {silent:.0f} s ago"
            remedy = f"stop it; or, if it is gone, {last}"
            raise in_use(self, found.owner, remedy)
        taken = connection.execute(
            leases.update()
            .where(leases.c.run == self.run, leases.c.fence == found.fence)
            .values(**mine, fence=found.fence + 1, beat=func.current_timestamp())
        )
        if taken.rowcount != 1:
            raise in_use(self, "that has just started", "wait for it or stop it")
        self._fence = int(found.fence) + 1

    def release(self) -> None:
        """Give the lease back, if it is still this owner's; where that fails, the lease runs out."""
        leases = self.database.leases
        mine = leases.update().where(leases.c.run == self.run, leases.c.fence == self._fence)
        if self._fence is not None:
            try:
                with self.database.engine.begin() as connection:
                    connection.execute(mine.values(owner=""))
            except Exception as error:  # whatever a driver raises; the lease ends by itself
                text = self.database.address.masked(error)
                after = f"others can take it over {LEASE:.0f} s after its last sign of life"
                log.warning("%s could not be given back: %s; %s", self, text, after)
        self._fence = None
        self.database.close()

    def owner(self) -> str | None:
        """Who holds a lease that is not stale."""
        found = self._found()
        if found is None or not found.owner or _silent(found) > LEASE or _dead(found.process):
            return None
        return str(found.owner)

    def check(self) -> None:
        """Renew the lease."""
        self._asked(self._renew)

    def beat(self) -> Request:
        """Renew the lease, and read the request."""
        with self.database.engine.begin() as connection:
            self._renew(connection)
            return cast("Request", connection.execute(self._lease()).one().request)

    def request(self) -> Request:
        """What is asked of the run."""
        found = self._found()
        return "run" if found is None else cast("Request", found.request)

    def ask(self, request: Request) -> None:
        """Write it beside the lease."""
        leases = self.database.leases
        wanted = leases.update().where(leases.c.run == self.run).values(request=request)
        self._asked(lambda connection: connection.execute(wanted))

    def _lease(self) -> Select[Any]:
        """The lease, and the time by the clock that set its beat."""
        from sqlalchemy import DateTime, func, select

        leases, now = self.database.leases, func.current_timestamp(type_=DateTime(timezone=True))
        return select(leases, now.label("now")).where(leases.c.run == self.run)

    def _found(self) -> Row[Any] | None:
        return self._asked(lambda connection: connection.execute(self._lease()).first())

    def _guard(self, session: Session) -> None:
        """Let nothing of Optuna's be committed by whoever lost the lease."""
        if self._fence is not None:
            self._renew(session)

    def _renew(self, connection: Connection | Session) -> None:
        """Beat, which succeeds under the own fence only, and keeps it until the transaction ends.

        Raises:
            StorageError: it is another one's.
        """
        from sqlalchemy import func

        leases = self.database.leases
        mine = leases.update().where(leases.c.run == self.run, leases.c.fence == self._fence)
        done: Any = connection.execute(mine.values(beat=func.current_timestamp()))
        if done.rowcount != 1:
            found = connection.execute(self._lease()).first()
            owner = f"process {found.owner}" if found is not None and found.owner else "another process"
            raise StorageError(f"{self} was taken over by {owner}; this process may write no more to it")

    # --- contents -------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes | None:
        """A content, put together from its parts."""
        from sqlalchemy import select

        files = self.database.files
        wanted = select(files.c.content).where(files.c.run == self.run, files.c.name == name)
        parts = self._asked(lambda c: c.execute(wanted.order_by(files.c.part)).scalars().all())
        return b"".join(parts) if parts else None

    def keep(self, name: str, content: bytes) -> None:
        """Replace a content in one transaction."""
        parts = [content[i : i + PART] for i in range(0, max(1, len(content)), PART)]
        rows = [{"run": self.run, "name": name, "part": i, "content": part} for i, part in enumerate(parts)]

        def replace(connection: Connection) -> None:
            connection.execute(self._named(name))
            connection.execute(self.database.files.insert(), rows)

        self._change(replace)

    def drop(self, name: str) -> None:
        """Delete a content."""
        self._change(lambda connection: connection.execute(self._named(name)))

    def move(self, name: str, to: str) -> None:
        """Rename a content."""
        files = self.database.files

        def rename(connection: Connection) -> None:
            old = files.c.run == self.run, files.c.name == name
            if connection.execute(files.select().where(*old, files.c.part == 0)).first() is not None:
                connection.execute(self._named(to))
                connection.execute(files.update().where(*old).values(name=to))

        self._change(rename)

    def _named(self, name: str) -> Any:
        files = self.database.files
        return files.delete().where(files.c.run == self.run, files.c.name == name)

    def _change(self, change: Callable[[Connection], object]) -> None:
        """Change something as the owner."""
        if self._fence is None:
            raise StorageError(f"{self} cannot be written by whoever does not own it")

        def fenced(connection: Connection) -> None:
            self._renew(connection)
            change(connection)

        self._asked(fenced)

    def _asked(self, action: Callable[[Connection], T]) -> T:
        """What an action in one transaction gives; an owner tries again while the database is away."""
        from sqlalchemy.exc import IntegrityError

        def once() -> T:
            with self.database.engine.begin() as connection:
                return action(connection)

        try:
            return once() if self._fence is None else self.database.patiently(once)
        except (NasError, IntegrityError):
            raise
        except Exception as error:  # whatever a driver raises
            text = self.database.address.masked(error)
            raise StorageError(f"the storage {self.database} cannot be used: {text}") from None

    # --- the run --------------------------------------------------------------------------------------

    def runs(self) -> list[str]:
        """Names of all runs of the database, sorted."""
        from sqlalchemy import select

        files = self.database.files
        wanted = select(files.c.run).where(files.c.name == DESCRIPTION).distinct().order_by(files.c.run)
        return [str(name) for name in self._asked(lambda c: c.execute(wanted).scalars().all())]

    @property
    def exists(self) -> bool:
        """Whether there is a description."""
        return self.read(DESCRIPTION) is not None

    def history(self, space: Space, objectives: Sequence[Objective], writer: str) -> OptunaHistory:
        """The Optuna study with the run's name."""
        return OptunaHistory(self.database, space, objectives, name=self.run, files=self, writer=writer)

    def mirror(self, folder: Path) -> None:
        """Write all but the owner's own state, where it is not there or another."""
        from sqlalchemy import select

        files = self.database.files
        wanted = select(files.c.name).where(files.c.run == self.run).distinct()
        copies = FolderFiles(folder)
        for name in self._asked(lambda c: c.execute(wanted).scalars().all()):
            if name in OWN_STATE:
                continue
            content = self.read(name)
            if content is not None and copies.read(name) != content:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                copies.keep(name, content)


def _silent(lease: Row[Any]) -> float:
    """Seconds since the last beat."""
    return float((lease.now - lease.beat).total_seconds())


def _here(pid: int) -> str:
    """A process so that no other one, before or after it or on another machine, is named the same.

    Containers of one machine have process numbers of their own.

    Raises:
        OSError: there is no such process.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it leads to no path
    born = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return f"{boot} {numbers} {pid} {born}"


def _dead(named: str) -> bool:
    """Whether a process was one of this machine's and is no more."""
    boot, numbers, pid, _ = named.split(" ")
    if not _here(os.getpid()).startswith(f"{boot} {numbers} "):
        return False
    try:
        return _here(int(pid)) != named
    except OSError:
        return True
