"""Rows of a csv file: classification and regression.

Shapes: ``x`` is (N, F), that is rows and features; ``y`` is (N,).
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.errors import must, unknown
from nas.rng import stream
from nas.task import Batch, Split, Task, evaluating, placed, positions
from nas.tasks.columns import encoded, missing, numbers, read_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Kind: TypeAlias = Literal["classification", "regression"]

FEW = 20
"""Most distinct whole numbers that are taken for classes."""
SCORING_BATCH = 4096
"""Rows scored at once."""

_log = logging.getLogger(__name__)


@final
class Table(Task):
    """One column of a table, to be predicted from the others.

    Columns of numbers are standardised by the training rows; where training rows lack a value, the mean
    stands in and a further feature says so. Every other column becomes a feature for each of its most
    frequent values and one for all the rest, rare and unknown ones among them. Cells that are empty, ``?``,
    ``NA``, ``NaN``, ``null`` or ``None`` are missing. A fifth of the rows (of each class) is the test by
    default, the same whatever the seed.

    Classification scores ``accuracy`` and ``loss`` (cross entropy). Regression scores ``rmse`` in the unit
    of the label, ``r2``, and ``loss`` (squared error of the standardised label), of models that answer
    with one number.

    Args:
        data: a csv file with a head line, also packed as ``.gz``; or ``sklearn:breast_cancer``,
            ``sklearn:diabetes``, ``sklearn:iris`` or ``sklearn:wine``, which come with scikit-learn.
        label: name of the column to predict.
        kind: ``classification`` or ``regression``; None takes a label for classes where it is text or has at
            most 20 values, all whole numbers. What was inferred is logged.
        categorical: columns of numbers that are names of things.
        ignore: columns to leave out.
        categories: most features of their own that a column of names gets, at least 1.
        test_share, val_share: of all rows, and of what then remains; in (0, 1).
        delimiter: between cells.
        batch_size: rows of a training batch.
        seed: chooses the validation rows.

    Attributes:
        kind: the given or inferred one.
        class_names: the label's values in order; empty for regression.
        features: a name for each input.

    Raises:
        BadInput: the file cannot be read or is not rectangular (with the line), a column is unknown, the
            label is missing somewhere or does not suit the kind, or a split would be empty.
    """

    def __init__(
        self,
        data: str | Path,
        label: str = "target",
        kind: str | None = None,
        categorical: Sequence[str] = (),
        ignore: Sequence[str] = (),
        categories: int = 32,
        test_share: float = 0.2,
        val_share: float = 0.2,
        delimiter: str = ",",
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        _check(kind, categories, test_share, val_share, batch_size)
        columns = read_columns(data, delimiter)
        for column in (label, *categorical, *ignore):
            if column not in columns:
                raise unknown("column", column, columns)
        labels = columns.pop(label)
        if any(missing(cell) for cell in labels):
            line = next(i for i, cell in enumerate(labels) if missing(cell)) + 2
            raise must(f"the label {label}", "be given in every row", f"none in line {line}")
        self.kind: Kind = _kind(label, labels, kind)
        if self.kind == "classification":
            labels = _class_of_each(labels)
        self.class_names = _classes(label, labels) if self.kind == "classification" else ()
        self.classes = len(self.class_names) or None
        y = self._targets_of(label, labels)
        rows = _split(y if self.classes else np.zeros(len(y)), test_share, val_share, seed)
        kept = {name: cells for name, cells in columns.items() if name not in ignore}
        if not kept:
            raise must("the table", "have a column beside the label", list(columns))
        x, self.features = encoded(kept, rows["train"], frozenset(categorical), categories)
        self._place(x, y, rows)
        self.metrics = ("accuracy", "loss") if self.classes else ("rmse", "r2", "loss")
        self.input_shape = (x.shape[1],)
        self.batch_size, self.seed = batch_size, seed

    def _targets_of(self, label: str, labels: Sequence[str]) -> NDArray[Any]:
        if self.classes:
            index = {name: i for i, name in enumerate(self.class_names)}
            return np.array([index[cell] for cell in labels], dtype=np.int64)
        y = numbers(labels)
        if y is None:
            raise must(f"the label {label}", "hold finite numbers for regression", "text")
        return y

    def _place(
        self, x: NDArray[np.float32], y: NDArray[Any], rows: Mapping[Split, NDArray[np.int64]]
    ) -> None:
        """Keep the splits as tensors; regression targets standardised by the training rows."""
        self._mean, self._std = 0.0, 1.0
        if not self.classes:
            train = y[rows["train"]]
            self._mean, self._std = float(train.mean()), float(train.std()) or 1.0
            y = ((y - self._mean) / self._std).astype(np.float32)
        self._splits = {s: (torch.from_numpy(x[i]), torch.from_numpy(y[i])) for s, i in rows.items()}

    def count(self, split: Split) -> int:
        """Number of rows in a split."""
        return len(self._splits[split][1])

    def batches(
        self, split: Split, *, seed: int, samples: Sequence[int] | None = None, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """One pass of (features, labels) over a split; ``train`` in the seed's order."""
        x, y = self._splits[split]
        size = self.batch_size if batch_size is None else batch_size
        for part in positions(len(y), size, seed if split == "train" else None, samples):
            index = torch.from_numpy(part)
            yield x[index], y[index]

    def picked(self, samples: Sequence[int]) -> Batch:
        """(features, labels) of the training rows at these positions, in this order."""
        x, y = self._splits["train"]
        index = torch.as_tensor(samples)
        return x[index], y[index]

    def inputs(self, batch: Batch) -> Any:
        """Features of shape (batch, F)."""
        return batch[0]

    def targets(self, batch: Batch) -> Any:
        """Class indices, or standardised labels, of shape (batch,)."""
        return batch[1]

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Logits of shape (batch, classes), or standardised predictions of shape (batch,).

        Raises:
            BadInput: a regression model answers with more than one number.
        """
        output = model(batch[0])
        if self.classes:
            return output
        if output.shape not in ((len(batch[1]), 1), (len(batch[1]),)):
            raise must("a model for regression", "answer with one number a row", tuple(output.shape))
        return output.reshape(-1)

    def loss(self, output: Any, batch: Batch) -> Tensor:
        """Cross entropy or squared standardised error of each row, shape (batch,)."""
        if self.classes:
            return F.cross_entropy(output, batch[1], reduction="none")
        error: Tensor = output - batch[1]
        return error.square()

    def score(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """The metrics of a model in evaluation mode on a split."""
        outputs, losses = [], []
        with evaluating(model):
            for batch in self.batches(split, seed=0, batch_size=SCORING_BATCH):
                batch = placed(batch, model)
                output = self.forward(model, batch)
                outputs.append(output.double().cpu())
                losses.append(self.loss(output, batch).double().cpu())
        loss = float(torch.cat(losses).mean())
        y = self._splits[split][1]
        if self.classes:
            return {"accuracy": float((torch.cat(outputs).argmax(1) == y).double().mean()), "loss": loss}
        spread = float(y.double().var(correction=0))
        # Where all labels are equal, r2 is undefined; 0 says that the mean would do as well.
        return {
            "rmse": loss**0.5 * self._std,
            "r2": 1.0 - loss / spread if spread > 0 else 0.0,
            "loss": loss,
        }

    def example(self, batch_size: int) -> Tensor:
        """Training rows, repeated where there are fewer."""
        x, _ = self._splits["train"]
        return x[torch.arange(batch_size) % len(x)]

    def fingerprint(self) -> str:
        """Digest of all features and labels in their splits."""
        digest = blake2b(repr((self._mean, self._std, self.class_names)).encode(), digest_size=16)
        for x, y in self._splits.values():
            digest.update(repr(tuple(x.shape)).encode())
            digest.update(x.numpy().tobytes())
            digest.update(y.numpy().tobytes())
        return digest.hexdigest()


def _check(kind: str | None, categories: int, test_share: float, val_share: float, batch_size: int) -> None:
    if kind not in (None, "classification", "regression"):
        raise must("kind", "be classification or regression", kind)
    for name, share in (("test_share", test_share), ("val_share", val_share)):
        if not 0.0 < share < 1.0:
            raise must(name, "lie in (0, 1)", share)
    for name, value in (("categories", categories), ("batch_size", batch_size)):
        if value < 1:
            raise must(name, "be at least 1", value)


def _kind(label: str, labels: Sequence[str], given: str | None) -> Kind:
    """The given kind, or what the label's values suggest."""
    if given is not None:
        return "classification" if given == "classification" else "regression"
    values = numbers(labels)
    if values is None:
        kind: Kind = "classification"
        why = "its values are text"
    else:
        distinct = len(np.unique(values))
        few = distinct <= FEW and bool((values == np.rint(values)).all())
        kind = "classification" if few else "regression"
        why = f"it has {distinct} distinct values, {'all whole' if few else 'too many or not all whole'}"
    _log.info("label %s: taken for %s, since %s; set kind: to change that", label, kind, why)
    return kind


