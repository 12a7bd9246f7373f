from __future__ import annotations

import logging
import re
import shutil
import warnings
from collections import Counter

import pytest
import torch
from nets import NETS, mobile, nasbench201, residual, transformer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas.errors import UnknownName
from nas.kernels.capture import capture
from nas.kernels.fusion import fused
from nas.kernels.fusion_profile import FusionProfile, backends
from nas.kernels.runners.onnx_graph import exported

CELLS = {
    "pools": "|skip_connect~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|",
    "dead branches": "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|avg_pool_3x3~0|skip_connect~1|none~2|",
}
ALL = {
    **NETS,
    **{n: (lambda c=c: nasbench201(c), (3, 16, 16)) for n, c in CELLS.items()},
    "mobile with relu": (lambda: mobile(nn.ReLU), (3, 32, 32)),
}


def kernels(module, x, backend):
    return fused(capture(module, x), FusionProfile.load(backend))


def names(kernel):
    return (kernel.op.name, *(op.name for op in kernel.absorbed))


# --- against what really runs ---------------------------------------------------------------------------


class Launches(TorchDispatchMode):
    """Counts operations on the CPU that are no views, as autograd hands them down."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        views = func.is_view or "view" in func.name() or func.name() == "aten::empty.memory_format"
        self.count += not views
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ALL)
def test_eager_launches_one_kernel_an_operation(name):
    build, shape = ALL[name]
    module, x = build(), torch.ones(2, *shape)
    with torch.no_grad(), Launches() as launches:
        module(x)
    assert len(kernels(module, x, "eager")) == launches.count


LAYOUT = {"Reshape", "Squeeze", "Transpose", "Split", "ReorderInput", "ReorderOutput"}
"""Nodes that only change how numbers lie in memory."""


@pytest.mark.parametrize("name", ["mobile", "transformer", "nasbench201", "dead branches"])
def test_onnxruntime_runs_as_many_kernels_as_predicted(name, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    build, shape = ALL[name]
    module, x = build(), torch.ones(2, *shape)
    monkeypatch.setattr(logging.getLogger("onnxscript"), "disabled", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), dynamo=True, verbose=False).save(tmp_path / "net.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(tmp_path / "net.onnx"), options, providers=["CPUExecutionProvider"])
    nodes = Counter(n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node)
    real = sum(count for kind, count in nodes.items() if kind not in LAYOUT)
    assert len(kernels(module, x, "onnxruntime")) == real, nodes


OPENVINO = ["mobile", "residual", "nasbench201", "pools", "dead branches", "mobile with relu", "transformer"]


@pytest.mark.parametrize("name", OPENVINO)
def test_openvino_runs_as_many_kernels_as_predicted(name):
    pytest.importorskip("openvino")
    backend = pytest.importorskip("nas.kernels.runners.openvino")
    build, shape = ALL[name]
    module, x = build(), torch.ones(2, *shape)
    layers = Counter(backend.layers(backend.compiled(exported(module, x))))
    moves = {"Input", "Output", "Const", "Reorder", "Reshape", "Transpose", "Split"}
    real = sum(count for kind, count in layers.items() if kind not in moves)
    found = kernels(module, x, "openvino")
    # In a model that came through ONNX, each attention's queries and keys are scaled by kernels of their own.
    assert len(found) + 2 * sum(k.op.family == "attention" for k in found) == real, layers


XNNPACK = ["mobile", "residual", "nasbench201", "pools", "dead branches", "mobile with relu"]


@pytest.mark.parametrize("name", XNNPACK)
def test_executorch_gives_xnnpack_as_many_nodes_as_predicted(name, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preprocess = pytest.importorskip("executorch.backends.xnnpack.xnnpack_preprocess")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        graphs, write = [], preprocess.serialize_xnnpack_binary
        monkeypatch.setattr(
            preprocess, "serialize_xnnpack_binary", lambda g, *rest: graphs.append(g) or write(g, *rest)
        )
        build, shape = ALL[name]
        module, x = build(), torch.ones(2, *shape)
        program = torch.export.export(module, (x,))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    nodes = Counter(type(node.xnode_union).__name__ for graph in graphs for node in graph.xnodes)
    given = sum(
        count for kind, count in nodes.items() if kind not in ("XNNStaticTranspose", "XNNStaticReshape")
    )
    # Pools with a divisor of their own stay outside.
    left = sum("avg_pool2d" in str(node.target) for node in lowered.exported_program().graph.nodes)
    assert len(kernels(module, x, "executorch")) == given + left, nodes


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU needs g++")
@pytest.mark.parametrize("build", [lambda: nn.Sequential(*transformer()[:2]).eval()], ids=["a block"])
def test_inductor_runs_as_many_kernels_as_predicted(build):
    from torch._inductor.utils import run_and_get_code

    module, x = build(), torch.ones(2, 6, 12)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        _, codes = run_and_get_code(torch.compile(module), x)
    body = "\n".join(codes).partition("def call(")[2]
    real = re.findall(r"\bcpp_fused_\w+\(|extern_kernels\.\w+\(|torch\.ops\.aten\.\w+\.default\(", body)
    assert len(kernels(module, x, "inductor")) == len(real), real


# --- by hand ----------------------------------------------------------------------------------------------


def test_a_folded_convolution_moves_its_input_weights_and_result():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()).eval()
    (kernel,) = kernels(net, torch.ones(2, 3, 4, 4), "onnxruntime")
    assert names(kernel) == ("conv2d", "batch_norm", "relu")
    assert kernel.bytes == 4 * (2 * 3 * 16 + 3 * 8 * 9 + 4 * 8 + 2 * 8 * 16)
    assert kernel.flops == 2 * 2 * 8 * 16 * 27 + 3 * 2 * 8 * 16


def test_a_result_that_others_read_is_written():
    class Twice(nn.Module):
        def forward(self, x):
            a = torch.sigmoid(x)
            return torch.tanh(a) @ a

    x = torch.ones(4, 4)
    both, product = kernels(Twice().eval(), x, "inductor")
    assert names(both) == ("sigmoid", "tanh")
    assert both.bytes == 4 * 16 * 3  # x is read; the sigmoid and its tanh are written
    first, second, third = kernels(Twice().eval(), x, "tensorrt")
    assert names(first) == ("sigmoid",)
    assert product.op == third.op
    assert second.bytes == 4 * 16 * 2


def test_a_result_may_be_given_and_read_further():
    class Both(nn.Module):
        def forward(self, x):
            a = torch.sigmoid(x)
            return a, torch.tanh(a)

    (kernel,) = kernels(Both().eval(), torch.ones(4, 4), "inductor")
    assert names(kernel) == ("sigmoid", "tanh")
    assert kernel.bytes == 4 * 16 * 3  # x is read; both results are written


def test_a_residual_is_not_added_before_its_branch_is_known():
    found = [names(k) for k in kernels(residual(), torch.ones(2, 3, 32, 32), "inductor")]
    assert ("max_pool2d", "batch_norm", "relu") in found
    assert ("batch_norm", "add", "relu") in found


def test_equal_operations_run_once_but_parts_of_one_result_are_not_equal():
    class Branches(nn.Module):
        def forward(self, x):
            y = torch.exp(x)
            return torch.cat((torch.relu(y), torch.relu(y), torch.tanh(y)))

    class Parts(nn.Module):
        def forward(self, x):
            a, b = torch.exp(x).chunk(2)
            return torch.relu(a) @ torch.relu(b)

    profile = "onnxruntime"
    assert [names(k) for k in kernels(Branches(), torch.ones(4, 4), profile)] == [
        ("exp",), ("relu",), ("tanh",), ("cat",)
    ]  # fmt: skip
    assert Counter(k.op.name for k in kernels(Parts(), torch.ones(8, 4), profile))["relu"] == 2


def test_attention_taken_apart_computes_and_reads_as_much():
    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x + 1, x + 2)

    x = torch.ones(2, 4, 6, 8)
    whole = kernels(Attention(), x, "eager")[-1]
    first, soft, last = kernels(Attention(), x, "onnxruntime")[-3:]
    assert [k.op.family for k in (first, soft, last)] == ["bmm", "softmax", "bmm"]
    assert first.flops + last.flops == whole.flops
    matrix = 4 * 2 * 4 * 6 * 6
    assert first.bytes + last.bytes == whole.bytes + 2 * matrix
    assert soft.bytes == 2 * matrix


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("name", ALL)
def test_every_operation_is_in_one_kernel(name, backend):
    build, shape = ALL[name]
    trace = capture(build(), torch.ones(2, *shape))
    profile = FusionProfile.load(backend)
    found = fused(trace, profile)
    asked = Counter(c.op for c in trace.calls)
    run = Counter(op for k in found for op in (k.op, *k.absorbed))
    if backend == "eager":
        assert run == asked
    taken_apart = {op for op in asked if op.family in profile.apart}
    assert all(run[op] <= asked[op] for op in set(asked) - taken_apart)
    if name != "dead branches":
        fewer = {op for op in set(asked) - taken_apart if run[op] < asked[op]}
        assert all(op.family in profile.merged or f"{op.family}:{op.name}" in profile.merged for op in fewer)
    assert sum(k.bytes for k in found) > 0
    assert all(k.bytes <= k.op.bytes + sum(op.bytes for op in k.absorbed) for k in found)


def test_profiles_are_named_and_say_where_they_come_from():
    assert backends() == ("eager", "executorch", "inductor", "onnxruntime", "openvino", "tensorrt")
    assert all(len(FusionProfile.load(name).about) > 40 for name in backends())
    with pytest.raises(UnknownName, match="did you mean 'onnxruntime'"):
        FusionProfile.load("onnx_runtime")
