"""Mobile networks of shared weights."""

from __future__ import annotations

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import BadInput
from nas.rng import stream
from nas.spaces.mobile import MobileSpace

SMALL = {
    "stages": (4, 8),
    "strides": (1, 2),
    "depth": 2,
    "kernels": (3, 5),
    "expansions": (2, 3),
    "resolutions": (6, 8),
    "input_shape": (1, 8, 8),
    "classes": 3,
}


@pytest.fixture
def space():
    return MobileSpace(**SMALL)


def params(module):
    return sum(p.numel() for p in module.parameters())


def chosen(space, side, *stages):
    """An architecture of stages, each its width and then the kernel and expansion of each block."""
    choices = {"resolution": side}
    for i, (width, *blocks) in enumerate(stages):
        choices |= {f"stage.{i}.width": width, f"stage.{i}.block.count": len(blocks)}
        for j, (kernel, expansion) in enumerate(blocks):
            name = f"stage.{i}.block.{j}"
            choices |= {f"{name}.kernel": kernel, f"{name}.expansion": expansion}
    return space.architecture(choices)


def smallest(space):
    return chosen(space, 6, (0.5, (3, 2)), (0.5, (3, 2)))


def largest(space):
    return chosen(space, 8, *[(1.0, (5, 3), (5, 3))] * 2)


def test_the_space_counts_its_networks(space):
    assert space.size == 2 * (3 * (4 + 4**2)) ** 2
    assert MobileSpace().size == 3 * (3 * (9 + 9**2 + 9**3)) ** 4


def test_parameters_counted_by_hand(space):
    stem = 9 * 4 + 8
    first = (4 * 8 + 16) + (9 * 8 + 16) + (8 * 4 + 8)  # 4 channels to 8, kernel 3, to 4
    second = (4 * 12 + 24) + (25 * 12 + 24) + (12 * 4 + 8)  # 4 channels to 12, kernel 5, to 4 of 8
    head = (4 * 32 + 64) + (32 * 3 + 3)
    a = chosen(space, 8, (1.0, (3, 2)), (0.5, (5, 3), (3, 2)))
    assert params(space.build(a)) == stem + first + second + first + head == 1139


def test_paths_are_their_networks(space):
    supernet = space.supernet().eval()
    x = torch.randn(3, 1, 8, 8)
    for a in (smallest(space), largest(space), *(space.sample(stream(i)) for i in range(20))):
        built, path = space.build(a), supernet.path(a)
        assert params(built) == params(path)
        built.load_state_dict(path.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(built.eval()(x), supernet(x, a))


def test_small_networks_are_prefixes_of_large_ones(space):
    supernet = space.supernet()
    small, large = (supernet.path(a).state_dict() for a in (smallest(space), largest(space)))
    assert set(small) < set(large)
    for name, tensor in small.items():
        whole = large[name]
        if tensor.shape[-2:] == (3, 3) and whole.shape[-2:] == (5, 5):
            whole = whole[..., 1:4, 1:4]  # transformations begin as the identity
        assert torch.equal(tensor, whole[tuple(slice(n) for n in tensor.shape)]), name


def test_the_image_is_scaled_and_halved(space):
    supernet = space.supernet()
    for a, side in ((smallest(space), 6), (largest(space), 8)):
        path = supernet.path(a).eval()
        x, heights = torch.zeros(2, 1, 8, 8), []
        for layer in path[:5]:  # resize, stem and its activation, two stages
            x = layer(x)
            heights.append(x.shape[2])
        assert heights == [side, side, side, side, side // 2]


def test_a_step_of_a_small_network_leaves_the_rest_alone(space):
    supernet = space.supernet()
    supernet(torch.randn(4, 1, 8, 8), smallest(space)).square().sum().backward()
    gradients = {name: p.grad for name, p in supernet.module.named_parameters()}
    block = "4.layers.0"
    expand, deep = gradients[f"{block}.0.0.weight"], gradients[f"{block}.2.0.weight"]
    assert expand[:8].abs().sum() > 0
    assert not expand[8:].any()
    assert deep[:8, :, 1:4, 1:4].abs().sum() > 0
    assert not deep[8:].any()
    assert not deep[..., 0].any()
    assert gradients["4.layers.1.branch.0.0.weight"] is None


@pytest.mark.parametrize(
    ("shape", "options"),
    [((3, 32, 32), (24, 28, 32)), ((1, 28, 28), (20, 24, 28)), ((1, 8, 8), (8,)), ((3, 3, 5), (3,))],
)
def test_resolutions_follow_the_images(shape, options):
    assert MobileSpace(input_shape=shape).by_name["resolution"].options == options


def test_width_scales_all_stages():
    assert MobileSpace(width=0.5).channels == (8, 12, 20, 32)
    assert MobileSpace(width=0.01).channels == (4, 4, 4, 4)


def test_candidates_from_elsewhere_are_refused(space):
    supernet = space.supernet()
    with pytest.raises(BadInput, match=r"stage.0.width must be one of 0.5, 0.75, 1.0, got 2.0"):
        supernet(torch.zeros(1, 1, 8, 8), Architecture({**smallest(space), "stage.0.width": 2.0}))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 0}, r"width must lie in \(0, 16\], got 0"),
        ({"strides": (1,)}, r"strides must be as many as stages \(2, at least 1\)"),
        ({"strides": (1, 3)}, r"strides must be a whole number in \[1, 2\], got 3"),
        ({"kernels": (2, 3)}, r"kernels must be odd, got \(2, 3\)"),
        ({"resolutions": (4, 6)}, r"resolutions must end with the height of the images \(8\)"),
        ({"stages": (), "strides": ()}, "strides must be as many as stages"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        MobileSpace(**{**SMALL, **settings})
