"""A SQL database that keeps runs: its address without the password, and patience when it goes away."""

from __future__ import annotations

import logging
import os
import re
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, final
from urllib.parse import quote, quote_plus, unquote

from nas.errors import StorageError, must

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine, Table

PATIENCE = 60.0
"""Seconds for which a database that went away is tried again."""
PAUSES = (0.1, 5.0)
"""Seconds before the second try, and most before any later one; each pause is twice the one before."""
CONNECTING = 10
"""Seconds that a server may take to answer at all."""
VARIABLE = re.compile(r"\$\{(\w+)\}")
"""What stands in an address for a variable of the environment."""
HIDDEN = "***"

_BEFORE_HOST = re.compile(r"(\w://[^\s:/@]*:)(\S*)(?=@)")
_AS_QUERY = re.compile(r"([?&](?:password|passwd|pwd)=)([^&\s]+)", re.IGNORECASE)

log = logging.getLogger(__name__)

T = TypeVar("T")


def hidden(text: str) -> str:
    """A text whose addresses show no password; what a variable stands for stays ``${VARIABLE}``."""

    def shown(found: re.Match[str]) -> str:
        return found[1] + (found[2] if VARIABLE.fullmatch(found[2]) else HIDDEN)

    return _AS_QUERY.sub(shown, _BEFORE_HOST.sub(shown, text))


