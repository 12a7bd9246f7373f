from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch
from nets import NETS, residual, transformer
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import BadInput
from nas.kernels.capture import capture, peak_bytes, recorded


def one(module, *shape, dtype="float32"):
    """The only operation of a module for an input of this shape."""
    (call,) = capture(module.eval(), torch.ones(*shape), dtype=dtype).calls
    return call.op


def test_a_convolution_by_hand():
    op = one(nn.Conv2d(6, 12, (3, 5), stride=2, padding=(1, 2), groups=3), 2, 6, 8, 10)
    assert (op.family, op.name, op.dtype) == ("conv", "conv2d", "float32")
    assert op.attributes == {
        "batch": 2, "in_channels": 6, "out_channels": 12, "height": 8, "width": 10,
        "kernel": 4, "stride": 2, "padding": 1, "groups": 3,
    }  # fmt: skip
    weights = 12 * 2 * 15 + 12
    assert (op.bytes_in, op.bytes_weight, op.bytes_out) == (4 * 2 * 6 * 80, 4 * weights, 4 * 2 * 12 * 20)
    assert op.flops == 2 * (2 * 12 * 20) * 2 * 15


ONE = {
    "conv1d": (nn.Conv1d(4, 5, 3, padding=1), (2, 4, 20), "conv", (2, 4, 5, 1, 20, 3, 1, 1, 1)),
    "conv3d": (nn.Conv3d(1, 2, 3), (1, 1, 4, 5, 6), "conv", (1, 1, 2, 20, 6, 3, 1, 0, 1)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 6, 3, 2), (2, 4, 5, 5), "conv", (2, 4, 6, 5, 5, 3, 2, 0, 1)),
    "linear": (nn.Linear(7, 5), (2, 3, 7), "linear", (6, 7, 5)),
    "softmax": (nn.Softmax(-1), (2, 3, 7), "softmax", (6, 7)),
    "layer_norm": (nn.LayerNorm(7), (2, 3, 7), "layer_norm", (6, 7)),
    "group_norm": (nn.GroupNorm(2, 4), (3, 4, 5, 5), "layer_norm", (6, 50)),
    "batch_norm": (nn.BatchNorm2d(4), (3, 4, 5, 5), "batch_norm", (3, 4, 25)),
    "relu": (nn.ReLU(), (3, 4), "pointwise", (12, 1)),
    "hardswish": (nn.Hardswish(inplace=True), (3, 4), "pointwise", (12, 1)),
    "avg_pool2d": (nn.AvgPool2d(3, 1, 1), (2, 4, 8, 6), "pool", (2, 4, 8, 6, 3, 1)),
    "max_pool2d": (nn.MaxPool2d(2), (2, 4, 8, 6), "pool", (2, 4, 8, 6, 2, 2)),
    "mean": (nn.AdaptiveAvgPool2d(1), (2, 4, 8, 6), "reduce", (8, 48)),
    "upsample_nearest2d": (nn.Upsample(scale_factor=2), (1, 2, 4, 4), "resize", (32, 128)),
    "constant_pad_nd": (nn.ConstantPad1d(1, 0.0), (2, 6), "copy", (16,)),
    "pixel_shuffle": (nn.PixelShuffle(2), (1, 8, 3, 3), "copy", (72,)),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_families_and_shapes(name):
    module, shape, family, attributes = ONE[name]
    op = one(module, *shape)
    assert (op.name, op.family, op.shape) == (name, family, attributes)
    assert op.bytes_in > 0
    assert op.bytes_out > 0


class Lookup(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 8)

    def forward(self, x):
        return self.table(x)


def test_of_an_embedding_only_what_is_looked_up_is_read():
    (call,) = capture(Lookup().eval(), torch.zeros(2, 3, dtype=torch.int64)).calls
    assert (call.op.family, call.op.shape) == ("embedding", (6, 8, 1000))
    assert (call.op.bytes_in, call.op.bytes_weight, call.op.bytes_out) == (6 * 8, 6 * 8 * 4, 6 * 8 * 4)


class Branches(nn.Module):
    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        y = torch.relu(a).transpose(0, 1).reshape(-1)  # a view of a part
        z = torch.cat((y[:2], b.flatten()))
        z += 1.0
        return z * x.sum()


def test_producers_are_found_through_views_and_writes():
    calls = capture(Branches(), torch.ones(2, 4)).calls
    assert [c.op.name for c in calls] == ["relu", "clone", "clone", "cat", "add", "sum", "mul"]
    assert [c.inputs for c in calls] == [(-1,), (0,), (-1,), (1, 2), (3,), (-1,), (4, 5)]


