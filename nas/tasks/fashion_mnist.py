"""Fashion-MNIST, read from its idx files."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, final

import numpy as np

from nas.errors import must
from nas.tasks.folder import data_folder
from nas.tasks.images import Choose, Images, ImageTask

if TYPE_CHECKING:
    from pathlib import Path

WANTED = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"


SIDE = 28
"""Pixels along a side of a published image."""


@final
class FashionMnist(ImageTask):
    """60,000 + 10,000 grey images of clothes, 28×28 pixels, in 10 classes.

    Args:
        data: folder of the four idx files, plain or ``.gz``; None looks for ``fashion_mnist`` in NAS_DATA
            and in ``../shared/data``.
        resolution: pixels along a side, a divisor of 28; below 28, each is the mean of a square block of the
            published pixels, rounded to a byte.
        batch_size, val_share, limit, seed: as in `ImageTask`.

    Raises:
        BadInput: a file is missing, truncated, or no idx file of bytes; or a setting is out of range.

    Source: Xiao, Rasul & Vollgraf 2017.
    """

    classes = 10

    def __init__(
        self,
        data: str | Path | None = None,
        batch_size: int = 128,
        val_share: float = 0.1,
        limit: int | None = None,
        seed: int = 0,
        resolution: int = SIDE,
    ) -> None:
        if resolution < 1 or SIDE % resolution:
            raise must("resolution", f"divide {SIDE}", resolution)
        self._resolution = resolution
        self._folder = data_folder(data, ("fashion_mnist",), WANTED)
        super().__init__(batch_size=batch_size, val_share=val_share, limit=limit, seed=seed)

    def read_train(self, choose: Choose) -> Images:
        """The chosen images of the training files."""
        x, y = self._read("train")
        index = choose(len(y))
        return Images(block_means(x[index], self._resolution), y[index])

    def read_test(self) -> Images:
        """The test files."""
        x, y = self._read("t10k")
        return Images(block_means(x, self._resolution), y)

    def _read(self, prefix: str) -> tuple[np.ndarray, np.ndarray]:
        x = read_idx(self._folder / f"{prefix}-images-idx3-ubyte", axes=3)
        y = read_idx(self._folder / f"{prefix}-labels-idx1-ubyte", axes=1)
        if len(x) != len(y):
            raise must(f"{prefix} files", "hold a label for each image", (len(x), len(y)))
        if x.shape[1:] != (SIDE, SIDE):
            raise must(f"{prefix} images", f"have {SIDE} by {SIDE} pixels", x.shape[1:])
        if y.size and y.max() >= self.classes:
            raise must(f"{prefix} labels", "lie in [0, 9]", int(y.max()))
        return x[:, None], y


def block_means(x: np.ndarray, side: int) -> np.ndarray:
    """Square images of bytes, shape (N, C, S, S), as means of blocks: bytes, shape (N, C, side, side).

    Args:
        x: the images.
        side: a divisor of S; S itself gives them unchanged.
    """
    count, channels, size, _ = x.shape
    if side == size:
        return x
    blocks = x.reshape(count, channels, side, size // side, side, size // side)
    means: np.ndarray = np.rint(blocks.mean(axis=(3, 5), dtype=np.float32)).astype(np.uint8)
    return means


def read_idx(path: Path, axes: int) -> np.ndarray:
    """An array of bytes from an idx file, or from the same name with ``.gz``.

    Args:
        path: without ``.gz``.
        axes: number of axes that the file must have.

    Raises:
        BadInput: it is missing, truncated, too long, or of another kind.
    """
    packed = path.with_name(path.name + ".gz")
    try:
        content = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except FileNotFoundError:
        raise must("data", f"hold {path.name} or {packed.name}", str(path.parent)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise must(str(packed), "be a whole gzip file", str(error), "fetch it again") from error
    header = 4 * (1 + axes)
    if content[:4] != bytes((0, 0, 8, axes)) or len(content) < header:
        raise must(str(path), f"be an idx file of bytes with {axes} axes", content[:4].hex())
    shape = np.frombuffer(content, ">u4", count=axes, offset=4).astype(int)
    if len(content) - header != shape.prod():
        raise must(str(path), f"hold {shape.prod():,} bytes", len(content) - header, "fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
