"""Elastic layers: what runs, what a stand-alone copy computes, what is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_weights import Mixed, Wide, seeded_supernet
from torch import nn

import nas
from nas.architecture import Architecture, Mixture
from nas.errors import BadInput
from nas.sharing import (
    Choice,
    ElasticConv2d,
    ElasticEmbedding,
    ElasticLinear,
    ElasticNorm,
    ElasticSequential,
    ElasticSpace,
    Followed,
    specialised,
)
from nas.testing import SPACE_CHECKS

SPACE = Wide()


def architectures(space):
    return st.integers(0, 10_000).map(lambda seed: space.sample(np.random.default_rng(seed)))


def following(layer, **choices):
    followed = Followed()
    followed.architecture = Architecture(choices)
    for part in layer.modules():
        if hasattr(part, "followed"):
            part.followed = followed
    return layer


@pytest.mark.parametrize("check", SPACE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("space", [Wide(), Mixed()], ids=["wide", "mixed"])
def test_conforms(check, space):
    check(space, torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))


@given(architectures(SPACE))
@settings(max_examples=30, deadline=None)
def test_path_computes_what_the_supernet_computes_also_in_training(a):
    net = seeded_supernet(SPACE)
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    path = net.path(a)
    shared = net.train()(x, a)
    assert torch.allclose(shared, path.train()(x), atol=1e-5)
    assert torch.allclose(net.eval()(x, a), net.path(a).eval()(x), atol=1e-5)
    own = SPACE.build(a)
    own.load_state_dict(path.state_dict())
    assert [type(m) for m in own.modules()] == [type(m) for m in path.modules()]


@given(architectures(SPACE))
@settings(max_examples=20, deadline=None)
def test_gradients_are_those_of_the_path(a):
    net = seeded_supernet(SPACE)
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    path = net.path(a)
    net.train()(x, a).square().mean().backward()
    path.train()(x).square().mean().backward()
    shared = sum(float(p.grad.abs().sum()) for p in net.parameters() if p.grad is not None)
    own = sum(float(p.grad.abs().sum()) for p in path.parameters() if p.grad is not None)
    if a["kernel"] == 5:  # a smaller kernel's gradient also goes into its transformation
        assert shared == pytest.approx(own, rel=1e-3, abs=1e-6)


def test_only_the_chosen_option_runs_and_learns():
    net = seeded_supernet(Mixed())
    a = Mixed().architecture({"first": "linear", "second": "zero"})
    net(torch.randn(3, 1, 8, 8), a).sum().backward()
    second = net.module[2].options["linear"]
    assert second.weight.grad is None
    assert net.module[4 - 1].weight.grad is not None


def test_probing_leaves_statistics_and_modes_alone():
    net = seeded_supernet(SPACE).train()
    before = copy.deepcopy(net.state_dict())
    net.path(SPACE.sample(np.random.default_rng(0)))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())


def test_a_path_is_a_copy():
    net = seeded_supernet(SPACE)
    path = net.path(SPACE.sample(np.random.default_rng(0)))
    for p in path.parameters():
        p.data.fill_(7.0)
    assert not any((p == 7.0).any() for p in net.parameters())


def test_mixture_is_the_weighted_sum_of_options_and_its_gradient_is_right():
    space = Mixed()
    net = seeded_supernet(space).double().eval()
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    weights = {
        "first": torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True),
        "second": torch.tensor([0.6, 0.0, 0.4], dtype=torch.float64, requires_grad=True),
    }
    assert torch.autograd.gradcheck(
        lambda a, b: net(x, {"first": a, "second": b}), (weights["first"], weights["second"])
    )
    same = net(x, Mixture({k: w.detach().numpy() for k, w in weights.items()}))
    assert torch.allclose(same, net(x, weights))


def test_one_hot_mixture_is_the_architecture():
    space = Mixed()
    net = seeded_supernet(space)
    x = torch.randn(5, 1, 8, 8)
    a = space.architecture({"first": "linear", "second": "relu"})
    one_hot = Mixture({"first": [1, 0, 0], "second": [0, 1, 0]})
    assert torch.allclose(net(x, a), net(x, one_hot), atol=1e-6)


def test_spaces_and_supernets_can_be_sent():
    net = seeded_supernet(SPACE)
    a = SPACE.sample(np.random.default_rng(3))
    x = torch.randn(2, 1, 8, 8)
    again = pickle.loads(pickle.dumps(net))
    assert torch.equal(again.eval()(x, a), net.eval()(x, a))
    assert pickle.loads(pickle.dumps(SPACE)).signature == SPACE.signature


def test_signature_tells_other_sizes_apart():
    class Wider(Wide):
        def elastic(self):
            return nn.Sequential(super().elastic(), nn.Linear(10, 10))

    assert Wide().supernet().signature == Wide().supernet().signature
    assert Wide().supernet().signature != Wider().supernet().signature


def test_build_draws_from_torchs_generator_and_resets_kernels():
    a = SPACE.sample(np.random.default_rng(0))
    torch.manual_seed(5)
    one = SPACE.build(a)
    torch.manual_seed(5)
    two = SPACE.build(a)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.isfinite(t).all() for t in one.state_dict().values())


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(12), (5, 6)),
        (nn.BatchNorm2d(12), (5, 6, 3, 3)),
        (nn.LayerNorm(12), (5, 4, 6)),
        (nn.RMSNorm(12), (5, 4, 6)),
        (nn.GroupNorm(4, 12), (5, 6, 3, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_norms_of_fewer_channels(norm, shape):
    layer = ElasticNorm(norm)
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_(0.5, 1.5)
    x = torch.randn(shape)
    shared = layer.train()(x)
    plain = specialised(layer)
    assert torch.allclose(shared, plain.train()(x), atol=1e-6)
    assert torch.allclose(layer.eval()(x), specialised(layer).eval()(x), atol=1e-6)
    assert type(plain) is type(norm)


def test_a_smaller_kernel_is_the_centre_until_its_transformation_learns():
    layer = following(ElasticConv2d(2, 3, 5, kernel="k", kernel_sizes=(3, 5)), k=3)
    x = torch.randn(1, 2, 7, 7)
    centre = nn.functional.conv2d(x, layer.weight[..., 1:4, 1:4], layer.bias, padding=1)
    assert torch.allclose(layer(x), centre, atol=1e-6)
    layer(x).sum().backward()
    assert layer.transforms["3"].grad is not None


def test_embedding_and_tied_weights():
    layer = following(ElasticEmbedding(7, 8, out="w"), w=3)
    assert layer(torch.tensor([[1, 2]])).shape == (1, 2, 3)
    shared = nn.Linear(4, 4)
    tied = nn.Sequential(shared, nn.ReLU(), shared)
    copied = specialised(tied)
    assert copied[0] is copied[2]
    assert copied[0] is not shared


@pytest.mark.parametrize(
    ("layer", "x", "choices", "message"),
    [
        (ElasticLinear(4, 4, out="w"), torch.zeros(1, 4), {"w": 5}, r"out_features must be .* from 1 to 4"),
        (ElasticLinear(4, 4, out="w"), torch.zeros(1, 4), {"w": 0}, r"out_features must be"),
        (
            ElasticConv2d(1, 2, 5, kernel="k", kernel_sizes=(3, 5)),
            torch.zeros(1, 1, 5, 5),
            {"k": 7},
            r"kernel_size must be among \(3, 5\)",
        ),
        (ElasticNorm(nn.LayerNorm(4)), torch.zeros(1, 5), {}, r"channels must be at most 4"),
        (ElasticNorm(nn.GroupNorm(2, 8)), torch.zeros(1, 3, 2), {}, r"channels must be a multiple of 4"),
        (Choice("op", {"a": nn.Identity()}), torch.zeros(1), {"op": "b"}, r"op must be among a"),
        (
            ElasticSequential([nn.Identity()], depth="d"),
            torch.zeros(1),
            {"d": 2},
            r"depth must be a whole number from 1 to 1",
        ),
    ],
)
def test_what_lies_outside_is_refused(layer, x, choices, message):
    with pytest.raises(BadInput, match=message):
        following(layer, **choices)(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ElasticConv2d(4, 8, 3, groups=2), "groups must be 1 or in_channels"),
        (lambda: ElasticConv2d(4, 4, 4), "kernel_size must be odd"),
        (lambda: ElasticConv2d(4, 4, 5, kernel="k", kernel_sizes=(3,)), "kernel_sizes must end with"),
        (lambda: ElasticNorm(nn.LayerNorm((2, 3))), "must have one axis"),
        (lambda: ElasticNorm(nn.Linear(2, 2)), "norm must be a batch, layer"),
        (lambda: Choice("op", {}), "options must hold"),
    ],
)
def test_layers_that_cannot_be(make, message):
    with pytest.raises(BadInput, match=message):
        make()


def test_candidates_of_other_spaces_are_refused():
    net = seeded_supernet(SPACE)
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(BadInput, match="unknown decision"):
        net(x, Mixed().architecture({"first": "relu", "second": "zero"}))
    with pytest.raises(BadInput, match="runs no mixtures"):
        net(x, Mixture({"op": [1, 0, 0]}))
    with pytest.raises(BadInput, match="mixture must weigh"):
        seeded_supernet(Mixed())(x, Mixture({"first": [1, 0, 0]}))
    with pytest.raises(BadInput, match="have 3 weights"):
        seeded_supernet(Mixed())(x, Mixture({"first": [1, 0], "second": [1, 0, 0]}))


def test_tied_weights_stay_tied_when_they_are_built():
    class Tied(ElasticSpace):
        decisions = (nas.Categorical("width", (2, 4)),)

        def elastic(self):
            first, second = nn.Linear(3, 3), nn.Linear(3, 3)
            second.weight = first.weight
            return nn.Sequential(first, second, ElasticLinear(3, 4, out="width"))

        def example(self):
            return torch.zeros(1, 3)

    module = Tied().build(Tied().architecture({"width": 2}))
    assert module[0].weight is module[1].weight
    assert torch.isfinite(module(torch.randn(2, 3))).all()


def test_weights_without_a_way_to_draw_them_are_refused():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.scale

    class Lacking(ElasticSpace):
        decisions = (nas.Categorical("width", (3,)),)

        def elastic(self):
            return nn.Sequential(Own(), ElasticLinear(3, 3, out="width"))

        def example(self):
            return torch.zeros(1, 3)

    with pytest.raises(BadInput, match=r"0 \(Own\) must have reset_parameters\(\)"):
        Lacking().build(Lacking().architecture({"width": 3}))
