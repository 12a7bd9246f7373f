"""Handwritten digits of 8×8 pixels, which come with scikit-learn: the task that needs no files."""

from __future__ import annotations

from functools import cache
from typing import final

import numpy as np
from sklearn.datasets import load_digits

from nas.rng import stream
from nas.tasks.images import Choose, Images, ImageTask

TEST_SHARE = 0.2


@final
class Digits(ImageTask):
    """1,797 grey images of 8×8 pixels in 10 classes; 359 of them, a fifth of each class, are the test.

    Args:
        batch_size, val_share, limit, seed: as in `ImageTask`.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (the test part of it).
    """

    classes = 10

    def __init__(
        self, batch_size: int = 64, val_share: float = 0.2, limit: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(batch_size=batch_size, val_share=val_share, limit=limit, seed=seed)

    def read_train(self, choose: Choose) -> Images:
        """The chosen images of those that are not in the test."""
        x, y, test = _digits()
        index = np.flatnonzero(~test)[choose(int((~test).sum()))]
        return Images(x[index], y[index])

    def read_test(self) -> Images:
        """The same fifth of each class whatever the seed."""
        x, y, test = _digits()
        return Images(x[test], y[test])


@cache
def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (n, 1, 8, 8) of values 0..16, labels (n,), and which of them are the test's (n,)."""
    bunch = load_digits()
    x = bunch.images.astype(np.uint8)[:, None]
    y = bunch.target.astype(np.int64)
    test = np.zeros(len(y), dtype=bool)
    for label in range(10):
        members = stream(0, "digits", "test", label).permutation(np.flatnonzero(y == label))
        test[members[: round(TEST_SHARE * len(members))]] = True
    return x, y, test
