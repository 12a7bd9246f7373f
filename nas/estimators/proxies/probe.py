"""One module under test: its passes are computed when they are first wanted, once, and leave no trace."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

import torch
from torch import Tensor, nn

from nas.estimators.proxies.batches import Batches
from nas.estimators.proxies.codes import ReluCodes
from nas.estimators.proxies.labelled import LAYERS, Labelled, channel_masks, labelled, owns_weight
from nas.estimators.proxies.ledger import Ledger
from nas.estimators.proxies.undefined import Undefined
from nas.estimators.proxies.untouched import untouched
from nas.rng import derive
from nas.task import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from nas.task import Batch, Task

__all__ = ["LAYERS", "Batches", "Probe", "Seen", "Undefined"]
"""What metrics are written with."""

T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True)
class Seen:
    """One call of a submodule, as `Probe.watching` saw it; tensors are those of the pass itself."""

    name: str
    module: nn.Module
    inputs: Tensor
    output: Tensor


@final
class Probe:
    """A module under test.

    Everything offered here leaves parameters, buffers, ``.grad``, ``requires_grad``, modes, hooks, in-place
    flags and torch's generator as they were. A metric that changes the module itself does so inside
    `untouched` or `running`.

    Args:
        module: with the weights that are judged, on its device.
        task: gives batches, forward pass and loss.
        seed: of batches, dropout and random inputs.
        batch_size: samples of a batch; None for the task's own.
        shares: names of passes that will be wanted, so that one pass gives them all; what is not foreseen
            costs one more pass and gives the same numbers.
        batches: those of other probes of the same task, seed and batch size, to read them once.
    """

    def __init__(
        self,
        module: nn.Module,
        task: Task,
        *,
        seed: int = 0,
        batch_size: int | None = 64,
        shares: Collection[str] = (),
        batches: Batches | None = None,
    ) -> None:
        self.module, self.task, self.seed = module, task, seed
        self.ledger = Ledger()
        self._shares = frozenset(shares)
        self._batches = batches or Batches(task, derive(seed, "proxy", "batches"), batch_size)
        self._found: dict[str, Any] = {}

    # -- data -----------------------------------------------------------------------------------------

    def raw_batch(self, i: int) -> Batch:
        """The i-th batch as the task gives it, on the module's device."""
        return placed(self._batches[i], self.module)

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        """Inputs of shape (batch, ...) and targets of the i-th batch.

        Raises:
            Undefined: the model takes several inputs, or the training split has no such batch.
        """
        batch = self.raw_batch(i)
        inputs = self.task.inputs(batch)
        if not isinstance(inputs, Tensor):
            raise Undefined(f"the model's input must be one tensor, got {_described(inputs)}")
        return inputs, self.task.targets(batch)

    @property
    def inputs(self) -> Tensor:
        """Shape (batch, ...): inputs of the first batch."""
        return self.batch(0)[0]

    @property
    def real_inputs(self) -> Tensor:
        """The same, where they are real numbers, so that one can differentiate by them or replace them.

        Raises:
            Undefined: they are token or category indices, or several tensors.
        """
        if not self.inputs.is_floating_point():
            raise Undefined(f"inputs must be real numbers, got {self.inputs.dtype}")
        return self.inputs

    @property
    def targets(self) -> Tensor:
        """Targets of the first batch."""
        return cast("Tensor", self.task.targets(self.raw_batch(0)))

    @property
    def classes(self) -> int:
        """Number of classes, 2 or more.

        Raises:
            Undefined: there are fewer, or targets are no classes.
        """
        classes = self.task.classes
        if classes is None or classes < 2:
            raise Undefined(f"the task must have 2 classes or more, got {classes}")
        return classes

    def generator(self, name: str) -> torch.Generator:
        """A generator on the CPU for random inputs or weights; one name, one sequence."""
        return torch.Generator().manual_seed(derive(self.seed, "proxy", name))

    # -- the module -----------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> list[tuple[str, nn.Module]]:
        """Convolutions and linear layers by name; those that share one weight appear once.

        Raises:
            Undefined: there is none.
        """
        owners: dict[Tensor, tuple[str, nn.Module]] = {}
        for name, module in self.module.named_modules():
            if owns_weight(module):
                owners.setdefault(module.weight, (name, module))
        if not owners:
            raise Undefined("the module must have a convolution or a linear layer, got none")
        return list(owners.values())

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The weight of each of `layers`, by the layer's name."""
        return {name: cast("nn.Parameter", layer.weight) for name, layer in self.layers}

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Whatever happens to the module inside is undone afterwards."""
        with untouched(self.module):
            yield

    @contextmanager
    def running(self, name: str = "forward", *, training: bool = True) -> Iterator[None]:
        """A pass may run inside: modes set, gradients wanted by every parameter, nothing in place.

        Torch's generators are seeded by ``name``, so that dropout repeats; all is undone afterwards.
        """
        with untouched(self.module), torch.enable_grad():
            torch.manual_seed(derive(self.seed, "proxy", name))
            for module in self.module.modules():
                module.training = training
                if vars(module).get("inplace") is True:
                    vars(module)["inplace"] = False
            for parameter in self.module.parameters():
                parameter.requires_grad_(parameter.is_floating_point())
                parameter.grad = None
            yield

    @contextmanager
    def watching(self, *kinds: type[nn.Module]) -> Iterator[list[Seen]]:
        """Calls of submodules of these kinds, in order, while passes run inside.

        A kind may be any class of the module, such as a cell's. Only calls whose first input and whose
        output are tensors are noted.
        """
        seen: list[Seen] = []

        def note(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                    seen.append(Seen(name, module, args[0], output))

            return hook

        handles = [
            module.register_forward_hook(note(name))
            for name, module in self.module.named_modules()
            if isinstance(module, kinds)
        ]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    # -- shared passes --------------------------------------------------------------------------------

    def shared(self, name: str, compute: Callable[[], T]) -> T:
        """What ``compute`` gives, computed once for all who ask by that name; so is its error.

        The seconds are divided among the metrics that ask.
        """
        self.ledger.use(name)
        if name not in self._found:
            with self.ledger.spending(name):
                try:
                    self._found[name] = compute()
                except Exception as error:
                    self._found[name] = _Failed(error)
        found = self._found[name]
        if isinstance(found, _Failed):
            raise found.error
        return cast("T", found)

    @property
    def outputs(self) -> Tensor:
        """Shape (batch, classes) of a classifier: what the module gives in train mode for the first batch."""
        known = self._found.get("gradients")
        return known.outputs if isinstance(known, Labelled) else self.shared("outputs", self._forward)

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """By parameter name, the gradient of the mean loss of the first batch, in train mode.

        Zeros for parameters that the loss does not reach. Frozen parameters count like all others.

        Raises:
            Undefined: the task has fewer than two classes, or the loss is not finite.
        """
        return self._labelled.gradients

    def gradients_of(self, i: int) -> Mapping[str, Tensor]:
        """The same for the i-th batch; the first one's are shared."""
        if i == 0:
            return self.gradients
        return self.shared(f"gradients of batch {i}", lambda: self._backward(i)).gradients

    def weight_gradients(self, i: int = 0) -> list[tuple[Tensor, Tensor]]:
        """For each of `layers`, its weight and that weight's gradient on the i-th batch."""
        gradients = self.gradients_of(i)
        names = {parameter: name for name, parameter in self.module.named_parameters()}
        return [(weight.detach(), gradients[names[weight]]) for weight in self.weights.values()]

    @property
    def channel_products(self) -> Mapping[str, Tensor]:
        """For each of `layers`, shape (batch, channels): the sum over positions of a·∂L/∂a for its output a.

        It is the gradient by a mask of ones on the channels of each sample. Calls that share a weight share
        the mask. Layers that are not called are absent. Taken in the pass of `gradients`.
        """
        products = self._labelled.products
        if products is None:
            return self.shared("channel_products", lambda: self._backward(0, masked=True)).products or {}
        return products

    @property
    def codes(self) -> list[Tensor]:
        """For each call of a ReLU, shape (batch, units), bool: which inputs are positive, in train mode.

        Functional and in-place ReLUs count, ReLU6, leaky and parametric ones too.

        Raises:
            Undefined: there is none.
        """
        codes: list[Tensor] = self.shared("codes", lambda: self.codes_of(self.raw_batch(0)))
        return codes

    def codes_of(self, batch: Batch | Tensor, *, training: bool = True) -> list[Tensor]:
        """The same for another batch, or for inputs."""
        codes = ReluCodes()
        with self.running("forward", training=training), torch.no_grad(), codes:
            self.forward(batch)
        if not codes.found:
            raise Undefined("the module must have a ReLU, got none")
        return codes.found

    @property
    def input_jacobian(self) -> Tensor:
        """Shape (batch, D): gradient of the sum of all logits by each input, flattened.

        By one backward pass in train mode, as published for jacob_cov and epe_nas: batch normalisation uses
        the batch's statistics, so that a row also holds a sample's influence on the others' logits.

        Raises:
            Undefined: inputs are not real numbers, or a gradient is not finite.
        """
        return self.shared("input_jacobian", self._jacobian)

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """The module's output for a batch of the task, or for a tensor of inputs.

        Raises:
            Undefined: it is not one tensor, or not finite.
        """
        # A copy, since modules may write into their input.
        if isinstance(batch, Tensor):
            output = self.module(batch.clone())
        else:
            output = self.task.forward(self.module, deepcopy(batch))
        if not isinstance(output, Tensor):
            raise Undefined(f"the module's output must be one tensor, got {_described(output)}")
        if not bool(torch.isfinite(output).all()):
            raise Undefined("the module's output must be finite, got NaN or infinity")
        return output

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """The mean loss of a batch.

        Raises:
            Undefined: the task has fewer than two classes, or the loss is not finite.
        """
        if self.task.classes is not None and self.task.classes < 2:
            raise Undefined(f"the task must have 2 classes or more, got {self.task.classes}")
        loss = self.task.loss(output, batch).mean()
        if not bool(torch.isfinite(loss)):
            raise Undefined(f"the loss must be finite, got {float(loss)}")
        return loss

    # -- how ------------------------------------------------------------------------------------------

    @property
    def _labelled(self) -> Labelled:
        def compute() -> Labelled:
            if "channel_products" in self._shares:
                # What cannot be masked, such as a layer called for unlike batches, still has gradients.
                with suppress(RuntimeError):
                    return self._backward(0, masked=True)
            return self._backward(0)

        return self.shared("gradients", compute)

    def _forward(self) -> Tensor:
        with self.running(), torch.no_grad():
            return self.forward(self.raw_batch(0))

    def _backward(self, i: int, *, masked: bool = False) -> Labelled:
        batch = self.raw_batch(i)

        def forward() -> tuple[Tensor, Tensor]:
            output = self.forward(batch)
            return output, self.loss(output, batch)

        if not masked:
            with self.running():
                return labelled(self.module, forward, {})
        names: dict[Tensor, str] = {weight: name for name, weight in self.weights.items()}
        with self.running(), channel_masks(self.module, names) as masks:
            return labelled(self.module, forward, masks)

    def _jacobian(self) -> Tensor:
        x = self.real_inputs.detach().clone().requires_grad_()
        with self.running():
            output = self.forward(x)
            (jacobian,) = torch.autograd.grad(output.sum(), x)
        if not bool(torch.isfinite(jacobian).all()):
            raise Undefined("the gradient by the inputs must be finite, got NaN or infinity")
        return jacobian.flatten(1)


@final
@dataclass(frozen=True, slots=True)
class _Failed:
    """A shared pass that raised."""

    error: Exception


def _described(value: Any) -> str:
    if isinstance(value, tuple | list | Mapping):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
