from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import nas
from nas.architecture import Fixed
from nas.errors import BadInput, UnknownMetric
from nas.estimators.cost import CostEvaluator, forward_cost
from nas.proposal import Proposal
from nas.target import Target

ALL = ("params", "trainable_params", "macs", "activation_bytes", "model_bytes")


class One(nas.Space):
    """A single module."""

    decisions = (nas.Categorical("it", (True,)),)

    def __init__(self, build) -> None:
        self._build = build

    def build(self, architecture):
        return self._build()


class Shape(nas.Task):
    """Inputs of a shape; nothing else is asked of it."""

    count = batches = inputs = targets = forward = loss = score = None

    def __init__(self, *shape, dtype=torch.float32) -> None:
        self.shape, self.dtype = shape, dtype

    def example(self, batch_size):
        return torch.ones(batch_size, *self.shape, dtype=self.dtype)


def cost(build, *shape, dtype=torch.float32, target=None, metrics=ALL):
    space = One(build)
    evaluator = CostEvaluator(space, Shape(*shape, dtype=dtype), target)
    (outcome,) = evaluator.evaluate([Proposal(space.architecture({"it": True}), metrics)], seed=0)
    return dict(outcome.values), outcome.notes["counted_on"]


class Attention(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.width = width

    def forward(self, x):
        q, k, v = x[:, :, :5], x, x[..., : self.width]
        return nn.functional.scaled_dot_product_attention(q, k, v)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Products(nn.Module):
    def forward(self, x):
        a = torch.einsum("bij,bkj->bik", x, x)
        return torch.baddbmm(a, x, x.transpose(1, 2))


MACS = {
    "convolution": (lambda: nn.Conv2d(3, 8, 3, 2, 1), (3, 16, 16), 8 * 8 * 8 * 27),
    "groups": (lambda: nn.Conv2d(6, 12, 3, 1, 0, groups=3), (6, 8, 8), 12 * 6 * 6 * 2 * 9),
    "depthwise": (lambda: nn.Conv2d(6, 6, 5, 1, 2, groups=6), (6, 8, 8), 6 * 64 * 25),
    "dilated 1d": (lambda: nn.Conv1d(4, 5, 3, dilation=2), (4, 20), 5 * 16 * 12),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2), (4, 5, 5), 4 * 25 * 3 * 9),
    "linear": (lambda: nn.Linear(7, 5), (7,), 35),
    "linear without bias, on a sequence": (lambda: nn.Linear(7, 5, bias=False), (3, 7), 105),
    "products": (Products, (4, 6), 2 * 4 * 4 * 6),
    "attention": (Attention, (2, 7, 4), 2 * 5 * 7 * 8),
    "self-attention": (SelfAttention, (5, 8), 5 * 8 * 24 + 2 * 5 * 5 * 8 + 5 * 64),
    "attention of unlike widths": (lambda: Attention(3), (2, 7, 4), 2 * 5 * 7 * (4 + 3)),
    "lstm": (lambda: First(nn.LSTM(3, 4, batch_first=True)), (6, 3), 6 * 16 * (3 + 4)),
    "rest": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.GroupNorm(1, 3), nn.Sigmoid()
        ),
        (3, 8, 8),
        0,
    ),
}


class First(nn.Module):
    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


@pytest.mark.parametrize("name", MACS)
def test_macs_by_hand(name):
    build, shape, expected = MACS[name]
    values, device = cost(build, *shape)
    assert values["macs"] == expected
    assert device == "meta"


@pytest.mark.parametrize("name", sorted(set(MACS) - {"lstm"}))
def test_macs_are_half_of_torchs_flops_on_either_device(name):
    build, shape, _ = MACS[name]
    module, x = build().eval(), torch.ones(1, *shape)
    # Torch's counter knows attention on the CPU by its parts only.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(x)
    assert forward_cost(module, x)["macs"] == counter.get_total_flops() / 2
    assert cost(build, *shape)[0]["macs"] == counter.get_total_flops() / 2


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )


