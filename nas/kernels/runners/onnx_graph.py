"""ONNX models: of a module, and of copies of one operation."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from nas.errors import Unsupported
from nas.kernels.runners.ceilings import cache_bytes
from nas.kernels.runners.single import copies, single

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from nas.kernels.op import Op
    from nas.kernels.runners import Run
    from nas.kernels.runners.single import Single
    from nas.kernels.timing import Timer, Timing

MOST = 32
"""Copies of an operation in one graph: entering a runtime, and changes of layout, weigh little."""
OPSET = 20


def exported(module: nn.Module, example: Tensor) -> bytes:
    """A module as an ONNX model for inputs of this very shape, all shapes fixed.

    Raises:
        Unsupported: it cannot be exported.
    """
    file: Any = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            # The older exporter takes a tenth of a second for what the newer one takes several for.
            torch.onnx.export(
                module, (example,), file, dynamo=False, opset_version=OPSET,
                input_names=["input"], output_names=["output"],
            )  # fmt: skip
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise Unsupported(f"the module cannot be exported to ONNX: {reason}") from error
    model: bytes = file.getvalue()
    if not _reads_input(model):
        raise Unsupported("the exported module does not read its input: nothing is left to time")
    return model


@final
class GraphRunner:
    """A runtime of ONNX models: what its times of operations and networks are taken from.

    Args:
        name: of the backend.
        versions: of its packages.
        bound: a run of a graph whose inputs and outputs lie ready, so that nothing is copied.
        session: a run of a model on one input.
    """

    def __init__(
        self,
        name: str,
        versions: Mapping[str, str],
        bound: Callable[[Graph], Run],
        session: Callable[[bytes, Tensor], Run],
    ) -> None:
        self.name, self.versions = name, {**versions, "torch": torch.__version__}
        self._bound, self._session = bound, session
        self._floors: dict[int, float] = {}
        self._cache = cache_bytes()

    def op(self, op: Op, seed: int, timer: Timer) -> Timing:
        """Time several copies of an operation in one graph, less what an empty graph takes."""
        count = copies(op, self._cache, MOST)
        graph = copies_of(op, seed, count)
        inputs = len(graph.inputs)
        if inputs not in self._floors:
            nothing = self._bound(empty(inputs))
            self._floors[inputs] = min(timer(nothing).median_ms for _ in range(3))
        return timer(self._bound(graph)).less(self._floors[inputs], count)

    def prepared(self, module: nn.Module, example: Tensor) -> Run:
        """A run of the exported module."""
        return self._session(exported(module, example), example)


def _reads_input(model: bytes) -> bool:
    import onnx

    return bool(onnx.load_from_string(model).graph.input)


@final
class Graph:
    """An ONNX graph as it grows."""

    def __init__(self) -> None:
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: list[str] = []
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def input(self, name: str, value: np.ndarray) -> str:
        """An input that is fed."""
        self.inputs[name] = value
        return name

    def weight(self, name: str, value: np.ndarray) -> str:
        """A constant."""
        from onnx import numpy_helper

        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """A node with one output of its own name."""
        from onnx import helper

        self._nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def output(self, name: str) -> None:
        """A result that is asked for."""
        self.outputs.append(name)

    def model(self) -> bytes:
        """The whole, of float32 and int64."""
        from onnx import TensorProto, helper

        kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
        ins = [helper.make_tensor_value_info(n, kinds[str(v.dtype)], v.shape) for n, v in self.inputs.items()]
        outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in self.outputs]
        graph = helper.make_graph(self._nodes, "single", ins, outs, self._weights)
        opsets = [helper.make_opsetid("", OPSET)]
        model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
        return model


def copies_of(op: Op, seed: int, count: int) -> Graph:
    """Copies of an operation in one graph.

    Convolutions read one input and end in global means, so that they work in a runtime's own layout, as they
    do within a network.

    Raises:
        Unsupported: no node is known for it.
    """
    make = _MAKERS.get(op.family)
    if make is None or op.dtype != "float32":
        raise Unsupported(f"no graph is known for {op.dtype} {op.family}/{op.name}")
    graph = Graph()
    for i in range(count):
        make(graph, op, single(op, seed + i), i)
    return graph


def empty(inputs: int) -> Graph:
    """As many inputs, of which one is used; a node's own expense is so counted with operations."""
    graph = Graph()
    for i in range(inputs):
        graph.input(f"x{i}", np.ones(1, dtype=np.float32))
    graph.output(graph.node("Neg", ["x0"], "y0"))
    return graph


# --- operations -------------------------------------------------------------------------------------


def _fed(graph: Graph, one: Single, i: int) -> list[str]:
    """Inputs and weights of a copy, by their names."""
    inputs = [graph.input(f"x{i}_{j}", t.numpy()) for j, t in enumerate(one.inputs)]
    return inputs + [graph.weight(f"w{i}_{j}", t.numpy()) for j, t in enumerate(one.weights)]


def _conv(graph: Graph, op: Op, one: Single, i: int) -> None:  # noqa: ARG001 - as the others
    x = "x" if graph.inputs else graph.input("x", one.inputs[0].numpy())
    weights = [graph.weight(f"w{i}_{j}", t.numpy()) for j, t in enumerate(one.weights)]
    axes = one.weights[0].ndim - 2
    s = one.settings
    y = graph.node("Conv", [x, *weights], f"c{i}", strides=[s["stride"]] * axes,
                   pads=[s["padding"]] * 2 * axes, group=s["groups"])  # fmt: skip
    graph.output(graph.node("GlobalAveragePool", [y], f"y{i}"))


