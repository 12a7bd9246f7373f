"""What a worker process does: take units, evaluate them, send reports back, and end with its driver."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import cloudpickle

from nas import registry
from nas.errors import RunFailed
from nas.executor import evaluate_unit

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from nas.evaluator import Evaluator

ORPHAN_CHECK = 0.5
"""Seconds between looks at whether the driver still lives."""


def packed(evaluator: Evaluator, seed: int, logs: Path | None) -> bytes:
    """All that a worker needs, sent to it once: user files by their path, the rest by value.

    Raises:
        Exception: whatever the part raises that cannot be sent.
    """
    files, registered = registry.known()
    return bytes(cloudpickle.dumps((files, cloudpickle.dumps((registered, evaluator, seed, logs)))))


def serve(connection: Connection, driver: int) -> None:
    """Evaluate what comes, until the driver hangs up or is gone.

    The first message is what `packed` gave; the answer is None, or the error for which it could not be
    unpacked. Each later one is a unit; the answer is its reports, or an error that is no candidate's own.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the driver decides
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    try:
        files, rest = cloudpickle.loads(connection.recv_bytes())
        registry.adopt(files)
        registered, evaluator, seed, logs = cloudpickle.loads(rest)
        registry.adopt(registered=registered)
    except Exception as error:
        _send(
            connection, RunFailed(f"a worker cannot rebuild the evaluator: {type(error).__name__}: {error}")
        )
        return
    _send(connection, None)
    while True:
        try:
            unit = cloudpickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer: Any = evaluate_unit(evaluator, unit, seed, logs)
        except BaseException as error:
            answer = error
        try:
            _send(connection, answer)
        except OSError:
            return


def _send(connection: Connection, answer: Any) -> None:
    try:
        text = cloudpickle.dumps(answer)
    except Exception as error:
        text = cloudpickle.dumps(RunFailed(f"an outcome cannot be sent back from a worker: {error}"))
    connection.send_bytes(text)


def _end_with(driver: int) -> None:
    """End at once when the driver was killed: what is evaluated then would be told to nobody."""
    while os.getppid() == driver:
        time.sleep(ORPHAN_CHECK)
    os._exit(1)
