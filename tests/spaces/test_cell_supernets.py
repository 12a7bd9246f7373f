"""Supernets of cells and chains: what runs, what learns, and what mixtures are."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas import Mixture
from nas.errors import BadInput
from nas.rng import stream
from nas.sharing import Choice
from nas.spaces.darts import DartsSpace
from nas.spaces.darts_operations import OPS as DARTS_OPS
from nas.spaces.nasbench201 import OPS, NasBench201Space
from nas.spaces.nasbench_macro import NasBenchMacroSpace

SHAPE = (3, 8, 8)
SPACES = {
    "nasbench201": NasBench201Space(cells=1, channels=2, input_shape=SHAPE),
    "cell125": NasBench201Space(nodes=3, cells=1, channels=2, input_shape=SHAPE),
    "darts": DartsSpace(layers=3, channels=2, input_shape=SHAPE),
    "nasbench_macro": NasBenchMacroSpace(channels=2, input_shape=SHAPE),
}
EVERY = pytest.mark.parametrize("name", SPACES)


def supernet_of(space, seed=0):
    """With batch norms that shift and scale, and statistics of their own, as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        supernet = space.supernet()
        for norm in (m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)):
            for t in (norm.weight.data, norm.bias.data, norm.running_mean):
                t.add_(torch.randn_like(t) / 4)
    return supernet


SUPERNETS = {name: supernet_of(space) for name, space in SPACES.items()}


def images(n=4, dtype=torch.float32):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=dtype)


def one_hot(space, architecture):
    """The mixture of one architecture; inactive decisions weigh nothing."""
    return Mixture(
        {
            leaf.name: [float(architecture.get(leaf.name) == option) for option in leaf.options]
            for leaf in space.leaves
        }
    )


def random_weights(space, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return {
        leaf.name: torch.rand(len(leaf.options), generator=generator, dtype=dtype).requires_grad_()
        for leaf in space.leaves
    }


@EVERY
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_path_computes_what_the_supernet_does(name, training, seed):
    space, supernet = SPACES[name], copy.deepcopy(SUPERNETS[name]).train(training)
    architecture = space.sample(stream(seed))
    path, own = supernet.path(architecture), space.build(architecture).train(training)
    own.load_state_dict(path.state_dict())
    shared = supernet(images(), architecture)
    torch.testing.assert_close(path(images()), shared, rtol=0, atol=1e-5)
    torch.testing.assert_close(own(images()), shared, rtol=0, atol=1e-5)
    after = supernet.path(architecture).state_dict()
    torch.testing.assert_close(own.state_dict(), after, rtol=0, atol=1e-5)  # statistics of batch norms, too


@EVERY
def test_a_path_is_a_copy(name):
    space, supernet = SPACES[name], copy.deepcopy(SUPERNETS[name])
    architecture = space.sample(stream(3))
    before = {k: t.clone() for k, t in supernet.state_dict().items()}
    for t in supernet.path(architecture).state_dict().values():
        t.add_(1)
    torch.testing.assert_close(dict(supernet.state_dict()), before, rtol=0, atol=0)


@EVERY
def test_a_step_teaches_only_the_chosen_operations(name):
    space, supernet = SPACES[name], copy.deepcopy(SUPERNETS[name])
    for seed in range(4):
        architecture = space.sample(stream(seed))
        supernet.zero_grad()
        supernet(images(), architecture).square().sum().backward()
        learnt = 0
        for choice in (m for m in supernet.modules() if isinstance(m, Choice)):
            for option, module in choice.options.items():
                with_gradient = [p for p in module.parameters() if p.grad is not None]
                assert option == architecture.get(choice.name) or not with_gradient
                learnt += len(with_gradient)
        weights = sum(1 for p in supernet.parameters() if p.grad is not None)
        assert weights > learnt  # stem and classifier


def cell_of(space, op):
    return space.architecture(dict.fromkeys(space.by_name, op))


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("nasbench201", "none"),
        ("nasbench201", "skip_connect"),
        ("cell125", "none"),
        ("nasbench_macro", "identity"),
    ],
)
def test_paths_without_weights_in_their_cells_can_be_trained(name, op):
    space, supernet = SPACES[name], copy.deepcopy(SUPERNETS[name]).train()
    supernet(images(), cell_of(space, op)).square().sum().backward()
    gradients = [p.grad for p in supernet.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)


@EVERY
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_mixture_of_one_architecture_is_its_path(name, seed):
    space, supernet = SPACES[name], SUPERNETS[name].eval()
    architecture = space.sample(stream(seed))
    mixture = one_hot(space, architecture)
    with torch.no_grad():
        mixed, chosen = supernet(images(), mixture), supernet(images(), architecture)
    torch.testing.assert_close(mixed, chosen, rtol=1e-5, atol=1e-5)


