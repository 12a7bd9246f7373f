"""Images of a choosable size."""

from __future__ import annotations

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import BadInput
from nas.sharing import ElasticResize


def resized(side):
    layer = ElasticResize(8, 4, out="resolution")
    layer.followed.architecture = Architecture({"resolution": side})
    return layer


@pytest.mark.parametrize(("side", "shape"), [(8, (8, 4)), (6, (6, 3)), (1, (1, 1))])
def test_images_keep_their_proportions(side, shape):
    layer = resized(side)
    x = torch.rand(2, 3, 8, 4)
    y = layer(x)
    assert y.shape == (2, 3, *shape)
    assert torch.equal(layer.plain({})(x), y)


def test_halving_averages_neighbours_and_the_largest_size_changes_nothing():
    x = torch.rand(1, 1, 8, 4)
    torch.testing.assert_close(resized(4)(x), torch.nn.functional.avg_pool2d(x, 2))
    assert resized(8)(x) is x


def test_sizes_beyond_the_images_are_refused():
    with pytest.raises(BadInput, match="resolution must be a whole number from 1 to 8"):
        resized(9)(torch.rand(1, 1, 8, 4))
