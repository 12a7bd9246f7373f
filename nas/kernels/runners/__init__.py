"""What runs operations and networks by the clock, one backend a file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from nas.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.kernels.op import Op
    from nas.kernels.timing import Timer, Timing

BUILTIN = {
    "eager": "nas.kernels.runners.eager",
    "onnxruntime": "nas.kernels.runners.onnxruntime",
    "openvino": "nas.kernels.runners.openvino",
}


class Runner(Protocol):
    """A backend that times on this machine."""

    name: str
    versions: dict[str, str]

    def op(self, op: Op, seed: int, timer: Timer) -> Timing:
        """Time one operation on random inputs and weights.

        Raises:
            Unsupported: the backend does not run it, or its description does not say how.
        """
        ...

    def prepared(self, module: nn.Module, example: Tensor) -> Run:
        """A network, ready to run on this input; nothing is timed.

        Raises:
            Unsupported: the module cannot be brought to this backend.
        """
        ...


class Run(Protocol):
    """One forward pass."""

    def __call__(self) -> object:
        """Run it; it is over when this returns."""
        ...


def runner(name: str, device: str = "cpu") -> Runner:
    """The runner of a backend.

    Args:
        name: such as ``eager``.
        device: torch device; ``cpu`` for one thread of the CPU, the only one that exported models run on.

    Raises:
        UnknownName: no runner has that name.
        BadInput: a package that it needs is not installed, or it does not run on the device.
    """
    if name not in BUILTIN:
        raise unknown("backend to time", name, BUILTIN)
    found: Runner = importlib.import_module(BUILTIN[name]).runner(device)
    return found
