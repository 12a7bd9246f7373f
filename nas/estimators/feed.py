"""Batches without end, pass after pass, that can be taken up again where they were left."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nas.errors import must
from nas.rng import derive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nas.task import Batch, Split, Task


@final
class Feed:
    """The batches of a split, one after another; each pass has an order of its own.

    A pass's iterator stays open between batches, so that a loader's workers read ahead meanwhile.

    Args:
        task: gives the batches.
        split: of its data.
        place: pass, and batches of it that were taken already.
    """

    def __init__(self, task: Task, split: Split, place: tuple[int, int] = (0, 0)) -> None:
        self._task, self._split = task, split
        self.epoch, self.position = place
        self._batches: Iterator[Batch] | None = None

    def next(self, seed: int) -> Batch:
        """The next batch, of the next pass where this one is through.

        Raises:
            BadInput: a pass has no batch.
        """
        if self._batches is None:
            self._batches = self._opened(seed)
        batch = next(self._batches, None)
        if batch is None:
            if not self.position:
                raise must(f"the {self._split} data", "give batches on every pass", "none")
            self.epoch, self.position = self.epoch + 1, 0
            self._batches = self._opened(seed)
            batch = next(self._batches, None)
            if batch is None:
                raise must(f"the {self._split} data", "give batches on every pass", "none")
        self.position += 1
        return batch

    def _opened(self, seed: int) -> Iterator[Batch]:
        batches = iter(self._task.batches(self._split, seed=derive(seed, "feed", self._split, self.epoch)))
        for _ in range(self.position):
            next(batches, None)
        return batches
