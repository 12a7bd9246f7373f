"""What is known of the operations in a graph: their algebra, and how to compute them on canonical inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.float64]"


class Draw(Protocol):
    """Canonical numbers for one node: standard normal, equal wherever the operation and its inputs are."""

    def __call__(self, *shape: int) -> Array:
        """An array of that shape, never changed in place."""


@final
@dataclass(frozen=True)
class Operator:
    """Declared properties of one operation of a graph.

    Args:
        commutative: the order of inputs does not matter.
        associative: ``f(a, f(b, c)) = f(f(a, b), c) = f(a, b, c)`` and ``f(a) = a``.
        identity: operation without inputs, such as ``zero``, that changes nothing as one of the inputs.
        annihilator: operation without inputs that, as one of the inputs, is the result.
        keeps_zero: ``zero`` comes out when every input is ``zero``.
        compute: of (`Draw`, one float64 array for each input); the operation under canonical weights. None
            where it can be computed by building the module only.

    Raises:
        BadInput: an identity is declared for an operation that takes any number of inputs in no order.
    """

    commutative: bool = False
    associative: bool = False
    identity: str | None = None
    annihilator: str | None = None
    keeps_zero: bool = False
    compute: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if self.identity is not None and not self.associative:
            raise must("an operator with an identity", "be associative", self)


UNKNOWN = Operator()
"""An operation of which nothing is declared."""


# --- canonical cells: images of 3 channels and 5 x 5 pixels, without normalisation -----------------------

CELL = (3, 5, 5)
"""Shape of a canonical image: channels, height, width."""


def _image(draw: Draw) -> Array:
    return draw(*CELL)


def _zero(draw: Draw, *inputs: Array) -> Array:  # noqa: ARG001 - what it reads does not matter
    return np.zeros(inputs[0].shape if inputs else CELL)


def _sum(draw: Draw, *inputs: Array) -> Array:  # noqa: ARG001 - no weights
    total = inputs[0]
    for x in inputs[1:]:
        total = total + x
    return total


def _identity(draw: Draw, x: Array) -> Array:  # noqa: ARG001 - no weights
    return x


def _relu_conv(kernel: int) -> Callable[[Draw, Array], Array]:
    """ReLU, then a convolution that keeps the number of channels and pixels.

    The weights of a channel have a sum of at least 0: with channels this few, some would else be negative
    everywhere, and ReLU would hide what comes before them.
    """

    def compute(draw: Draw, x: Array) -> Array:
        channels = len(x)
        weight = draw(channels, channels * kernel * kernel) / (channels * kernel * kernel) ** 0.5
        weight = weight * np.where(weight.sum(1, keepdims=True) < 0, -1.0, 1.0)
        out: Array = (weight @ _patches(np.maximum(x, 0.0), kernel)).reshape(x.shape)
        return out

    return compute


def _average_pool(draw: Draw, x: Array) -> Array:  # noqa: ARG001 - no weights
    """Mean of the 3 x 3 pixels around each that lie within the image."""
    windows = _patches(x, 3).reshape(len(x), 9, -1).sum(axis=1)
    means: Array = (windows / _patches(np.ones((1, *x.shape[1:])), 3).sum(axis=0)).reshape(x.shape)
    return means


def _patches(x: Array, kernel: int) -> Array:
    """Shape (channels * kernel * kernel, pixels): the surroundings of each pixel, zeros beyond the edge."""
    if kernel == 1:
        return x.reshape(len(x), -1)
    edge = kernel // 2
    padded = np.zeros((x.shape[0], x.shape[1] + 2 * edge, x.shape[2] + 2 * edge))
    padded[:, edge:-edge, edge:-edge] = x
    windows = sliding_window_view(padded, (kernel, kernel), (1, 2))
    return windows.transpose(0, 3, 4, 1, 2).reshape(len(x) * kernel * kernel, -1)


BUILTIN: Mapping[str, Operator] = {
    "input": Operator(compute=_image),
    "zero": Operator(compute=_zero),
    "identity": Operator(associative=True, keeps_zero=True, compute=_identity),
    "sum": Operator(commutative=True, associative=True, identity="zero", compute=_sum),
    "add": Operator(commutative=True, associative=True, identity="zero", compute=_sum),
    "mul": Operator(commutative=True, associative=True, annihilator="zero"),
    "max": Operator(commutative=True, associative=True, keeps_zero=True),
    "min": Operator(commutative=True, associative=True, keeps_zero=True),
    "concat": Operator(associative=True, keeps_zero=True),
    "relu": Operator(keeps_zero=True),
    "nor_conv_1x1": Operator(keeps_zero=True, compute=_relu_conv(1)),
    "nor_conv_3x3": Operator(keeps_zero=True, compute=_relu_conv(3)),
    "avg_pool_3x3": Operator(keeps_zero=True, compute=_average_pool),
    "max_pool_3x3": Operator(keeps_zero=True),
}
"""Operations by name. ``concat`` of only zeros is a wider zero, which no later operation tells apart here."""
