"""Vision transformers of shared weights."""

from __future__ import annotations

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import BadInput
from nas.rng import stream
from nas.spaces.vit import Patches, VitSpace

SMALL = {
    "embed_dims": (4, 8),
    "heads": (1, 2),
    "head_size": 4,
    "mlp_ratios": (1, 2),
    "least_depth": 1,
    "depth": 2,
    "input_shape": (1, 8, 8),
    "classes": 3,
}


@pytest.fixture
def space():
    return VitSpace(**SMALL)


def params(module):
    return sum(p.numel() for p in module.parameters())


def chosen(space, width, *layers):
    choices = {"embed_dim": width, "layer.count": len(layers)}
    for i, (heads, ratio) in enumerate(layers):
        choices |= {f"layer.{i}.heads": heads, f"layer.{i}.mlp_ratio": ratio}
    return space.architecture(choices)


def test_the_default_space_counts_its_networks():
    assert VitSpace().size == 3 * (12**3 + 12**4 + 12**5 + 12**6)


def test_parameters_counted_by_hand(space):
    # patches 16*4+4, positions 4*4, final norm 8, classifier 4*3+3
    around = 68 + 16 + 8 + 15
    # norms 8+8, queries to values 4*12+12, mixed 4*4+4, MLP 4*8+8 and 8*4+4
    layer = 16 + 60 + 20 + 40 + 36
    assert params(space.build(chosen(space, 4, (1, 2)))) == around + layer
    assert params(space.build(chosen(space, 4, (1, 2), (1, 2)))) == around + 2 * layer


def test_every_path_is_its_network(space):
    supernet = space.supernet().eval()
    x = torch.randn(3, 1, 8, 8)
    assert space.size == 2 * (4 + 16)
    for a in space.enumerate():
        built, path = space.build(a), supernet.path(a)
        assert params(built) == params(path)
        built.load_state_dict(path.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(built.eval()(x), supernet(x, a))


def test_small_networks_are_prefixes_of_large_ones(space):
    supernet = space.supernet()
    small = supernet.path(chosen(space, 4, (1, 1))).state_dict()
    large = supernet.path(chosen(space, 8, (2, 2), (2, 2))).state_dict()
    assert set(small) < set(large)
    for name, tensor in small.items():
        whole = large[name]
        if "qkv" in name:  # the first head of queries, of keys and of values
            tensor, whole = tensor.unflatten(0, (3, -1)), whole.unflatten(0, (3, -1))
        assert torch.equal(tensor, whole[tuple(slice(n) for n in tensor.shape)]), name


def test_a_step_of_a_small_network_leaves_the_rest_alone(space):
    supernet = space.supernet()
    before = {name: p.detach().clone() for name, p in supernet.module.named_parameters()}
    supernet(torch.randn(4, 1, 8, 8), chosen(space, 4, (1, 1))).square().sum().backward()
    torch.optim.SGD(supernet.parameters(), lr=0.1).step()
    after = dict(supernet.module.named_parameters())
    first, second = "3.layers.0.1.branch.1.0.weight", "3.layers.1.1.branch.1.0.weight"
    changed = after[first] != before[first]
    assert changed[:4, :4].all()
    assert not changed[4:].any()
    assert not changed[:, 4:].any()
    assert torch.equal(after[second], before[second])


def test_patches_keep_rows_together():
    x = torch.arange(2.0 * 4 * 4).view(1, 2, 4, 4)
    patches = Patches(2)(x)
    assert patches.shape == (1, 4, 8)
    assert patches[0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]


def test_order_of_patches_matters(space):
    torch.manual_seed(0)
    module = space.build(space.sample(stream(0))).eval()
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        assert not torch.allclose(module(x), module(x.roll(4, dims=2)), atol=1e-6)


def test_candidates_from_elsewhere_are_refused(space):
    supernet = space.supernet()
    a = dict(chosen(space, 4, (1, 1)))
    with pytest.raises(BadInput, match="embed_dim must be one of 4, 8, got 6"):
        supernet(torch.zeros(1, 1, 8, 8), Architecture({**a, "embed_dim": 6}))
    with pytest.raises(BadInput, match=r"an architecture must choose layer\.0\.heads"):
        supernet(torch.zeros(1, 1, 8, 8), Architecture({"embed_dim": 4, "layer.count": 1}))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patch": 3}, r"patch must divide the sides of an image, \(8, 8\), got 3"),
        ({"heads": (2, 1)}, "heads must list distinct whole numbers in ascending order"),
        ({"least_depth": 3}, r"least_depth must be a whole number in \[1, 2\]"),
        ({"head_size": 0}, "head_size must be a whole number"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        VitSpace(**{**SMALL, **settings})
