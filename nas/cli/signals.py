"""What SIGINT and SIGTERM do to a search."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nas.run import Run

NOTE = b"ending after the evaluations that run now; once more to end at once\n"


@contextmanager
def obeyed(run: Run) -> Iterator[None]:
    """While open, SIGINT ends the search after what runs now, a second one and SIGTERM end it at once."""

    def interrupted(*_: object) -> None:
        if run.stopped:
            run.abandon()
        else:
            run.stop()
            os.write(2, NOTE)  # whatever else is being printed just now

    def terminated(*_: object) -> None:
        run.abandon("terminated")

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupted),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminated),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
