from __future__ import annotations

import numpy as np
import pytest

from nas.errors import BadInput
from nas.kernels.features import features
from nas.kernels.hull import FADE, Hull
from nas.kernels.op import Op
from nas.kernels.roofline import Rates, roofline_ms
from nas.target import Target

RATES = Rates(1e12, 1e11, 10, 2**20)


def linear(rows, ins, outs):
    flops, moved = 2.0 * rows * ins * outs, (4.0 * rows * ins, 4.0 * ins * outs, 4.0 * rows * outs)
    return Op("linear", "linear", (rows, ins, outs), "float32", flops, *moved)


def relu(elements):
    return Op("pointwise", "relu", (elements, 1), "float32", elements, 4.0 * elements, 0.0, 4.0 * elements)


def test_the_slower_of_computing_and_moving_counts():
    compute_bound, memory_bound = linear(1000, 1000, 1000), relu(10**6)
    np.testing.assert_allclose(roofline_ms([compute_bound], RATES), 2.0)  # 2e9 FLOPs at 1e12 a second
    np.testing.assert_allclose(roofline_ms([memory_bound], RATES), 0.08)  # 8e6 bytes at 1e11 a second


def test_an_operation_that_moves_nothing_still_has_a_roofline():
    nothing = Op("other", "nothing", (0,), "float32", 0.0, 0.0, 0.0, 0.0)
    assert roofline_ms([nothing], RATES)[0] > 0


def test_rates_come_from_the_target_and_its_dtype():
    target = Target("t", dtype="float16", peak_flops={"float16": 5e12}, bandwidth=1e11, multiprocessors=4)
    assert Rates.of_target(target) == Rates(5e12, 1e11, 4, 2**20)
    with pytest.raises(BadInput, match="peak rates for float32"):
        Rates.of_target(Target())
    with pytest.raises(BadInput, match="bandwidth"):
        Rates(1e12, 0.0)


def test_features_are_finite_for_every_family_and_of_one_family():
    from nas.kernels.op import FAMILIES

    for family, attributes in FAMILIES.items():
        ops = [Op(family, "x", (n,) * len(attributes), "float32", 0.0, 4.0, 0.0, 4.0) for n in (1, 2)]
        names, x = features(ops, RATES)
        assert len(set(names)) == len(names) == x.shape[1]
        assert np.isfinite(x).all(), family
    with pytest.raises(BadInput, match="one family"):
        features([relu(4), linear(1, 2, 3)], RATES)


def test_tiles_that_fill_one_more_round_cost_efficiency():
    names, x = features([linear(1280, 64, 128), linear(1281, 64, 128)], RATES)
    column = x[:, names.index("efficiency 128x128")]
    assert column[0] == 1.0  # ten tiles on ten multiprocessors
    assert column[1] < 0.6


def test_trust_is_whole_inside_and_fades_outside():
    hull = Hull.around([linear(10, 10, 10), linear(100, 100, 100)])
    inside, near, far = hull.trust([linear(50, 20, 70), linear(120, 100, 100), linear(10**4, 100, 100)])
    assert inside == 1.0
    assert 0.3 < near < 1.0
    assert far < np.exp(-1 / FADE)
