"""How many units differ between the rows of a 0/1 matrix, for every pair of rows.

Shapes: codes are (batch, units), packed codes (batch, words), distances (batch, batch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nas.errors import must

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

WORDS = 1024
"""Words of a row handled at once: those of 128 rows are 1 MiB, which a processor's second cache holds."""

UNITS = 2**20
"""Units that the reference multiplies at once: float32 counts exactly up to 2**24."""


def hamming(codes: Tensor) -> Tensor:
    """Hamming distances between rows: on packed bits on a CPU, by the reference elsewhere.

    Args:
        codes: bool, shape (batch, units).

    Returns:
        int64, shape (batch, batch), on the device of the codes; symmetric with a zero diagonal.

    Raises:
        BadInput: the codes are not a bool matrix.
    """
    if codes.dtype is not torch.bool or codes.ndim != 2:
        raise must("codes", "be a bool matrix (batch, units)", (str(codes.dtype), tuple(codes.shape)))
    if codes.device.type != "cpu":
        return reference(codes)
    return torch.from_numpy(distances(packed(codes.detach().numpy())))


def reference(codes: Tensor) -> Tensor:
    """The same by two matrix products of 0/1 matrices, c(1 − c)ᵀ + (1 − c)cᵀ, on any device."""
    total = torch.zeros(len(codes), len(codes), dtype=torch.int64, device=codes.device)
    for part in torch.split(codes, UNITS, dim=1):
        on = part.float()
        off = 1 - on
        total += (on @ off.T + off @ on.T).long()
    return total


def packed(codes: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Rows as bits, 64 units a word; the last word is filled up with zeros."""
    rows = np.packbits(codes, axis=1)
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))).view(np.uint64)


def distances(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Hamming distances between packed rows: each pair's exclusive or, and its number of ones.

    Beside the words it needs as much memory as two blocks of `WORDS` columns, whatever the number of units.
    """
    total = np.zeros((len(words), len(words)), dtype=np.int64)
    for start in range(0, words.shape[1], WORDS):
        block = np.ascontiguousarray(words[:, start : start + WORDS])
        for i, row in enumerate(block):
            total[i, i:] += np.bitwise_count(block[i:] ^ row).sum(axis=1, dtype=np.int64)
    return total + total.T
