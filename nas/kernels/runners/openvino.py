"""OpenVINO on one thread of the CPU, in float32; models come through ONNX."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from nas.errors import must
from nas.kernels.runners.onnx_graph import GraphRunner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from nas.kernels.runners import Run
    from nas.kernels.runners.onnx_graph import Graph

SETTINGS: Mapping[str, Any] = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}
"""By itself, it computes in bfloat16 where a processor can."""


def runner(device: str) -> GraphRunner:
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
    versions = {"onnx": onnx.__version__, "openvino": openvino.__version__}
    return GraphRunner("openvino", versions, _bound, _session)


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


def _bound(graph: Graph) -> Run:
    return _run(compiled(graph.model()), graph.inputs)


def _session(model: bytes, example: Tensor) -> Run:
    return _run(compiled(model), {"input": example.numpy()})


def _run(model: Any, inputs: Mapping[str, Any]) -> Run:
    """A run whose inputs lie ready; those that the plugin threw away are not needed."""
    from openvino import Tensor as Held

    request = model.create_infer_request()
    for port in model.inputs:
        request.set_tensor(port, Held(inputs[port.any_name]))

    def run() -> object:
        request.infer()
        return request

    return run
