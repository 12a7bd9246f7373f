"""CIFAR-10, read from its official Python batches or from packed JPEG files."""

from __future__ import annotations

import codecs
import io
import pickle
import zipfile
from typing import TYPE_CHECKING, Any, final

import numpy as np
from PIL import Image, UnidentifiedImageError

from nas.errors import must
from nas.tasks.folder import data_folder
from nas.tasks.images import Choose, Images, ImageTask

if TYPE_CHECKING:
    from pathlib import Path

TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
PACKED = "cifar10_{}_jpeg.npz"
WANTED = "data_batch_1 to data_batch_5 and test_batch, or cifar10_train_jpeg.npz and cifar10_test_jpeg.npz"


@final
class Cifar10(ImageTask):
    """50,000 + 10,000 colour images of 32×32 pixels in 10 classes.

    Args:
        data: folder of the official Python batches, or of the two ``npz`` files of packed JPEG images
            (arrays ``jpeg``, ``offsets``, ``labels``; image i is ``jpeg[offsets[i]:offsets[i + 1]]``), whose
            accuracies are not comparable with the lossless set's. None looks in NAS_DATA and in
            ``../shared/data`` for ``cifar10``, ``cifar-10-batches-py`` and ``cifar10_jpeg``.
        batch_size, val_share, limit, seed: as in `ImageTask`.

    Raises:
        BadInput: a file is missing or is not what its name says.

    Source: Krizhevsky 2009.
    """

    classes = 10

    def __init__(
        self,
        data: str | Path | None = None,
        batch_size: int = 128,
        val_share: float = 0.1,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self._folder = data_folder(data, ("cifar10", "cifar-10-batches-py", "cifar10_jpeg"), WANTED)
        self._packed = (self._folder / PACKED.format("train")).is_file()
        super().__init__(batch_size=batch_size, val_share=val_share, limit=limit, seed=seed)

    def read_train(self, choose: Choose) -> Images:
        """The chosen images of the training files."""
        if self._packed:
            return _packed(self._folder / PACKED.format("train"), choose)
        parts = [_batch(self._folder / name) for name in TRAIN_BATCHES]
        x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        index = choose(len(y))
        return Images(x[index], y[index])

    def read_test(self) -> Images:
        """The test file."""
        if self._packed:
            return _packed(self._folder / PACKED.format("test"), np.arange)
        return _batch(self._folder / "test_batch")


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("_codecs", "encode"): codecs.encode,
}


@final
class _ArraysOnly(pickle.Unpickler):
    """Reads dicts, texts, numbers and numpy arrays; any other object in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the allowed constructors."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file") from None


def _batch(path: Path) -> Images:
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
        x, y = np.asarray(content[b"data"]), np.asarray(content[b"labels"], dtype=np.int64)
    except FileNotFoundError:
        raise must("data", f"hold {WANTED}", str(path)) from None
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise must(str(path), "be a Python batch of CIFAR-10", f"{type(error).__name__}: {error}") from error
    if x.dtype != np.uint8 or x.shape != (len(y), 3072):
        raise must(str(path), f"hold bytes of shape ({len(y)}, 3072)", (str(x.dtype), x.shape))
    return Images(x.reshape(-1, 3, 32, 32), _labels(path, y))


def _packed(path: Path, choose: Choose) -> Images:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            content, offsets, labels = arrays["jpeg"].tobytes(), arrays["offsets"], arrays["labels"]
    except FileNotFoundError:
        raise must("data", f"hold {WANTED}", str(path)) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise must(str(path), "be an npz file with jpeg, offsets and labels", str(error)) from error
    if len(offsets) != len(labels) + 1 or offsets[-1] > len(content):
        raise must(str(path), "hold an offset for each image and the end", (len(offsets), len(labels)))
    index = choose(len(labels))
    x = np.empty((len(index), 3, 32, 32), dtype=np.uint8)
    for row, i in zip(x, index, strict=True):
        row[:] = _decoded(path, content[offsets[i] : offsets[i + 1]])
    return Images(x, _labels(path, labels.astype(np.int64))[index])


def _decoded(path: Path, jpeg: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise must(str(path), "hold whole JPEG images", str(error)) from error
    if pixels.shape != (32, 32, 3):
        raise must(str(path), "hold images of 32 x 32 pixels", pixels.shape)
    return pixels.transpose(2, 0, 1)


def _labels(path: Path, y: np.ndarray) -> np.ndarray:
    if y.size and not 0 <= y.min() <= y.max() <= 9:
        raise must(str(path), "hold labels in [0, 9]", (int(y.min()), int(y.max())))
    return y
