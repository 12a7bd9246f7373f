"""ONNX Runtime on one thread of the CPU, with all its optimisations."""

from __future__ import annotations

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


def runner(device: str) -> OnnxRuntime:
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
    return OnnxRuntime({"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__})


@final
class OnnxRuntime:
    """The CPU provider.

    Args:
        versions: of its packages.
    """

    name = "onnxruntime"

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
        """A session of the exported module."""
        session = session_of(exported(module, example))
        feed = {session.get_inputs()[0].name: example.numpy()}

        def run() -> object:
            return session.run(None, feed)

        return run


def session_of(model: bytes) -> Any:
    """One thread, sequential, all optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bound(graph: Graph) -> Callable[[], object]:
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
