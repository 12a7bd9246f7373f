"""A PostgreSQL server of one's own on loopback, from the distribution's package, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PASSWORD = "s3cr@t/:%-word"
"""It has all that must be escaped in a URL."""


def missing() -> str:
    """Why there can be no server here; empty where there can."""
    if _binaries() is None:
        return "there is no PostgreSQL server here (initdb is neither in PATH nor in /usr/lib/postgresql)"
    if find_spec("psycopg2") is None:
        return "psycopg2 is not installed"
    return ""


class Server:
    """A server in a folder of its own; the variable ``NAS_TEST_PASSWORD`` opens it.

    The server refuses to run as root, so root gives the folder to another user.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nas-postgres-"))
        self.port = _free_port()
        self.url = f"postgresql://nas:${{NAS_TEST_PASSWORD}}@127.0.0.1:{self.port}/postgres"
        os.environ["NAS_TEST_PASSWORD"] = PASSWORD
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            user = _user()
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._call("initdb", "-U", "nas", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "-N",
                   "--locale=C")  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._call("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Cut all connections and stop."""
        self._call("pg_ctl", "-w", "-m", "fast", "stop")

    def close(self) -> None:
        """Stop and delete everything."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._call("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        binaries = _binaries()
        assert binaries is not None
        subprocess.run(
            [binaries / program, "-D", self.folder / "data", *arguments],
            cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._as,
        )  # fmt: skip


def _binaries() -> Path | None:
    found = shutil.which("initdb") or max(glob("/usr/lib/postgresql/*/bin/initdb"), default=None)  # noqa: PTH207
    return None if found is None else Path(found).parent


def _user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
