"""Measuring a pack on a machine that ssh reaches."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, final

from nas.errors import NasError, must
from nas.profiling.pack import PROGRAM, RESULT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_URL = re.compile(r"ssh://(?P<place>[^\s/:@-][^\s/:@]*(@[^\s/:@]+)?)(:(?P<port>\d+))?/?")
CONNECT_SECONDS = 10


@final
@dataclass(frozen=True)
class Remote:
    """A machine that ssh reaches without asking for a password.

    Args:
        place: ``host`` or ``user@host``.
        port: None for ssh's own.
        python: interpreter over there, with numpy and onnxruntime.
        seconds: after which measuring is given up.
    """

    place: str
    port: str | None = None
    python: str = "python3"
    seconds: float = 3600.0

    @classmethod
    def of(cls, url: str) -> Self:
        """From ``ssh://user@host`` or ``ssh://user@host:port``.

        Raises:
            BadInput: it reads otherwise.
        """
        match = _URL.fullmatch(url)
        if match is None:
            raise must("--over", "read ssh://user@host or ssh://user@host:port", url)
        return cls(match["place"], match["port"])

    def measure(self, pack: Path) -> Path:
        """Copy a pack there, measure it, and bring back the result, which then lies in the pack.

        Raises:
            NasError: the machine is not reached, or something goes wrong there.
        """
        folder = f"nas-pack-{abs(hash(pack.resolve())) % 10**8}"
        self._ssh(f"mkdir -p {folder}", pack)
        files = [str(path) for path in sorted(pack.iterdir()) if path.is_file() and path.name != RESULT]
        self._run(["scp", *self._options("-P"), "-q", *files, f"{self.place}:{folder}/"], pack)
        self._ssh(f"cd {folder} && {shlex.quote(self.python)} {PROGRAM}", pack)
        self._run(
            ["scp", *self._options("-P"), "-q", f"{self.place}:{folder}/{RESULT}", str(pack / RESULT)], pack
        )
        self._ssh(f"rm -r {folder}", pack)
        return pack / RESULT

    def _ssh(self, command: str, pack: Path) -> None:
        self._run(["ssh", *self._options("-p"), self.place, command], pack)

    def _options(self, port: str) -> list[str]:
        asked = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}"]
        return asked if self.port is None else [*asked, port, self.port]

    def _run(self, command: Sequence[str], pack: Path) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=self.seconds)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failed(command[0], str(error), pack) from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise self._failed(command[0], lines[-1], pack)

    def _failed(self, program: str, reason: str, pack: Path) -> NasError:
        return NasError(
            f"measuring over ssh on {self.place} failed: {program}: {reason}; try "
            f"'ssh {self.place}' by hand, or "
            f"copy {pack} there, run 'python3 {PROGRAM}' in it, bring back {RESULT} and run: "
            f"nas profile --import {pack / RESULT}"
        )
