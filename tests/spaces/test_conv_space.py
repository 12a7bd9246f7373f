"""The convolutional space: conditions, sizes, strides, and digits learnt in seconds."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from nas.errors import BadInput
from nas.rng import stream
from nas.spaces.conv import ConvSpace, Residual
from nas.spaces.stochastic_depth import StochasticDepth

PLAIN = {"depth": 1, "width": 16, "block": "plain"}
BOTTLENECK = {"depth": 2, "width": 8, "block": "bottleneck", "kernel": 5, "expansion": 2}


def choice(space, *stages, **others):
    values = {"stage.count": len(stages), **others}
    for i, stage in enumerate(stages):
        for name, value in stage.items():
            inner = f"block.bottleneck.{name}" if name in ("kernel", "expansion") else name
            values[f"stage.{i}.{inner}"] = value
    return space.architecture(values)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_default_space_is_large_enough():
    # a stage: 3 depths, 4 widths, plain or 2 kernels x 3 expansions
    stage = 3 * 4 * (1 + 2 * 3)
    assert ConvSpace(input_shape=(1, 8, 8)).size == stage + stage**2 + stage**3
    assert ConvSpace(input_shape=(1, 28, 28)).size == 2 * (stage + stage**2 + stage**3)


def test_models_span_three_orders_of_magnitude():
    space = ConvSpace(input_shape=(1, 8, 8))
    tiny = choice(space, {**BOTTLENECK, "depth": 1, "kernel": 3})
    huge = choice(space, *[{"depth": 3, "width": 20, "block": "plain"}] * 3)
    assert 500 < parameters(space.build(tiny)) < 1_000
    assert 400_000 < parameters(space.build(huge)) < 600_000


def test_inactive_decisions_vanish():
    space = ConvSpace(input_shape=(1, 8, 8))
    one = choice(space, PLAIN)
    assert dict(one) == {
        "stage.count": 1, "stage.0.depth": 1, "stage.0.width": 16, "stage.0.block": "plain",
    }  # fmt: skip
    with_leftovers = space.architecture(
        {
            **one,
            "stage.0.block.bottleneck.kernel": 3,
            "stage.1.depth": 3,
            "stage.1.block": "bottleneck",
        }
    )
    assert with_leftovers == one
    for i in range(50):
        sampled = space.sample(stream(0, i))
        stages = sampled.repeated("stage")
        assert len(stages) == sampled["stage.count"]
        for stage in stages:
            assert ("block.bottleneck.kernel" in stage) == (stage["block"] == "bottleneck")


def test_parameters_by_hand():
    space = ConvSpace(input_shape=(1, 8, 8), classes=10)
    plain = space.build(choice(space, PLAIN))
    assert parameters(plain) == (9 * 16 + 32) + 2 * (9 * 16 * 16 + 32) + (16 * 10 + 10)
    deep = space.build(choice(space, PLAIN, BOTTLENECK))
    first = 16 * 32 + 25 * 32 + 32 * 16 + 2 * (32 + 32 + 16) + (16 * 16 + 32)  # with its shortcut
    second = first - (16 * 16 + 32)
    assert parameters(deep) == parameters(plain) + first + second


def resolutions(module, shape):
    """Height and width after each residual block."""
    seen = []
    for block in module:
        if isinstance(block, Residual):
            block.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[2:])))
    module(torch.randn(2, *shape))
    return seen


def test_each_stage_halves_the_resolution():
    digits = ConvSpace(input_shape=(1, 8, 8), stages=5)
    assert resolutions(digits.build(choice(digits, *[PLAIN] * 5)), (1, 8, 8)) == [
        (8, 8), (4, 4), (2, 2), (1, 1), (1, 1),
    ]  # fmt: skip
    images = ConvSpace(input_shape=(3, 28, 28))
    model = images.build(choice(images, PLAIN, BOTTLENECK, PLAIN, stem_stride=2))
    assert resolutions(model, (3, 28, 28)) == [(14, 14), (7, 7), (7, 7), (4, 4)]


def test_every_branch_can_be_dropped_and_the_classifier_has_a_dropout():
    space = ConvSpace(input_shape=(1, 8, 8))
    model = space.build(choice(space, PLAIN, BOTTLENECK))
    drops = [m for m in model.modules() if isinstance(m, StochasticDepth)]
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert len(drops) == 3
    assert len(dropouts) == 1
    assert all(m.p == 0.0 for m in (*drops, *dropouts))


@pytest.mark.parametrize(("stage", "signed"), [(PLAIN, False), (BOTTLENECK, True)], ids=["plain", "linear"])
def test_a_block_adds_its_branch_and_only_a_bottleneck_keeps_the_sign(stage, signed):
    space = ConvSpace(input_shape=(1, 8, 8))
    block = next(m for m in space.build(choice(space, stage)) if isinstance(m, Residual))
    x = torch.randn(16, stage["width"], 8, 8)
    with torch.no_grad():
        whole = block.eval()(x)
        total = x + block.branch(x)
        torch.testing.assert_close(whole, total if signed else total.relu())
        block.train()
        block.drop.p = 1 - 1e-9
        assert torch.equal(block(x), x if signed else x.relu())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stages": 0}, r"stages must be a whole number in \[1, 6\], got 0"),
        ({"depth": 1.5}, r"depth must be a whole number in \[1, 16\], got 1.5"),
        ({"widths": (16, 8)}, "widths must list distinct whole numbers in ascending order"),
        ({"widths": (8, 8)}, "widths must list distinct whole numbers in ascending order"),
        ({"widths": ()}, "widths must list distinct whole numbers in ascending order"),
        ({"widths": (0, 8)}, "widths must be a whole number in"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        ConvSpace(**settings)


def test_digits_are_learnt_in_seconds():
    data = load_digits()
    x = torch.tensor(data.images[:, None] / 16.0, dtype=torch.float32)
    y = torch.tensor(data.target)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator)
    train, test = order[:1437], order[1437:]
    space = ConvSpace(input_shape=(1, 8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = space.build(choice(space, PLAIN, {**BOTTLENECK, "width": 12, "depth": 1}))
    epochs, batch = 12, 64
    steps = epochs * -(-len(train) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(epochs):
        for chunk in train[torch.randperm(len(train), generator=generator)].split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chunk]), y[chunk]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        accuracy = (model.eval()(x[test]).argmax(1) == y[test]).float().mean().item()
    assert accuracy > 0.97
