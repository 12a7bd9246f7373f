"""OpenVINO on one thread of the CPU, in float32; models come through ONNX."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, final

import torch

from nas.errors import must
from nas.kernels.runners.ceilings import cache_bytes
from nas.kernels.runners.onnx_graph import MOST, copies_of, empty, exported
from nas.kernels.runners.single import copies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from nas.kernels.op import Op
    from nas.kernels.runners import Run
    from nas.kernels.runners.onnx_graph import Graph
    from nas.kernels.timing import Timer, Timing

SETTINGS: Mapping[str, Any] = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}
"""By itself, it computes in bfloat16 where a processor can."""


def runner(device: str) -> OpenVino:
    """The runner.

    Raises:
        BadInput: the packages are not installed, or the device is not the CPU.
    """
    if device != "cpu":
        raise must("target.device", "be cpu with openvino", device)
    try:
        import onnx
        import openvino
    except ImportError as error:
        remedy = "pip install 'nas-toolkit[openvino]'"
        raise must("backend openvino", "have its packages installed", str(error), remedy) from None
    return OpenVino({"onnx": onnx.__version__, "openvino": openvino.__version__})


@final
class OpenVino:
    """The CPU plugin.

    Args:
        versions: of its packages.
    """

    name = "openvino"

    def __init__(self, versions: Mapping[str, str]) -> None:
        self.versions = {**versions, "torch": torch.__version__}
        self._floors: dict[int, float] = {}
        self._cache = cache_bytes()

    def op(self, op: Op, seed: int, timer: Timer) -> Timing:
        """Time several copies of an operation in one graph, less what an empty graph takes."""
        count = copies(op, self._cache, MOST)
        graph = copies_of(op, seed, count)
        inputs = len(graph.inputs)
        if inputs not in self._floors:
            nothing = _bound(empty(inputs))
            self._floors[inputs] = min(timer(nothing).median_ms for _ in range(3))
        return timer(_bound(graph)).less(self._floors[inputs], count)

    def prepared(self, module: nn.Module, example: Tensor) -> Run:
        """A request of the exported module."""
        return _run(compiled(exported(module, example)), {"input": example.numpy()})


def compiled(model: bytes) -> Any:
    """A compiled ONNX model; `layers` says what runs of it."""
    return _core().compile_model(_core().read_model(model), "CPU", dict(SETTINGS))


def layers(model: Any) -> list[str]:
    """The kinds of the layers that a compiled model executes, inputs and constants among them."""
    nodes = model.get_runtime_model().get_ordered_ops()
    return [str(node.get_rt_info()["layerType"].astype(str)) for node in nodes]


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _bound(graph: Graph) -> Callable[[], object]:
    return _run(compiled(graph.model()), graph.inputs)


def _run(model: Any, inputs: Mapping[str, Any]) -> Callable[[], object]:
    """A run whose inputs lie ready; those that the plugin threw away are not needed."""
    from openvino import Tensor as Held

    request = model.create_infer_request()
    for port in model.inputs:
        request.set_tensor(port, Held(inputs[port.any_name]))

    def run() -> object:
        request.infer()
        return request

    return run
