"""Who spent how many seconds, where some of the work is shared."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator


@final
class Ledger:
    """Seconds by name; those of shared work are divided evenly among the names that used it."""

    def __init__(self) -> None:
        self._own: dict[str, float] = {}
        self._users: dict[str, set[str]] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def spending(self, name: str) -> Iterator[None]:
        """Seconds inside are those of ``name``, less what others spend inside."""
        self._turn()
        self._open.append(name)
        self._own.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def use(self, work: str) -> None:
        """Whoever is spending now has used this work."""
        if self._open:
            self._users.setdefault(work, set()).add(self._open[-1])

    def seconds(self, name: str) -> float:
        """What a name has spent itself, and its share of all that it used."""
        used = [(work, users) for work, users in self._users.items() if name in users]
        return self._own.get(name, 0.0) + sum(self.seconds(work) / len(users) for work, users in used)

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._open:
            self._own[self._open[-1]] += now - self._since
        self._since = now