class Odd(nn.Module):
    def forward(self, x):
        return x.cumsum(1).sort().values


def test_unknown_operations_are_named_not_skipped():
    ops = [c.op for c in capture(Odd(), torch.ones(2, 3, 3)).calls]
    assert [(op.family, op.name) for op in ops] == [("other", "cumsum"), ("other", "sort")]
    assert all(op.bytes_in >= 72 for op in ops)


@pytest.mark.parametrize("name", NETS)
def test_the_exported_program_has_the_same_operations(name):
    build, shape = NETS[name]
    module, x = build(), torch.ones(2, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (x,), strict=False).module(check_guards=False)
        found = capture(exported, x)
    assert found.calls == capture(module, x).calls
    assert not found.note


@pytest.mark.parametrize("name", NETS)
def test_nothing_differs_when_it_is_run_for_real(name):
    build, shape = NETS[name]
    module, x = build(), torch.ones(2, *shape)
    traced, real = capture(module, x), recorded(module, x)
    assert (traced.traced_on, real.traced_on) == ("meta", "cpu")
    assert traced.calls == real.calls
    assert (traced.activation_bytes, traced.weight_bytes) == (real.activation_bytes, real.weight_bytes)


@pytest.mark.parametrize("name", NETS)
def test_arithmetic_of_products_is_what_torch_counts(name):
    build, shape = NETS[name]
    module, x = build(), torch.ones(2, *shape)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(x)
    trace = capture(module, x)
    assert 2 * trace.macs == counter.get_total_flops()
    assert trace.flops > 2 * trace.macs


def test_attention_is_one_operation():
    names = Counter(c.op.name for c in capture(transformer(), torch.ones(2, 6, 12)).calls)
    assert names == {"linear": 10, "layer_norm": 5, "add": 4, "scaled_dot_product_attention": 2, "gelu": 2}
    op = next(c.op for c in capture(transformer(), torch.ones(2, 6, 12)).calls if c.op.family == "attention")
    assert op.shape == (2, 4, 6, 6, 8)
    assert op.flops == 2 * 2 * (2 * 4 * 6 * 6 * 8)
    assert op.bytes_in == 3 * op.bytes_out == 3 * 4 * (2 * 4 * 6 * 8)


class Peeking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x) if float(x.sum()) > 0 else x


def test_modules_that_look_at_values_are_run_and_say_why():
    trace = capture(Peeking().eval(), torch.ones(2, 4))
    assert [c.op.name for c in trace.calls] == ["sum", "linear"]
    assert trace.traced_on == "cpu"
    assert "meta" in trace.note
    assert [c.op.name for c in capture(Peeking().eval(), -torch.ones(2, 4)).calls] == ["sum"]


def test_errors_of_the_module_are_its_own():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        capture(nn.Linear(3, 3).eval(), torch.ones(2, 4))
    with pytest.raises(BadInput, match="dtype must be one of"):
        capture(nn.ReLU(), torch.ones(2), dtype="float64")


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_bytes_are_those_of_the_dtype(dtype, width):
    trace, full = (capture(residual(), torch.ones(2, 3, 32, 32), dtype=d) for d in (dtype, "float32"))
    assert {c.op.dtype for c in trace.calls} == {dtype}
    moved = [(c.op.bytes_in + c.op.bytes_weight) * 4 / width for c in trace.calls]
    assert moved == [c.op.bytes_in + c.op.bytes_weight for c in full.calls]
    assert [c.op.flops for c in trace.calls] == [c.op.flops for c in full.calls]


def test_peak_memory_is_weights_and_what_is_alive():
    net = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)).eval()
    trace = capture(net, torch.ones(3, 10))
    weights = 10 * 20 + 20 + 20 * 5 + 5
    assert trace.weight_bytes == 4 * weights
    assert peak_bytes(trace) == 4 * (weights + 3 * (10 + 20 + 20))
    half = capture(net, torch.ones(3, 10), dtype="float16")
    assert peak_bytes(half) == peak_bytes(trace) / 2


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.inner(x)[0]


def test_the_module_is_left_as_it_was():
    module = Recurrent().eval()
    before = {name: (t, t.clone()) for name, t in module.state_dict(keep_vars=True).items()}
    torch.manual_seed(4)
    state = torch.get_rng_state()
    trace = capture(module, torch.ones(2, 6, 3))
    assert trace.traced_on == "meta"
    assert trace.macs == 2 * 6 * 16 * (3 + 4)
    after = module.state_dict(keep_vars=True)
    assert all(after[name] is t and torch.equal(t, copy) for name, (t, copy) in before.items())
    assert torch.equal(state, torch.get_rng_state())
