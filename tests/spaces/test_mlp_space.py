"""The space of perceptrons."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas.errors import BadInput
from nas.spaces.mlp import MlpSpace

SPACE = MlpSpace(input_shape=(1, 8, 8), classes=10)
TWO = {"layer.count": 2, "layer.0.width": 32, "layer.1.width": 16, "activation": "gelu", "norm": "none"}


def kinds(module):
    return [type(m) for m in module]


def test_the_place_of_the_norm_is_chosen_only_where_there_is_one():
    assert "norm_place" not in SPACE.architecture({**TWO, "norm_place": "after"})
    assert SPACE.architecture({**TWO, "norm": "batch", "norm_place": "after"})["norm_place"] == "after"
    with pytest.raises(BadInput, match="an architecture must choose norm_place"):
        SPACE.architecture({**TWO, "norm": "layer"})


def test_widths_of_layers_that_are_not_there_vanish():
    one = SPACE.architecture({**TWO, "layer.count": 1})
    assert "layer.1.width" not in one
    assert SPACE.size == (5 + 5**2 + 5**3 + 5**4) * 4 * (1 + 2 * 2)


def test_modules_stand_in_the_chosen_order():
    plain = SPACE.build(SPACE.architecture(TWO))
    assert kinds(plain) == [nn.Flatten, nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    assert [(m.in_features, m.out_features) for m in plain if isinstance(m, nn.Linear)] == [
        (64, 32), (32, 16), (16, 10),
    ]  # fmt: skip
    before = SPACE.architecture({**TWO, "layer.count": 1, "norm": "batch", "norm_place": "before"})
    after = SPACE.architecture({**TWO, "layer.count": 1, "norm": "layer", "norm_place": "after"})
    assert kinds(SPACE.build(before))[1:4] == [nn.Linear, nn.BatchNorm1d, nn.GELU]
    assert kinds(SPACE.build(after))[1:4] == [nn.Linear, nn.GELU, nn.LayerNorm]


def test_inputs_of_any_shape_are_flattened():
    for shape in [(6,), (2, 3), (1, 2, 3, 1)]:
        space = MlpSpace(input_shape=shape, classes=2)
        assert space.build(space.architecture(TWO))(torch.randn(3, *shape)).shape == (3, 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": 0}, r"layers must be a whole number in \[1, 64\], got 0"),
        ({"widths": "wide"}, "widths must list distinct whole numbers"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        MlpSpace(**settings)
