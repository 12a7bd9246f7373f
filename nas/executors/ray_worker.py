"""What runs on the cluster: workers, and the notes that they leave to the driver."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import cloudpickle
import psutil

from nas.errors import RunFailed
from nas.executors.worker import MEMORY_CHECK, answered, unpacked


@final
class Worker:
    """Evaluates units, one at a time; an actor.

    Args:
        memory_gb: most resident memory while evaluating; a worker that has more ends itself, with a note.
        notes: where to leave it.
    """

    def __init__(self, memory_gb: float | None, notes: Any) -> None:
        self._memory_gb, self._notes = memory_gb, notes
        self._evaluating = False

    def take_over(self, payload: bytes, name: int, folder: int | None) -> bytes:
        """Become ready.

        Args:
            payload: what `packed` gave.
            name: of this worker, in notes.
            folder: number of the driver's folder of logs in its file system.

        Returns:
            None, or the error for which it cannot, pickled.
        """
        try:
            self._evaluator, self._seed, logs = unpacked(payload)
        except RunFailed as error:
            return bytes(cloudpickle.dumps(error))
        self._logs = logs
        self._shared = logs is None or (logs.is_dir() and logs.stat().st_ino == folder)
        if self._memory_gb is not None:
            threading.Thread(target=self._watch, args=(self._memory_gb, name), daemon=True).start()
        return bytes(cloudpickle.dumps(None))

    def evaluate(self, unit: bytes) -> tuple[bytes, dict[str, str]]:
        """The reports of a unit or an error, pickled, and its logs where they do not lie before the driver.

        Logs are written where the driver's are, if this machine has that folder, too, so that they are there
        while the evaluation runs and whatever becomes of it.
        """
        self._evaluating = True
        try:
            if self._shared:
                return self._answered(unit, self._logs), {}
            with TemporaryDirectory(prefix="nas-") as folder:
                answer = self._answered(unit, Path(folder))
                texts = {f.name: f.read_text(encoding="utf-8") for f in Path(folder).iterdir()}
            return answer, texts
        finally:
            self._evaluating = False

    def _answered(self, unit: bytes, logs: Path | None) -> bytes:
        return answered(self._evaluator, cloudpickle.loads(unit), self._seed, logs)

    def _watch(self, memory_gb: float, name: int) -> None:
        """End this process, with a note, when an evaluation needs too much."""
        import ray

        process = psutil.Process()
        while not (self._evaluating and process.memory_info().rss > 1e9 * memory_gb):
            time.sleep(MEMORY_CHECK)
        ray.get(self._notes.leave.remote(name))
        os._exit(1)


@final
class Notes:
    """The names of workers that ended themselves for their memory; an actor that outlives them."""

    def __init__(self) -> None:
        self._names: set[int] = set()

    def leave(self, name: int) -> None:
        """Note a name."""
        self._names.add(name)

    def holds(self, name: int) -> bool:
        """Whether a name was noted."""
        return name in self._names