def test_parameters_and_bytes_by_hand():
    values, _ = cost(network, 1, 8, 8)
    weights = 4 * 9 + 4 + 8 + 2560 + 10
    assert values["params"] == values["trainable_params"] == weights
    assert values["model_bytes"] == 4 * (weights + 8) + 8  # the count of batches has 8 bytes
    half, _ = cost(network, 1, 8, 8, target=Target(dtype="float16"))
    assert half["model_bytes"] == 2 * (weights + 8) + 8
    assert half["activation_bytes"] == values["activation_bytes"] / 2
    assert half["macs"] == values["macs"]


def test_frozen_and_shared_parameters():
    def build():
        layer = nn.Linear(4, 4)
        layer.bias.requires_grad_(False)
        return nn.Sequential(layer, nn.ReLU(), layer)

    values, _ = cost(build, 4)
    assert (values["params"], values["trainable_params"], values["macs"]) == (20, 16, 32)


class Branches(nn.Module):
    def forward(self, x):
        a = x * 2  # x, a
        b = a * 3  # x, a, b
        a = None
        c = b * 4  # x, b, c
        d = c.reshape(-1)[:2]  # a view takes nothing
        return (b + c + d.sum()).relu_()


def test_activation_bytes_are_the_most_alive_at_once():
    # input and the result of a layer; then the input, that result and the next one
    assert cost(lambda: nn.Linear(10, 20), 10)[0]["activation_bytes"] == 4 * 30
    two = lambda: nn.Sequential(nn.Linear(10, 20), nn.ReLU())  # noqa: E731
    assert cost(two, 10)[0]["activation_bytes"] == 4 * 50
    in_place = lambda: nn.Sequential(nn.Linear(10, 20), nn.ReLU(inplace=True))  # noqa: E731
    assert cost(in_place, 10)[0]["activation_bytes"] == 4 * 30
    # b, c, b + c, the sum over d and the final result beside the input
    assert cost(Branches, 100)[0]["activation_bytes"] == 4 * (5 * 100 + 1)


@pytest.mark.parametrize("build", [network, Branches, SelfAttention])
def test_activation_bytes_are_the_same_on_either_device(build):
    shape = {network: (1, 8, 8), Branches: (100,), SelfAttention: (5, 8)}[build]
    real = forward_cost(build().eval(), torch.ones(1, *shape))
    assert cost(build, *shape)[0]["activation_bytes"] == real["activation_bytes"]


class Peeking(nn.Module):
    """Looks at a value, which the meta device does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x) if float(x.sum()) > 0 else x


def test_modules_that_need_values_are_run_for_real():
    values, device = cost(Peeking, 4)
    assert (values["macs"], device) == (16, "cpu")


def test_whole_numbers_as_inputs():
    values, _ = cost(lambda: nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 2)), 6, dtype=torch.int64)
    assert (values["macs"], values["params"]) == (6 * 16, 400 + 18)


def test_a_fixed_module_is_counted_as_it_is():
    evaluator = CostEvaluator(One(network), Shape(1, 8, 8))
    (outcome,) = evaluator.evaluate([Proposal(Fixed(network), ("params", "macs"))], seed=0)
    assert dict(outcome.values) == {"params": 2618, "macs": 64 * 36 + 2560}


def test_only_known_metrics_and_only_tensors():
    with pytest.raises(UnknownMetric, match="'flops'"):
        cost(network, 1, 8, 8, metrics=("flops",))

    class Text(Shape):
        def example(self, batch_size):
            return "text"

    with pytest.raises(BadInput, match="the task's example must be a tensor"):
        CostEvaluator(One(network), Text())


def test_broken_modules_raise_their_own_error():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        cost(lambda: nn.Linear(3, 3), 4)


def test_global_state_is_left_alone():
    torch.manual_seed(4)
    before = torch.get_rng_state()
    cost(lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout()), 4)
    cost(Peeking, 4)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.empty(1).device.type == "cpu"