def _class_of_each(labels: Sequence[str]) -> list[str]:
    """The name of each row's class; of numbers, ``1.0`` and ``1`` are the same."""
    values = numbers(labels)
    if values is None:
        return [cell.strip() for cell in labels]
    return [str(int(v)) if v.is_integer() else repr(v) for v in values.tolist()]


def _classes(label: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes, numbers in their order and texts in theirs."""
    names = sorted(set(labels))
    values = numbers(names)
    if values is not None:
        names = [names[i] for i in np.argsort(values, kind="stable")]
    if len(names) < 2:
        raise must(f"the label {label}", "have at least two classes", names)
    return tuple(names)


def _split(
    groups: NDArray[Any], test_share: float, val_share: float, seed: int
) -> dict[Split, NDArray[np.int64]]:
    """Rows of each split, the same shares of every group; a row of each group is trained on at least."""
    parts: dict[Split, list[NDArray[np.int64]]] = {"train": [], "val": [], "test": []}
    for group in np.unique(groups).tolist():
        members = stream(0, "table", "test", group).permutation(np.flatnonzero(groups == group))
        n_test = min(round(test_share * len(members)), len(members) - 1)
        rest = stream(seed, "table", "val", group).permutation(members[n_test:])
        n_val = min(round(val_share * len(rest)), len(rest) - 1)
        parts["test"].append(members[:n_test])
        parts["val"].append(rest[:n_val])
        parts["train"].append(rest[n_val:])
    rows: dict[Split, NDArray[np.int64]] = {s: np.sort(np.concatenate(part)) for s, part in parts.items()}
    for split, index in rows.items():
        if not len(index):
            raise must(f"the {split} split", "have rows", f"none of {len(groups)}", "change the shares")
    return rows
