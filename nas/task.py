"""The data and what is asked of it; nobody else knows the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, final

import numpy as np

from nas.errors import Unsupported, must
from nas.rng import derive, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

Split: TypeAlias = Literal["train", "val", "test"]
Batch: TypeAlias = Any
"""Whatever the task's loader gives; usually a tuple of tensors whose first axis counts samples."""


class Task(ABC):
    """Batches, forward pass, loss and score.

    Attributes:
        classes: number of classes; None where targets are not class indices.
        input_shape: shape of one input without the batch axis; None where it varies.
        batch_size: samples of a training batch.
        metrics: names that `score` gives, the main one first.
        seed: by which validation is split from training.
        repeatable: whether the same seed gives the same batches.
        augmentable: whether inputs are images of shape (channels, height, width) that may be cropped,
            flipped and mixed.
    """

    classes: int | None = None
    input_shape: tuple[int, ...] | None = None
    batch_size: int = 64
    metrics: tuple[str, ...] = ("accuracy",)
    seed: int = 0
    repeatable: bool = True
    augmentable: ClassVar[bool] = False

    @abstractmethod
    def count(self, split: Split) -> int:
        """Number of samples in a split."""

    @abstractmethod
    def batches(
        self, split: Split, *, seed: int, samples: Sequence[int] | None = None, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """One pass over a split.

        Args:
            split: ``train`` is shuffled by ``seed``; the others keep their order.
            seed: of the order.
            samples: positions within the split to use; None for all.
            batch_size: samples a batch; None for the task's own.
        """

    @abstractmethod
    def inputs(self, batch: Batch) -> Any:
        """What the model is called with."""

    @abstractmethod
    def targets(self, batch: Batch) -> Any:
        """What the loss compares with."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """The model's output for a batch."""

    @abstractmethod
    def loss(self, output: Any, batch: Batch) -> Tensor:
        """Shape (batch,): the loss of each sample."""

    @abstractmethod
    def score(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """The metrics of a model in evaluation mode on a split, always with ``loss``."""

    @abstractmethod
    def example(self, batch_size: int) -> Any:
        """Model inputs of that many samples, for tracing and timing; from training data where it can be."""

    def picked(self, samples: Sequence[int]) -> Batch:  # noqa: ARG002 - a hook
        """The training samples at these positions as one batch, in this order; positions may repeat.

        Raises:
            Unsupported: the task's samples cannot be had one by one.
        """
        raise Unsupported(f"{type(self).__name__} cannot pick training samples; give it picked()")

    def fingerprint(self) -> str:
        """Hexadecimal digest of the data, by which a resumed run knows it again; empty when unknown."""
        return ""

    @staticmethod
    def from_loaders(
        train: Iterable[Batch],
        val: Iterable[Batch],
        test: Iterable[Batch] | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        score: Callable[[nn.Module, Iterable[Batch]], Mapping[str, float] | float] | None = None,
        forward: Callable[[nn.Module, Batch], Any] | None = None,
        *,
        inputs: Callable[[Batch], Any] | None = None,
        targets: Callable[[Batch], Any] | None = None,
        metrics: Sequence[str] = ("score",),
        classes: int | None = None,
    ) -> LoaderTask:
        """A task from a user's own data loaders; see `LoaderTask`."""
        return LoaderTask(
            train,
            val,
            test,
            loss,
            score,
            forward,
            inputs=inputs,
            targets=targets,
            metrics=metrics,
            classes=classes,
        )


@final
class LoaderTask(Task):
    """A task from a user's own data loaders.

    A ``DataLoader`` that goes in order or shuffled over a map-style dataset is rebuilt for every pass with
    an order of its own seed, so that passes repeat; its collate function, workers and dropped rest are kept.
    Any other loader is iterated as it is: a sequence of batches repeats, everything else is taken not to.

    Args:
        train, val, test: loaders that give batches on every pass. A batch is ``(inputs, targets)``, or
            anything that ``forward``, ``inputs`` and ``targets`` understand, such as a dict.
        loss: of (output, targets); shape (batch,), more axes (averaged) or a scalar mean. The losses of
            ``torch.nn`` are copied with ``reduction="none"``. By default cross entropy, for class indices.
        score: of (model in evaluation mode, loader whose batches are on its device); a mapping that holds
            ``metrics``, or one number. By default accuracy for class indices, else the loss alone.
        forward: of (model, batch); by default the model is called with the inputs.
        inputs, targets: of a batch; by default its first and second part.
        metrics: names of what ``score`` returns.
        classes: number of classes; by default the largest training target plus one, found in one pass.

    Raises:
        BadInput: a loader is empty or good for one pass only, or batches need functions that are missing.
    """

    def __init__(
        self,
        train: Iterable[Batch],
        val: Iterable[Batch],
        test: Iterable[Batch] | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        score: Callable[[nn.Module, Iterable[Batch]], Mapping[str, float] | float] | None = None,
        forward: Callable[[nn.Module, Batch], Any] | None = None,
        *,
        inputs: Callable[[Batch], Any] | None = None,
        targets: Callable[[Batch], Any] | None = None,
        metrics: Sequence[str] = ("score",),
        classes: int | None = None,
    ) -> None:
        given: dict[Split, Iterable[Batch] | None] = {"train": train, "val": val, "test": test}
        self._loaders = {split: loader for split, loader in given.items() if loader is not None}
        self._forward, self._score, self._inputs, self._targets = forward, score, inputs, targets
        firsts = {split: _first(split, loader) for split, loader in self._loaders.items()}
        self._rebuilt = {split: _rebuildable(loader) for split, loader in self._loaders.items()}
        self.repeatable = all(
            self._rebuilt[s] or isinstance(loader, Sequence) for s, loader in self._loaders.items()
        )
        self._counts: dict[Split, int] = {}
        first = firsts["train"]
        if not isinstance(first, tuple | list) and (targets is None or (forward is None and inputs is None)):
            raise must(
                "a batch", "be (inputs, targets)", type(first).__name__, "or give targets= and forward="
            )
        labels = _are_labels(self.targets(first), loss)
        if loss is None and not labels:
            raise must("loss", "be given for targets that are no class indices", None)
        self._loss = _per_sample(loss)
        self.batch_size = self._length(first)
        self.classes = classes if classes is not None or not labels else self._largest() + 1
        self.input_shape = self._shape(first)
        self.metrics = (*(metrics if score else ("accuracy",) if labels else ()), "loss")

    def count(self, split: Split) -> int:
        """Number of samples that one pass gives."""
        if split not in self._counts:
            loader: Any = self._loader(split)
            if self._rebuilt[split]:
                n, size = len(loader.dataset), int(loader.batch_size)
                self._counts[split] = n - n % size if loader.drop_last else n
            else:
                self._counts[split] = sum(self._length(b) for b in self.batches(split, seed=0))
        return self._counts[split]

    def batches(
        self, split: Split, *, seed: int, samples: Sequence[int] | None = None, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """One pass over a split, in the seed's order where the loader shuffles.

        Raises:
            BadInput: samples or a batch size are asked of a loader that cannot be rebuilt, or it is empty.
        """
        empty = True
        for batch in self._pass(split, seed, samples, batch_size):
            empty = False
            yield batch
        if empty:
            raise must(f"the {split} loader", "give batches on every pass", "none")

    def picked(self, samples: Sequence[int]) -> Batch:
        """The training samples at these positions, collated as the loader does.

        Raises:
            Unsupported: the training loader cannot be rebuilt.
        """
        loader: Any = self._loader("train")
        if not self._rebuilt["train"]:
            return super().picked(samples)
        return loader.collate_fn([loader.dataset[int(i)] for i in samples])

    def inputs(self, batch: Batch) -> Any:
        """What the model is called with."""
        return batch[0] if self._inputs is None else self._inputs(batch)

    def targets(self, batch: Batch) -> Any:
        """What the loss compares with."""
        return batch[1] if self._targets is None else self._targets(batch)

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """The model's output for a batch."""
        return model(self.inputs(batch)) if self._forward is None else self._forward(model, batch)

    def loss(self, output: Any, batch: Batch) -> Tensor:
        """Shape (batch,); a scalar loss counts for each sample."""
        loss = self._loss(output, self.targets(batch))
        return loss.flatten(1).mean(1) if loss.ndim > 1 else loss.expand(self._length(batch))

    def score(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """The user's metrics, or accuracy for class indices, and always the mean loss."""
        with evaluating(model):
            values: dict[str, float] = {}
            if self._score is not None:
                answer = self._score(model, _Placed(self, split, model))
                named = answer if isinstance(answer, Mapping) else {self.metrics[0]: answer}
                for metric in self.metrics[:-1]:
                    if metric not in named:
                        raise must(
                            "score", f"return {metric!r}", sorted(named), "name its metrics in metrics="
                        )
                values = {name: float(value) for name, value in named.items() if name in self.metrics}
            return {**self._plain_score(model, split), **values}

    def example(self, batch_size: int) -> Any:
        """Training inputs, repeated where there are fewer.

        Raises:
            BadInput: the inputs are no tensor.
        """
        import torch

        size = min(batch_size, self.count("train")) if self._rebuilt["train"] else None
        with torch.random.fork_rng(devices=[]):
            x = self.inputs(next(self.batches("train", seed=0, batch_size=size)))
        if not isinstance(x, torch.Tensor):
            raise must("inputs", "be a tensor for tracing and timing", type(x).__name__, "give inputs=")
        return x[torch.arange(batch_size) % len(x)]

    def _plain_score(self, model: nn.Module, split: Split) -> dict[str, float]:
        total, correct, n = 0.0, 0, 0
        for batch in _Placed(self, split, model):
            output = self.forward(model, batch)
            total += float(self.loss(output, batch).double().sum())
            n += self._length(batch)
            if self._score is None and len(self.metrics) > 1:
                correct += int((output.argmax(-1) == self.targets(batch)).sum())
        scores = {"accuracy": correct / n} if self._score is None and len(self.metrics) > 1 else {}
        return {**scores, "loss": total / n}

    def _pass(
        self, split: Split, seed: int, samples: Sequence[int] | None, batch_size: int | None
    ) -> Iterable[Batch]:
        loader: Any = self._loader(split)
        if not self._rebuilt[split]:
            if samples is not None or batch_size not in (None, self.batch_size):
                raise must(
                    f"the {split} loader", "be a DataLoader over a map-style dataset", type(loader).__name__
                )
            return loader  # type: ignore[no-any-return]
        import torch
        from torch.utils.data import DataLoader, RandomSampler

        order = seed if split == "train" and isinstance(loader.sampler, RandomSampler) else None
        size = batch_size or int(loader.batch_size)
        parts = positions(len(loader.dataset), size, order, samples)
        if loader.drop_last and len(parts[-1]) < size and len(parts) > 1:
            parts.pop()
        # An own generator, since a DataLoader otherwise draws from torch's global one.
        return DataLoader(
            loader.dataset,
            batch_sampler=[part.tolist() for part in parts],
            collate_fn=loader.collate_fn,
            num_workers=loader.num_workers,
            worker_init_fn=loader.worker_init_fn,
            pin_memory=loader.pin_memory,
            generator=torch.Generator().manual_seed(derive(seed, "loader")),
        )

    def _loader(self, split: Split) -> Iterable[Batch]:
        if split not in self._loaders:
            raise must(f"the {split} loader", "be given", None, f"pass {split}= to Task.from_loaders")
        return self._loaders[split]

    def _largest(self) -> int:
        import torch

        with torch.random.fork_rng(devices=[]):
            return max(int(self.targets(batch).max()) for batch in self.batches("train", seed=0))

    def _length(self, batch: Batch) -> int:
        return len(self.targets(batch))

    def _shape(self, batch: Batch) -> tuple[int, ...] | None:
        import torch

        if self._inputs is None and not isinstance(batch, tuple | list):
            return None
        x = self.inputs(batch)
        return tuple(x.shape[1:]) if isinstance(x, torch.Tensor) else None


@final
class _Placed:
    """A split's batches on a model's device, as often as they are wanted."""

    def __init__(self, task: Task, split: Split, model: nn.Module) -> None:
        self._task, self._split, self._model = task, split, model

    def __iter__(self) -> Iterator[Batch]:
        return (placed(batch, self._model) for batch in self._task.batches(self._split, seed=0))


def positions(
    count: int, batch_size: int, seed: int | None, samples: Sequence[int] | None = None
) -> list[NDArray[np.int64]]:
    """Which samples each batch of a pass holds.

    Args:
        count: samples in the split.
        batch_size: samples a batch, at least 1.
        seed: shuffles, and lets a last batch of one sample join the one before, because batch
            normalisation cannot train on it; None keeps the order.
        samples: positions to use; None for all.

    Raises:
        BadInput: a sample lies outside the split, there is none, or the batch size is below 1.
    """
    if batch_size < 1:
        raise must("batch_size", "be at least 1", batch_size)
    order = np.arange(count) if samples is None else np.asarray(samples, dtype=np.int64)
    if not order.size or order.min() < 0 or order.max() >= count:
        raise must("samples", f"be positions from 0 to {count - 1}", samples)
    if seed is not None:
        order = stream(seed, "order").permutation(order)
    parts = np.split(order, range(batch_size, len(order), batch_size))
    if seed is not None and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def placed(batch: Batch, model: nn.Module) -> Batch:
    """The batch with every tensor of its tuples, lists and dicts on the model's device."""
    parameter = next(model.parameters(), None)
    return batch if parameter is None or parameter.device.type == "cpu" else _moved(batch, parameter.device)


def _moved(value: Any, device: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: _moved(part, device) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_moved(part, device) for part in value)
    return value


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without gradients; afterwards every module's mode is as before."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _first(split: Split, loader: Iterable[Batch]) -> Batch:
    import torch

    if isinstance(loader, Iterator) or not isinstance(loader, Iterable):
        raise must(
            f"the {split} loader", "give batches on every pass", type(loader).__name__, "pass a DataLoader"
        )
    with torch.random.fork_rng(devices=[]):
        for batch in loader:
            return batch
    raise must(f"the {split} loader", "hold at least one batch", "none")


def _rebuildable(loader: Iterable[Batch]) -> bool:
    """Whether it is a plain DataLoader: in order, or shuffled without replacement, over known samples."""
    from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    sampler: Any = loader.sampler
    if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        return False
    if isinstance(sampler, RandomSampler):
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return isinstance(sampler, SequentialSampler)


def _are_labels(targets: Any, loss: object) -> bool:
    """Whether targets are class indices, of shape (batch,), for a loss that compares classes."""
    import torch
    from torch import nn

    whole = isinstance(targets, torch.Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    of_classes = isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss | nn.MultiMarginLoss)
    return whole and (of_classes or not isinstance(loss, nn.modules.loss._Loss))


def _per_sample(loss: Callable[[Any, Any], Tensor] | None) -> Callable[[Any, Any], Tensor]:
    from torch import nn

    if loss is None:
        return nn.CrossEntropyLoss(reduction="none")
    if isinstance(loss, nn.modules.loss._Loss):
        loss = deepcopy(loss)
        loss.reduction = "none"
    return loss
