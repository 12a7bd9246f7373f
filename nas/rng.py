"""One integer rules a run: every generator is derived from it by a path of names."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for what ``path`` names, equal in every process.

    Args:
        seed: the run's seed.
        path: names and counters, such as ``("weights", key, 0)``; ``1`` and ``"1"`` differ.
    """
    digest = blake2b(repr((int(seed), *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """An independent generator for what ``path`` names; the same path gives the same numbers again."""
    return np.random.Generator(np.random.PCG64(derive(seed, *path)))
