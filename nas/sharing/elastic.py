"""What elastic layers have in common: a candidate that they follow, and a plain layer that they become."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

import torch
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Iterable

Rule: TypeAlias = str | Callable[[Architecture], Any]
"""How an architecture chooses a size: the name of a decision, or a function of the architecture."""

Relaxed: TypeAlias = Mapping[str, Tensor]
"""Weights over the options of decisions, shape (n_options,) each; a mixture whose gradient may be wanted."""

M = TypeVar("M", bound=nn.Module)


@final
class Followed:
    """The candidate that all elastic layers of a supernet follow at present.

    Attributes:
        architecture: read when a layer runs, so decisions of layers that do not run are never asked for;
            None lets every layer run at its full size.
        relaxed: weights over the options of choices, in place of an architecture.
    """

    __slots__ = ("architecture", "relaxed")

    def __init__(self) -> None:
        self.architecture: Architecture | None = None
        self.relaxed: Relaxed | None = None

    def value(self, rule: Rule | None) -> Any:
        """What the architecture chooses by a rule; None where nothing is chosen."""
        if rule is None or self.architecture is None:
            return None
        return self.architecture[rule] if isinstance(rule, str) else rule(self.architecture)

    def size(self, name: str, rule: Rule | None, largest: int) -> int:
        """A chosen size; the largest where nothing is chosen.

        Raises:
            BadInput: it is not a whole number from 1 to the largest.
        """
        value = self.value(rule)
        if value is None:
            return largest
        if not isinstance(value, int) or not 1 <= value <= largest:
            raise must(name, f"be a whole number from 1 to {largest}, the supernet's", value)
        return value


class Elastic(nn.Module):
    """A layer that runs at the size that the followed architecture chooses.

    Attributes:
        followed: shared by all layers of a supernet; a layer of no supernet runs at its full size.
    """

    followed: Followed

    @property
    def relaxes(self) -> frozenset[str]:
        """Decisions of which the layer can run all options together, weighted."""
        return frozenset()

    @abstractmethod
    def plain(self, memo: dict[int, nn.Module]) -> nn.Module:
        """A layer of its own without choices, with copies of the weights that the last forward pass used.

        Args:
            memo: passed on to `specialised` for modules inside.
        """


def specialised(module: nn.Module, memo: dict[int, nn.Module] | None = None) -> nn.Module:
    """A copy of a module in which every elastic layer is the plain one that it was in the last forward pass.

    Modules that occur several times, and tied parameters, stay the same in the copy.

    Args:
        module: run under the wanted architecture just before.
        memo: copies by the id of their originals.
    """
    memo = {} if memo is None else memo
    if id(module) in memo:
        return memo[id(module)]
    if isinstance(module, Elastic):
        made = module.plain(memo)
        made.train(module.training)
    else:
        made = shell(module)
        vars(made)["_parameters"] = {k: _parameter(p, memo) for k, p in module._parameters.items()}
        vars(made)["_buffers"] = {k: None if b is None else b.clone() for k, b in module._buffers.items()}
        vars(made)["_modules"] = {
            k: None if child is None else specialised(child, memo) for k, child in module._modules.items()
        }
    memo[id(module)] = made
    return made


def shell(module: M) -> M:
    """A shallow copy of a module; hooks that it gets later are its own."""
    made = copy.copy(module)
    vars(made).update({name: copy.copy(kept) for name, kept in vars(module).items() if "_hooks" in name})
    return made


def _parameter(parameter: nn.Parameter | None, memo: dict[int, Any]) -> nn.Parameter | None:
    if parameter is None:
        return None
    if id(parameter) not in memo:
        memo[id(parameter)] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    return memo[id(parameter)]  # type: ignore[no-any-return]


def fill(layer: M, tensors: Iterable[tuple[str, Tensor | None]]) -> M:
    """The layer with copies of tensors as its parameters and buffers of these names."""
    for name, tensor in tensors:
        if tensor is None:
            continue
        copied = tensor.detach().clone(memory_format=torch.contiguous_format)
        if name in layer._parameters:
            setattr(layer, name, nn.Parameter(copied))
        else:
            setattr(layer, name, copied)
    return layer
