"""An operation alone computes what its description says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import BadInput, Unsupported
from nas.kernels.capture import capture
from nas.kernels.op import Op
from nas.kernels.plan import resized
from nas.kernels.runners import runner
from nas.kernels.runners.onnx_graph import copies_of
from nas.kernels.runners.single import copies, single
from nas.kernels.timing import Timer
from nas.rng import stream

FAST = Timer(warmup=1, readings=2, seconds=0.001)


class Gate(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class Attention(nn.Module):
    def forward(self, x):
        q = x.reshape(2, 4, 6, 8)
        return nn.functional.scaled_dot_product_attention(q, q, q)


MODULES = {
    "conv": (nn.Conv2d(8, 12, 3, stride=2, padding=1), (2, 8, 15, 15)),
    "conv without bias": (nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), (1, 8, 12, 12)),
    "conv of images": (nn.Conv2d(3, 8, 3, padding=1), (1, 3, 16, 16)),
    "conv1d": (nn.Conv1d(8, 4, 3), (1, 8, 20)),
    "linear": (nn.Linear(12, 20), (6, 12)),
    "linear without bias": (nn.Linear(12, 20, bias=False), (6, 12)),
    "batch norm": (nn.BatchNorm2d(6), (2, 6, 8, 8)),
    "layer norm": (nn.LayerNorm(16), (5, 16)),
    "relu": (nn.ReLU(), (4, 10)),
    "relu6": (nn.ReLU6(), (4, 10)),
    "silu": (nn.SiLU(), (4, 10)),
    "softmax": (nn.Softmax(dim=-1), (4, 10)),
    "max pool": (nn.MaxPool2d(3, stride=2, padding=1), (1, 4, 15, 15)),
    "mean pool": (nn.AvgPool2d(2, ceil_mode=True), (1, 4, 15, 15)),
    "global mean": (nn.AdaptiveAvgPool2d(1), (1, 4, 8, 8)),
    "gate": (Gate(), (1, 6, 8, 8)),
    "attention": (Attention(), (2, 4, 48)),
}


def ops(name):
    module, shape = MODULES[name]
    return [call.op for call in capture(module.eval(), torch.ones(shape)).calls]


def recaptured(op):
    """The operation that a single call really is."""
    one = single(op, 0)

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            for i, tensor in enumerate([*one.inputs[1:], *one.weights]):
                self.register_buffer(f"t{i}", tensor)

        def forward(self, x):
            rest = [buffer for _, buffer in self.named_buffers()]
            return one.call(x, *rest, **one.settings)

    return [call.op for call in capture(Whole(), one.inputs[0]).calls]


@pytest.mark.parametrize("name", MODULES)
def test_a_single_call_is_the_operation_that_was_captured(name):
    for op in ops(name):
        (found,) = recaptured(op)
        assert (found.family, found.name, found.shape, found.flops) == (
            op.family,
            op.name,
            op.shape,
            op.flops,
        )
        assert found.bytes == op.bytes


@pytest.mark.parametrize("name", MODULES)
def test_another_size_is_described_as_it_is_captured(name):
    rng = stream(0, "resized")
    for op in ops(name):
        for _ in range(4):
            other = resized(op, (0.4, 2.0), rng)
            (found,) = recaptured(other)
            assert (found.family, found.name) == (op.family, op.name)
            assert found.flops == pytest.approx(other.flops)
            assert found.bytes == pytest.approx(other.bytes)
            assert found.shape == other.shape


def test_inputs_are_random_and_the_same_again():
    (op,) = ops("linear")
    a, b = single(op, 0), single(op, 0)
    assert torch.equal(a.inputs[0], b.inputs[0])
    assert a.inputs[0].std() > 0.5
    assert not torch.equal(a.inputs[0], single(op, 1).inputs[0])


def test_what_its_description_does_not_tell_is_not_guessed():
    (dilated,) = ops_of(nn.Conv2d(4, 4, 3, padding=2, dilation=2), (1, 4, 9, 9))
    with pytest.raises(Unsupported, match="conv2d"):
        single(dilated, 0)
    with pytest.raises(Unsupported, match="other/mystery"):
        single(Op("other", "mystery", (4,), "float32", 4.0, 16.0, 0.0, 16.0), 0)
    with pytest.raises(Unsupported, match="int8"):
        single(replace(ops("linear")[0], dtype="int8"), 0)


def ops_of(module, shape):
    return [call.op for call in capture(module.eval(), torch.ones(shape)).calls]


@pytest.mark.parametrize("name", MODULES)
def test_eager_times_it(name):
    for op in ops(name):
        timing = runner("eager").op(op, 0, FAST)
        assert 0.0 < timing.p10_ms <= timing.median_ms <= timing.p90_ms


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", [n for n in MODULES if n != "attention"])
def test_a_backend_of_exported_models_times_it(name, backend):
    pytest.importorskip(backend)
    pytest.importorskip("onnx")
    for op in ops(name):
        assert runner(backend).op(op, 0, FAST).median_ms > 0.0


def test_a_graph_computes_what_the_call_computes():
    pytest.importorskip("onnx")
    backend = pytest.importorskip("nas.kernels.runners.onnxruntime")
    for name in ("linear", "relu6", "silu", "softmax", "max pool", "mean pool", "batch norm", "layer norm"):
        (op,) = ops(name)
        graph = copies_of(op, 0, 3)
        found = backend.session_of(graph.model()).run(None, graph.inputs)
        for i in range(3):
            np.testing.assert_allclose(found[i], single(op, i)().numpy(), rtol=1e-4, atol=1e-5)


def test_many_copies_of_tiny_operations_are_timed_and_few_that_do_not_fit_the_cache():
    def copied(n):
        op = Op("linear", "linear", (1, n, n), "float32", 2.0 * n * n, 4.0 * n, 4.0 * n * n, 4.0 * n)
        return copies(op, 2.0**21, 32), op.bytes

    assert copied(8)[0] == 32
    count, size = copied(256)
    assert 1 < count < 32
    assert count * size <= 2**20
    assert copied(1024)[0] == 1


def test_larger_operations_take_longer():
    small, large = (
        Op("linear", "linear", (64, n, n), "float32", 128.0 * n * n, 256.0 * n, 4.0 * n * n, 256.0 * n)
        for n in (32, 512)
    )
    times = [runner("eager").op(op, 0, Timer(seconds=0.005)).median_ms for op in (small, large)]
    assert times[1] > 3 * times[0]


def test_a_network_runs_as_it_is():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), torch.randn(2, 4)
    found = runner("eager").prepared(net, x)()
    assert torch.equal(found, net(x))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_exported_network_gives_the_same(backend):
    pytest.importorskip(backend)
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8)
    done = runner(backend).prepared(net, x)()
    (found,) = [done.get_output_tensor().data] if backend == "openvino" else done
    np.testing.assert_allclose(found, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)


class Inexportable(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).real


def test_a_module_that_cannot_be_exported_is_refused():
    pytest.importorskip("onnxruntime")
    with pytest.raises(Unsupported, match="cannot be exported to ONNX"):
        runner("onnxruntime").prepared(Inexportable(), torch.eye(3))


def test_backends_and_devices_that_are_not_here_are_refused():
    with pytest.raises(BadInput, match="unknown backend to time 'tensorflow'"):
        runner("tensorflow")
    with pytest.raises(BadInput, match="device must be cpu"):
        runner("eager", "elsewhere")
    with pytest.raises(BadInput, match="device must be cpu"):
        runner("onnxruntime", "cuda:0")
    with pytest.raises(BadInput, match="device must be cpu"):
        runner("openvino", "cuda:0")


@pytest.mark.cuda
def test_cuda_is_timed_by_events():
    timing = runner("eager", "cuda:0").op(ops("linear")[0], 0, FAST)
    assert 0.0 < timing.p10_ms <= timing.median_ms
