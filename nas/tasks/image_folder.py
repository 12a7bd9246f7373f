"""A folder of images with a folder for each class."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nas.errors import must
from nas.rng import stream
from nas.tasks.images import Choose, Images, ImageTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files with other endings are passed over."""

Mode: TypeAlias = Literal["L", "RGB"]
MODES: dict[int, Mode] = {1: "L", 3: "RGB"}

Labelled: TypeAlias = "list[tuple[Path, int]]"


@final
class ImageFolder(ImageTask):
    """Images in ``train/CLASS/``, and perhaps ``val/CLASS/`` and ``test/CLASS/``; or in ``CLASS/`` alone.

    Without ``train/``, a share of each class is kept as the test, the same whatever the seed. With
    ``train/`` and no ``test/`` there is no test split. Images may lie deeper within a class's folder;
    hidden files and files that are no images by their ending are passed over. All images are held in
    memory as bytes, so a million of 32×32 pixels take 3 GB.

    Args:
        data: the folder.
        size: images are fitted to a square of so many pixels, the middle kept; None wants all of one size.
        channels: 1 for grey images, 3 for colour.
        test_share: share of each class that is the test where there is no ``train/``, in [0, 1).
        batch_size, val_share, limit, seed: as in `ImageTask`.

    Attributes:
        class_names: names of the classes' folders in order; class 0 is the first.

    Raises:
        BadInput: there is no such folder, fewer than two classes, a class without images, a class that is
            not trained on, a file that is no whole image (it is named), or images of different sizes.
    """

    def __init__(
        self,
        data: str | Path,
        size: int | None = None,
        channels: int = 3,
        test_share: float = 0.2,
        batch_size: int = 64,
        val_share: float = 0.1,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        if size is not None and size < 1:
            raise must("size", "be at least 1 pixel", size)
        if channels not in MODES:
            raise must("channels", "be 1 (grey) or 3 (colour)", channels)
        if not 0.0 <= test_share < 1.0:
            raise must("test_share", "lie in [0, 1)", test_share)
        self._root = Path(data)
        if not self._root.is_dir():
            raise must("data", "be a folder with a folder for each class", str(data))
        self._size = None if size is None else (size, size)
        self._shape: tuple[int, ...] | None = None
        self._mode = MODES[channels]
        self._test_share = test_share
        self._split = (self._root / "train").is_dir()
        self.class_names = _class_names(self._root / "train" if self._split else self._root)
        self.classes = len(self.class_names)
        super().__init__(batch_size=batch_size, val_share=val_share, limit=limit, seed=seed)

    def read_train(self, choose: Choose) -> Images:
        """The chosen images that are not in the test."""
        files = self._files("train") if self._split else self._kept_and_test[0]
        return self._read([files[i] for i in choose(len(files))])

    def read_val(self) -> Images | None:
        """Those in ``val/``."""
        return self._read(self._files("val")) if (self._root / "val").is_dir() and self._split else None

    def read_test(self) -> Images | None:
        """Those in ``test/``, or the share of each class."""
        if not self._split:
            test = self._kept_and_test[1]
            return self._read(test) if test else None
        return self._read(self._files("test")) if (self._root / "test").is_dir() else None

    @cached_property
    def _kept_and_test(self) -> tuple[Labelled, Labelled]:
        kept: Labelled = []
        test: Labelled = []
        for label, name in enumerate(self.class_names):
            members = _images(self._root / name)
            order = stream(0, "image_folder", "test", name).permutation(len(members))
            n = min(round(self._test_share * len(members)), len(members) - 1)
            test += [(members[i], label) for i in sorted(order[:n])]
            kept += [(members[i], label) for i in sorted(order[n:])]
        return kept, test

    def _files(self, split: str) -> Labelled:
        """Every image of a split's folder with its class."""
        files: Labelled = []
        for name in _class_names(self._root / split):
            if name not in self.class_names:
                raise must(f"the class {name} of {split}/", "be in train/, too", list(self.class_names))
            label = self.class_names.index(name)
            files += [(path, label) for path in _images(self._root / split / name)]
        return files

    def _read(self, files: Sequence[tuple[Path, int]]) -> Images:
        pixels = []
        for path, _ in files:
            pixels.append(_decoded(path, self._mode, self._size))
            self._shape = self._shape or pixels[0].shape
            if pixels[-1].shape != self._shape:
                _, height, width = pixels[-1].shape
                wanted = f"have {self._shape[2]} x {self._shape[1]} pixels like the first image"
                raise must(str(path), wanted, f"{width} x {height}", "set size:")
        return Images(np.stack(pixels), np.array([label for _, label in files], dtype=np.int64))


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if len(names) < 2:
        raise must(str(folder), "hold a folder for each of at least two classes", list(names))
    return names


def _images(folder: Path) -> list[Path]:
    found = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    if not found:
        raise must(
            f"the class folder {folder}", "hold images", "none", f"endings: {', '.join(sorted(SUFFIXES))}"
        )
    return found


def _decoded(path: Path, mode: Mode, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Bytes of shape (channels, height, width), turned upright and fitted to a size if one is given."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert(mode)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise must(str(path), "be a whole image", str(error), "repair or remove it") from error
    if size is not None and image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(image, dtype=np.uint8)).transpose(2, 0, 1)