@EVERY
def test_the_gradient_by_a_mixture_is_that_of_finite_differences(name):
    space, supernet = SPACES[name], copy.deepcopy(SUPERNETS[name]).eval().double()
    weights, x, step = random_weights(space, 5), images(2, torch.float64), 1e-6
    target = torch.linspace(-1, 1, 10, dtype=torch.float64)

    def loss(given):
        with torch.no_grad():
            return float((supernet(x, given) * target).sum())

    (supernet(x, weights) * target).sum().backward()
    for decision in [*weights][:: max(1, len(weights) // 4)]:
        gradient = weights[decision].grad
        for i in range(0, len(gradient), 2):
            sides = []
            for sign in (step, -step):
                moved = {k: w.detach().clone() for k, w in weights.items()}
                moved[decision][i] += sign
                sides.append(loss(moved))
            expected = (sides[0] - sides[1]) / (2 * step)
            assert float(gradient[i]) == pytest.approx(expected, rel=1e-3, abs=1e-5), (decision, i)


def test_what_none_weighs_adds_nothing():
    for name, zero in (("nasbench201", OPS), ("darts", DARTS_OPS)):
        space, supernet = SPACES[name], copy.deepcopy(SUPERNETS[name]).eval()
        weights = {k: w.detach().float() for k, w in random_weights(space, 2).items()}
        more = {k: w.clone() for k, w in weights.items()}
        for leaf in space.leaves:
            if leaf.options == zero:
                more[leaf.name][0] += 3.0
        with torch.no_grad():
            assert torch.equal(supernet(images(), weights), supernet(images(), more))


def test_mixtures_must_weigh_every_option():
    space, supernet = SPACES["darts"], SUPERNETS["darts"]
    weights = {k: w.detach().float() for k, w in random_weights(space, 0).items()}
    with pytest.raises(BadInput, match="mixture must weigh"):
        supernet(images(), {k: w for k, w in weights.items() if k != "normal.inputs_3"})
    with pytest.raises(BadInput, match="inputs_4 must have 6 weights, got 5"):
        supernet(images(), {**weights, "normal.inputs_4": torch.ones(5)})
    with pytest.raises(BadInput, match="edge_0_2 must have 8 weights, got 7"):
        supernet(images(), {**weights, "normal.edge_0_2": torch.ones(7)})


def test_cells_follow_their_own_kind_of_decisions():
    space, supernet = SPACES["darts"], copy.deepcopy(SUPERNETS["darts"]).eval()
    a, b = (space.sample(stream(seed)) for seed in (0, 1))
    mixed = {k: v for k, v in a.items() if k.startswith("normal")}
    mixed |= {k: v for k, v in b.items() if k.startswith("reduce")}
    kinds = [cell.kind for cell in supernet.module.cells]
    assert kinds == ["normal", "reduce", "reduce"]
    first = dict(supernet.path(a).cells[0].state_dict())
    again = supernet.path(space.architecture(mixed)).cells
    torch.testing.assert_close(dict(again[0].state_dict()), first)
    torch.testing.assert_close(dict(again[1].state_dict()), dict(supernet.path(b).cells[1].state_dict()))


@EVERY
def test_spaces_offer_their_supernets(name):
    space = SPACES[name]
    assert {"supernet", "mixtures"} <= space.offers(space.sample(stream(0)))


def test_looking_at_a_supernet_draws_nothing(monkeypatch):
    space = NasBench201Space(cells=1, channels=2)
    before = torch.random.get_rng_state()
    kinds = []
    made = NasBench201Space.supernet

    def seen(self):
        supernet = made(self)
        kinds.append(next(supernet.parameters()).device.type)
        return supernet

    monkeypatch.setattr(NasBench201Space, "supernet", seen)
    for _ in range(2):
        space.offers(space.sample(stream(0)))
    assert kinds == ["meta"]  # once, and without numbers
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_supernet_goes_to_another_type_whole():
    space = SPACES["nasbench201"]
    supernet = copy.deepcopy(SUPERNETS["nasbench201"]).double()
    path = supernet.path(space.sample(stream(0)))
    assert all(p.dtype == torch.float64 for p in path.parameters())


def test_a_supernet_whose_making_reads_numbers_is_offered_as_well(monkeypatch):
    space = NasBench201Space(cells=1, channels=2)
    made = NasBench201Space.supernet

    def reading(self):
        supernet = made(self)
        float(next(supernet.parameters()).sum())
        return supernet

    monkeypatch.setattr(NasBench201Space, "supernet", reading)
    assert {"supernet", "mixtures"} <= space.offers(space.sample(stream(0)))