def _linear(graph: Graph, op: Op, one: Single, i: int) -> None:  # noqa: ARG001 - as the others
    graph.output(graph.node("Gemm", _fed(graph, one, i), f"y{i}", transB=1))


def _bmm(graph: Graph, op: Op, one: Single, i: int) -> None:  # noqa: ARG001 - as the others
    graph.output(graph.node("MatMul", _fed(graph, one, i), f"y{i}"))


def _softmax(graph: Graph, op: Op, one: Single, i: int) -> None:
    kind = "LogSoftmax" if op.name == "log_softmax" else "Softmax"
    graph.output(graph.node(kind, _fed(graph, one, i), f"y{i}", axis=-1))


def _layer_norm(graph: Graph, op: Op, one: Single, i: int) -> None:  # noqa: ARG001 - as the others
    names = _fed(graph, one, i)
    if len(names) == 1:
        columns = np.ones(one.inputs[0].shape[-1], dtype=np.float32)
        names.append(graph.weight(f"w{i}_0", columns))
    graph.output(graph.node("LayerNormalization", names, f"y{i}", axis=-1))


def _batch_norm(graph: Graph, op: Op, one: Single, i: int) -> None:  # noqa: ARG001 - as the others
    x, mean, variance, *affine = [*one.inputs, *one.weights]
    scale, shift = affine if len(affine) == 2 else (torch.ones_like(mean), torch.zeros_like(mean))
    names = [graph.input(f"x{i}", x.numpy())]
    for j, t in enumerate((scale, shift, mean, variance)):
        names.append(graph.weight(f"w{i}_{j}", t.numpy()))
    graph.output(graph.node("BatchNormalization", names, f"y{i}"))


def _pointwise(graph: Graph, op: Op, one: Single, i: int) -> None:
    names = _fed(graph, one, i)
    if op.name in ("hardtanh", "clamp"):
        names += [graph.weight(f"w{i}_{j}", np.array(v, dtype=np.float32)) for j, v in enumerate((0.0, 6.0))]
    if op.name == "silu":
        graph.output(graph.node("Mul", [*names, graph.node("Sigmoid", names, f"s{i}")], f"y{i}"))
        return
    if op.name not in _POINTWISE:
        raise Unsupported(f"no node is known for pointwise/{op.name}")
    if len(names) == 1 and _POINTWISE[op.name] in _TWO:
        names.append(graph.weight(f"w{i}", np.array(1.5, dtype=np.float32)))
    graph.output(graph.node(_POINTWISE[op.name], names, f"y{i}"))


def _pool(graph: Graph, op: Op, one: Single, i: int) -> None:
    s = one.settings
    names = _fed(graph, one, i)
    if op.name == "adaptive_avg_pool2d":
        if tuple(s["output_size"]) != (1, 1):
            raise Unsupported("no node is known for an adaptive mean of more than one position")
        graph.output(graph.node("GlobalAveragePool", names, f"y{i}"))
        return
    kind = "MaxPool" if op.name == "max_pool2d" else "AveragePool"
    settings = {
        "kernel_shape": [s["kernel_size"]] * 2,
        "strides": [s["stride"]] * 2,
        "pads": [s["padding"]] * 4,
    }
    graph.output(graph.node(kind, names, f"y{i}", ceil_mode=int(s["ceil_mode"]), **settings))


def _reduce(graph: Graph, op: Op, one: Single, i: int) -> None:
    kind = {"mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax"}[op.name]
    axes = graph.weight(f"a{i}", np.array([1], dtype=np.int64))
    graph.output(graph.node(kind, [*_fed(graph, one, i), axes], f"y{i}", keepdims=0))


def _concat(graph: Graph, op: Op, one: Single, i: int) -> None:  # noqa: ARG001 - as the others
    graph.output(graph.node("Concat", _fed(graph, one, i), f"y{i}", axis=0))


def _embedding(graph: Graph, op: Op, one: Single, i: int) -> None:  # noqa: ARG001 - as the others
    picked, table = _fed(graph, one, i)
    graph.output(graph.node("Gather", [table, picked], f"y{i}"))


_MAKERS: Mapping[str, Callable[[Graph, Op, Single, int], None]] = {
    "conv": _conv,
    "linear": _linear,
    "bmm": _bmm,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "pointwise": _pointwise,
    "pool": _pool,
    "reduce": _reduce,
    "concat": _concat,
    "embedding": _embedding,
}
_TWO = frozenset({"Add", "Mul", "Sub", "Div", "Max"})
_POINTWISE: Mapping[str, str] = {
    "add": "Add",
    "div": "Div",
    "elu": "Elu",
    "exp": "Exp",
    "gelu": "Gelu",
    "hardsigmoid": "HardSigmoid",
    "hardswish": "HardSwish",
    "hardtanh": "Clip",
    "leaky_relu": "LeakyRelu",
    "maximum": "Max",
    "mul": "Mul",
    "neg": "Neg",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tanh": "Tanh",
}
