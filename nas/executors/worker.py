"""What a worker does: take over the evaluator, evaluate units, and end with its driver."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cloudpickle

from nas import registry
from nas.errors import RunFailed, must
from nas.executor import evaluate_unit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from nas.evaluator import Evaluator
    from nas.executor import Unit

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment of a worker; an evaluator may still ask torch for more."""
MEMORY_CHECK = 0.1
"""Seconds between looks at the memory of workers."""
STILLBORN = 3
"""Workers in a row that die before they are ready and end a run."""
ORPHAN_CHECK = 0.5
"""Seconds between looks at whether the driver still lives."""


def packed(evaluator: Evaluator, seed: int, logs: Path | None, executor: str) -> bytes:
    """All that a worker needs, sent to it once: user files as their text, installed modules by name and
    where they are looked for, the rest by value.

    Raises:
        BadInput: the evaluator trains weights shared by all, or a part cannot be sent.
    """
    if not evaluator.pure:
        raise must("executor", "be here for an evaluator that trains weights shared by all", executor)
    texts, registered = registry.known()
    try:
        parts = cloudpickle.dumps((registered, evaluator, seed, logs))
        return bytes(cloudpickle.dumps((sys.path, texts, parts)))
    except Exception as error:  # any part may refuse in its own way
        raise must(
            "executor", "be here for an evaluator that cannot be sent to another process", executor,
            f"{type(error).__name__}: {error}; put it into a module or file, give it as a factory "
            "(module:name), and open what cannot be sent when it is first called",
        ) from error  # fmt: skip


def unpacked(payload: bytes) -> tuple[Evaluator, int, Path | None]:
    """The evaluator, seed and folder of logs that were packed, once all registrations are taken over.

    Raises:
        RunFailed: a part cannot be rebuilt here.
    """
    try:
        places, texts, rest = cloudpickle.loads(payload)
        sys.path += [place for place in places if place not in sys.path]
        with TemporaryDirectory(prefix="nas-") as folder:
            registry.adopt(_placed(texts, Path(folder)))
        registered, evaluator, seed, logs = cloudpickle.loads(rest)
        registry.adopt(registered=registered)
    except Exception as error:
        raise RunFailed(f"a worker cannot rebuild the evaluator: {type(error).__name__}: {error}") from None
    return evaluator, seed, logs


def _placed(texts: Mapping[Path, bytes], folder: Path) -> dict[Path, Path]:
    """Where to read user files: where they are, or from a copy on a machine that does not have them so."""
    found = {}
    for number, (path, text) in enumerate(texts.items()):
        found[path] = path
        if not path.is_file() or path.read_bytes() != text:
            found[path] = folder / f"{number}.py"
            found[path].write_bytes(text)
    return found


def answered(evaluator: Evaluator, unit: Unit, seed: int, logs: Path | None) -> bytes:
    """The reports of a unit as they are sent back, or an error that is no candidate's own."""
    try:
        answer: Any = evaluate_unit(evaluator, unit, seed, logs)
    except BaseException as error:
        answer = error
    try:
        return bytes(cloudpickle.dumps(answer))
    except Exception as error:
        return bytes(cloudpickle.dumps(RunFailed(f"an outcome cannot be sent back from a worker: {error}")))


def serve(connection: Connection, driver: int) -> None:
    """Evaluate what comes, until the driver hangs up or is gone.

    The first message is what `packed` gave; the answer is None, or the error for which it could not be
    unpacked. Each later one is a unit; the answer is its reports, or an error that is no candidate's own.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the driver decides
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    try:
        evaluator, seed, logs = unpacked(connection.recv_bytes())
    except RunFailed as error:
        connection.send_bytes(cloudpickle.dumps(error))
        return
    connection.send_bytes(cloudpickle.dumps(None))
    while True:
        try:
            unit = cloudpickle.loads(connection.recv_bytes())
            connection.send_bytes(answered(evaluator, unit, seed, logs))
        except (EOFError, OSError):
            return


def _end_with(driver: int) -> None:
    """End at once when the driver was killed: what is evaluated then would be told to nobody."""
    while os.getppid() == driver:
        time.sleep(ORPHAN_CHECK)
    os._exit(1)
