"""ONNX Runtime on one thread of the CPU, with all its optimisations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.errors import must
from nas.kernels.runners.onnx_graph import GraphRunner

if TYPE_CHECKING:
    from torch import Tensor

    from nas.kernels.runners import Run
    from nas.kernels.runners.onnx_graph import Graph


def runner(device: str) -> GraphRunner:
    """The runner.

    Raises:
        BadInput: the packages are not installed, or the device is not the CPU.
    """
    if device != "cpu":
        raise must("target.device", "be cpu with onnxruntime", device)
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        remedy = "pip install 'nas-toolkit[onnx]'"
        raise must("backend onnxruntime", "have its packages installed", str(error), remedy) from None
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    return GraphRunner("onnxruntime", versions, _bound, _session)


def session_of(model: bytes) -> Any:
    """One thread, sequential, all optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _session(model: bytes, example: Tensor) -> Run:
    session = session_of(model)
    feed = {session.get_inputs()[0].name: example.numpy()}

    def run() -> object:
        return session.run(None, feed)

    return run


def _bound(graph: Graph) -> Run:
    """A run whose inputs and outputs lie ready, so that nothing is copied."""
    session = session_of(graph.model())
    binding = session.io_binding()
    for name, value in graph.inputs.items():
        binding.bind_cpu_input(name, value)
    for name in graph.outputs:
        binding.bind_output(name, "cpu")

    def run() -> object:
        return session.run_with_iobinding(binding)

    return run