@final
class Address:
    """The URL of a database, such as ``postgresql://user:${PASSWORD}@host/runs``.

    Variables of the environment are looked up when the database is opened, and what they hold is never shown:
    printing an address gives ``${PASSWORD}`` as it was written, and ``***`` for a password in plain text.

    Args:
        url: of SQLAlchemy's form, or ``${VARIABLE}`` for a whole one.

    Raises:
        BadInput: it is no URL of a SQL database.
    """

    def __init__(self, url: str) -> None:
        self._url, self._secrets = url, {""}
        dialect = re.match(r"(sqlite|postgresql|mysql|mariadb)(\+\w+)?://", url)
        if dialect is None and not VARIABLE.fullmatch(url):
            example = "such as postgresql://user:${PASSWORD}@host/runs"
            raise must("storage", "be a URL of SQLite, PostgreSQL or MySQL", hidden(url), example)

    def __str__(self) -> str:
        return hidden(self._url)

    def opened(self) -> str:
        """The URL with its variables looked up.

        Raises:
            BadInput: a variable is not set, or the password was not kept.
        """
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        whole = VARIABLE.fullmatch(self._url)
        user, at, rest = ("", "", self._url) if whole else self._url.rpartition("@")
        # What stands before the host is part of a URL; elsewhere, such as in a path, slashes mean themselves.
        found = VARIABLE.sub(lambda v: quote(self._looked_up(v[1]), safe=""), user) + at
        found += VARIABLE.sub(lambda v: self._looked_up(v[1]), rest)
        if f":{HIDDEN}@" in found:
            remedy = "give it with --storage, or write it as ${VARIABLE}: passwords are never kept"
            raise must("storage", "have its password", str(self), remedy)
        try:
            url = make_url(found)
        except (ArgumentError, ValueError):
            raise must("storage", "be a URL as SQLAlchemy takes it", str(self)) from None
        passwords = [url.password or "", *(v for _, v in _AS_QUERY.findall(found))]
        for secret in (*(map(str, passwords)), *map(unquote, map(str, passwords))):
            self._secrets |= {secret, quote(secret, safe=""), quote_plus(secret)}
        if whole:
            self._secrets.add(found)
        return _with_driver(found)

    def masked(self, error: BaseException) -> str:
        """The first line of what caused an error, without what must not be shown."""
        while error.__cause__ is not None:
            error = error.__cause__
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        for secret in sorted(self._secrets - {""}, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return hidden(text)

    def _looked_up(self, name: str) -> str:
        value = os.environ.get(name)
        if value is None:
            raise must("storage", "name variables that are set", f"${{{name}}}", f"export {name}=…")
        return value


@final
class Database:
    """A database, opened.

    Args:
        url: see `Address`.
        writer: "owner" makes the tables that are missing; "reader" makes none.

    Attributes:
        guards: called in each transaction of Optuna's storage just before it is committed, with the session;
            what they raise undoes it.

    Raises:
        BadInput: the URL cannot be used.
        StorageError: the database cannot be opened.
    """

    def __init__(self, url: str, writer: str = "owner") -> None:
        self.address = Address(url)
        self.guards: list[Callable[[Any], None]] = [_refuse] if writer == "reader" else []
        opened = self.address.opened()
        try:
            self.storage = self._storage(opened, writer)
            self.files, self.leases, self.trials = self._tables(writer)
        except ImportError:
            remedy = "such as by: pip install 'nas-toolkit[postgres]'"
            raise must("storage", "have its driver installed", str(self), remedy) from None
        except Exception as error:  # whatever a driver raises
            raise StorageError(f"the storage {self} cannot be opened: {self.address.masked(error)}") from None

    def __str__(self) -> str:
        return str(self.address)

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's."""
        found: Engine = self._rdb.engine
        return found

    def close(self) -> None:
        """Let go of all connections."""
        self._rdb.remove_session()
        self.engine.dispose()

    def patiently(self, action: Callable[[], T]) -> T:
        """What an action gives, which is tried again while the database is away.

        Raises:
            StorageError: it did not come back in `PATIENCE` seconds.
        """
        began, pause = time.monotonic(), PAUSES[0]
        failed = False
        while True:
            try:
                found = action()
            except Exception as error:  # wrapped by Optuna in errors of its own
                if not _away(error):
                    raise
                waited = time.monotonic() - began
                if waited + pause > PATIENCE:
                    text = f"the storage {self} is away for {waited:.0f} s: {self.address.masked(error)}"
                    raise StorageError(text) from None
                if not failed:
                    log.warning("the storage %s is away, trying again: %s", self, self.address.masked(error))
                failed = True
                time.sleep(pause)
                pause = min(2 * pause, PAUSES[1])
                continue
            if failed:
                log.warning("the storage %s is back after %.1f s", self, time.monotonic() - began)
            return found

    def _storage(self, url: str, writer: str) -> Any:
        import optuna
        from sqlalchemy import event, make_url

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings: dict[str, Any] = {"pool_pre_ping": True}
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and writer == "reader":
            _check_there(parsed.database)
        if parsed.get_backend_name() == "sqlite":
            settings["connect_args"] = {"timeout": CONNECTING}
        if parsed.get_driver_name() in ("psycopg", "psycopg2"):
            # Else a server that vanished without a word would be waited for by the hour.
            settings["connect_args"] = {"connect_timeout": CONNECTING, "tcp_user_timeout": 1000 * CONNECTING}
        self._rdb = optuna.storages.RDBStorage(
            url.replace("{", "{{").replace("}", "}}"),
            engine_kwargs=settings,
            skip_table_creation=writer == "reader",
        )
        event.listen(self._rdb.scoped_session, "before_commit", self._guarded)
        return optuna.storages.get_storage(self._rdb)

    def _guarded(self, session: Any) -> None:
        for guard in self.guards:
            guard(session)

    def _tables(self, writer: str) -> tuple[Table, Table, Table]:
        """Contents by run and name, in parts; leases by run; the numbers of the trials of each run."""
        from sqlalchemy import (
            BigInteger,
            Column,
            DateTime,
            Integer,
            LargeBinary,
            MetaData,
            String,
            Table,
        )

        tables = MetaData()

        def table(name: str, *columns: Any) -> Table:
            return Table(name, tables, Column("run", String(200), primary_key=True), *columns)

        files = table(
            "nas_files", Column("name", String(200), primary_key=True),
            Column("part", Integer, primary_key=True), Column("content", LargeBinary(2**31), nullable=False),
        )  # fmt: skip
        leases = table(
            "nas_leases", Column("fence", BigInteger, nullable=False),
            Column("owner", String(300), nullable=False), Column("process", String(300), nullable=False),
            Column("beat", DateTime(timezone=True), nullable=False),
            Column("request", String(20), nullable=False),
        )  # fmt: skip
        trials = table("nas_trials", Column("number", Integer, primary_key=True))
        if writer == "owner":
            tables.create_all(self.engine)
        return files, leases, trials


def _with_driver(url: str) -> str:
    """The URL with the PostgreSQL driver that is installed, where it names none."""
    if url.startswith("postgresql://") and find_spec("psycopg") is None:
        return f"postgresql+psycopg2{url.removeprefix('postgresql')}"
    return url


def _refuse(session: Any) -> None:
    """Let tools that look at a run, such as a dashboard, change nothing of it."""
    if session.new or session.dirty or session.deleted:
        raise StorageError("the run is shown to be read only")


def _check_there(path: str | None) -> None:
    """Refuse to read a SQLite file that is not there, which opening would make."""
    if path and path != ":memory:" and not os.path.isfile(path):  # noqa: PTH113 - a text of SQLAlchemy's
        raise FileNotFoundError("there is no such file")


def _away(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the database cannot be reached now."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
    from sqlalchemy.exc import TimeoutError as Waited

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OperationalError | InterfaceError | Waited):
            return True
        if isinstance(cause, DBAPIError) and cause.connection_invalidated:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
