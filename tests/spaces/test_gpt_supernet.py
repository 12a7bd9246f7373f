"""Decoders of HW-GPT-Bench with shared weights."""

from __future__ import annotations

import pytest
import torch

from nas.spaces.hw_gpt_bench import HwGptBenchSpace


def chosen(space, width, *, bias, heads, ratio, layers):
    choices = {"embed_dim": width, "bias": bias, "layer.count": layers}
    for i in range(layers):
        choices |= {f"layer.{i}.heads": heads, f"layer.{i}.mlp_ratio": ratio}
    return space.architecture(choices)


@pytest.fixture(scope="module")
def space():
    return HwGptBenchSpace(vocabulary=11)


@pytest.fixture(scope="module")
def supernet(space):
    return space.supernet().eval()


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 192, "bias": False, "heads": 4, "ratio": 2, "layers": 10},
        {"width": 384, "bias": True, "heads": 12, "ratio": 3, "layers": 11},
    ],
)
def test_every_path_is_its_decoder(space, supernet, sizes):
    a = chosen(space, sizes.pop("width"), **sizes)
    tokens = torch.arange(10).view(2, 5)
    built = space.build(a).eval()
    built.load_state_dict(supernet.path(a).state_dict())
    with torch.no_grad():
        torch.testing.assert_close(built(tokens), supernet(tokens, a))


def test_small_decoders_are_prefixes_of_large_ones(space, supernet):
    small = supernet.path(chosen(space, 192, bias=False, heads=4, ratio=2, layers=10)).state_dict()
    large = supernet.module.state_dict()
    sizes = {"qkv": (3, 4 * 64), "gate": (1, 384), "mixed": (1, 192)}
    for name, (parts, rows) in sizes.items():
        part, whole = (t.unflatten(0, (parts, -1)) for t in (small[f"3.{name}.weight"], large[_shared(name)]))
        assert part.shape[1] == rows
        assert torch.equal(part, whole[:, :rows, : part.shape[2]])


def _shared(name):
    return f"layers.layers.2.{name}.weight"
