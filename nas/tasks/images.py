"""Image classification held in memory: what every such task shares, whatever its files.

Shapes: ``x`` is (N, C, H, W), that is images, channels, height, width; ``y`` is (N,).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.errors import must
from nas.rng import stream
from nas.task import Batch, Split, Task, evaluating, placed, positions

SCORING_BATCH = 512
"""Images scored at once."""


class Images(NamedTuple):
    """Raw images ``x`` (uint8, shape (N, C, H, W)) and their class indices ``y`` (shape (N,))."""

    x: NDArray[np.uint8]
    y: NDArray[Any]


Choose: TypeAlias = Callable[[int], NDArray[np.int64]]
"""From the number of training images to the positions of those to read, in order."""


class ImageTask(Task):
    """Classification of images that fit in memory.

    They are kept as bytes and given as float32 of shape (batch, C, H, W), normalised by the mean and
    standard deviation of each channel over the training images.

    Args:
        batch_size: images of a training batch.
        val_share: share of the training files kept for validation, in (0, 1); without effect where there
            are validation files.
        limit: training files are cut to this many images, validation among them; None for all.
        seed: chooses the limited images and the validation split; the test split never changes.

    Raises:
        BadInput: a setting is out of range, or nothing is left to train or validate on.
    """

    augmentable: ClassVar[bool] = True
    metrics = ("accuracy", "loss")

    def __init__(
        self, *, batch_size: int = 64, val_share: float = 0.1, limit: int | None = None, seed: int = 0
    ) -> None:
        if batch_size < 1:
            raise must("batch_size", "be at least 1", batch_size)
        if not 0.0 < val_share < 1.0:
            raise must("val_share", "lie in (0, 1)", val_share)
        if limit is not None and limit < 2:
            raise must("limit", "be at least 2 images", limit)
        self.batch_size = batch_size
        self.seed = seed
        pool = self.read_train(lambda n: stream(seed, "split").permutation(n)[:limit])
        val = self.read_val()
        n_val = round(val_share * len(pool.y)) if val is None else 0
        if val is None and not 0 < n_val < len(pool.y):
            raise must("val_share", "leave images to train and to validate on", val_share)
        self._splits: dict[Split, tuple[Tensor, Tensor]] = {
            "train": _tensors(Images(pool.x[n_val:], pool.y[n_val:])),
            "val": _tensors(Images(pool.x[:n_val], pool.y[:n_val]) if val is None else val),
        }
        test = self.read_test()
        if test is not None:
            self._splits["test"] = _tensors(test)
        x, _ = self._splits["train"]
        self.input_shape = tuple(x.shape[1:])
        self._mean, self._std = _statistics(x)

    @abstractmethod
    def read_train(self, choose: Choose) -> Images:
        """The chosen training images, in the chosen order."""

    def read_val(self) -> Images | None:
        """Validation images of their own; None where they are taken from the training images."""
        return None

    @abstractmethod
    def read_test(self) -> Images | None:
        """All test images; None where there are none, which is an error only when they are asked for."""

    @final
    def count(self, split: Split) -> int:
        """Number of images in a split."""
        return len(self._of(split)[1])

    @final
    def batches(
        self, split: Split, *, seed: int, samples: Sequence[int] | None = None, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """One pass of (images, labels) over a split; ``train`` in the seed's order."""
        x, y = self._of(split)
        size = self.batch_size if batch_size is None else batch_size
        for part in positions(len(y), size, seed if split == "train" else None, samples):
            index = torch.from_numpy(part)
            yield self._normalised(x[index]), y[index]

    @final
    def picked(self, samples: Sequence[int]) -> Batch:
        """(images, labels) of the training samples at these positions, in this order."""
        x, y = self._of("train")
        index = torch.as_tensor(samples)
        return self._normalised(x[index]), y[index]

    @final
    def inputs(self, batch: Batch) -> Any:
        """Images of shape (batch, C, H, W)."""
        return batch[0]

    @final
    def targets(self, batch: Batch) -> Any:
        """Class indices of shape (batch,)."""
        return batch[1]

    @final
    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Logits of shape (batch, classes)."""
        return model(batch[0])

    @final
    def loss(self, output: Any, batch: Batch) -> Tensor:
        """Cross entropy of each image, shape (batch,)."""
        return F.cross_entropy(output, batch[1], reduction="none")

    @final
    def score(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """Accuracy as a fraction and mean cross entropy, in evaluation mode."""
        correct, total = 0, 0.0
        with evaluating(model):
            for batch in self.batches(split, seed=0, batch_size=SCORING_BATCH):
                batch = placed(batch, model)
                output = self.forward(model, batch)
                correct += int((output.argmax(1) == batch[1]).sum())
                total += float(self.loss(output, batch).double().sum())
        return {"accuracy": correct / self.count(split), "loss": total / self.count(split)}

    @final
    def example(self, batch_size: int) -> Tensor:
        """Training images, repeated where there are fewer."""
        x, _ = self._splits["train"]
        return self._normalised(x[torch.arange(batch_size) % len(x)])

    @final
    def fingerprint(self) -> str:
        """Digest of all images and labels in their splits."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = blake2b(digest_size=16)
        for x, y in self._splits.values():
            digest.update(repr(tuple(x.shape)).encode())
            digest.update(x.numpy().data)
            digest.update(y.numpy().data)
        return digest.hexdigest()

    def _of(self, split: Split) -> tuple[Tensor, Tensor]:
        if split not in self._splits:
            raise must(f"the {split} split", "have images", "none", f"add a folder {split}/")
        return self._splits[split]

    def _normalised(self, x: Tensor) -> Tensor:
        return x.to(torch.float32).sub_(self._mean).div_(self._std)


def _tensors(images: Images) -> tuple[Tensor, Tensor]:
    """Own copies, as arrays read from files may not be written to."""
    return torch.from_numpy(images.x.copy()), torch.from_numpy(images.y.astype(np.int64))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, shape (C, 1, 1), from exact counts of byte values."""
    values = np.arange(256)
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in x.unbind(1)]).numpy()
    total = counts.sum(1)
    mean = counts @ values / total
    std = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0.0))
    std[std == 0.0] = 1.0
    shaped = [torch.tensor(v, dtype=torch.float32).reshape(-1, 1, 1) for v in (mean, std)]
    return shaped[0], shaped[1]
