"""What an owner does beside searching: saying that it lives, and hearing what is asked of it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, final

from nas.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nas.store import Request, Store

POLL = 1.0
"""Seconds between two looks at what is asked."""

log = logging.getLogger(__name__)


@final
class Watch:
    """A thread that keeps a store's lease alive and passes on requests, at no cost to any trial.

    Args:
        store: owned by this process.
        heard: called in the thread with each request that differs from the one before.
        lost: called in the thread when another process has taken the run over; then the thread ends.
    """

    def __init__(
        self, store: Store, heard: Callable[[Request], None], lost: Callable[[StorageError], None]
    ) -> None:
        self._store, self._heard, self._lost = store, heard, lost
        self._last: Request = "run"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="nas-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _watch(self) -> None:
        away = False
        while not self._ended.wait(POLL):
            try:
                request = self._store.beat()
            except StorageError as error:
                self._lost(error)
                return
            except Exception as error:  # whatever a driver raises while its database is away
                if not away:
                    log.warning("%s cannot be reached by its watch: %s", self._store, type(error).__name__)
                away = True
                continue
            away = False
            if request != self._last:
                self._last = request
                self._heard(request)
