"""Linear maps of several parts, with a choosable bias, and sizes that are products."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.architecture import Architecture
from nas.errors import BadInput
from nas.sharing import ElasticLinear, Product


def following(layer, **choices):
    layer.followed.architecture = Architecture(choices)
    return layer


def test_the_first_outputs_of_every_part_are_used():
    layer = following(ElasticLinear(4, 6, out="out", parts=3), out=3)
    x = torch.randn(2, 4)
    rows = [0, 2, 4]
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight[rows], layer.bias[rows]))
    plain = layer.plain({})
    torch.testing.assert_close(plain(x), layer(x))
    assert plain.weight.shape == (3, 4)


def test_unused_rows_get_no_gradient():
    layer = following(ElasticLinear(4, 6, out="out", parts=3), out=3)
    layer(torch.randn(2, 3)).sum().backward()
    used = layer.weight.grad != 0
    assert used[::2, :3].all()
    assert used.sum() == 9
    assert layer.bias.grad.tolist() == [2, 0, 2, 0, 2, 0]


@pytest.mark.parametrize("biased", [False, True])
def test_the_bias_is_chosen(biased):
    layer = following(ElasticLinear(4, 2, bias="biased"), biased=biased)
    torch.nn.init.ones_(layer.bias)
    assert torch.equal(layer(torch.zeros(1, 4)), torch.full((1, 2), float(biased)))
    plain = layer.plain({})
    assert (plain.bias is not None) == biased
    assert torch.equal(plain(torch.zeros(1, 4)), layer(torch.zeros(1, 4)))


def test_parts_are_equal():
    with pytest.raises(BadInput, match="out_features must be a multiple of its 3 parts, got 4"):
        ElasticLinear(4, 4, parts=3)
    layer = following(ElasticLinear(4, 6, out="out", parts=3), out=4)
    with pytest.raises(BadInput, match="out_features must be a multiple of its 3 parts, got 4"):
        layer(torch.zeros(1, 4))


def test_products_multiply_numbers_decisions_and_rules():
    rule = Product(3, "heads", Product("ratio", 2))
    assert rule(Architecture({"heads": 4, "ratio": 5})) == 120
    assert pickle.loads(pickle.dumps(rule)) == rule
