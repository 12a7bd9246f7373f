from __future__ import annotations

import numpy as np
import pytest

from nas.errors import BadInput
from nas.kernels.op import Op
from nas.kernels.op_table import OpTable
from nas.kernels.plan import FILLER, LEAST, anchors, around, drawn, resized
from nas.kernels.roofline import Rates
from nas.rng import stream


def linear(rows, ins, outs):
    numbers = (4.0 * rows * ins, 4.0 * (ins * outs + outs), 4.0 * rows * outs)
    return Op("linear", "linear", (rows, ins, outs), "float32", 2.0 * rows * ins * outs, *numbers)


def relu(n):
    return Op("pointwise", "relu", (n, 1), "float32", float(n), 4.0 * n, 0.0, 4.0 * n)


SEEN = [linear(1, 8 * i, 16 * j) for i in range(1, 21) for j in range(1, 6)] + [relu(64), relu(64), relu(128)]


def test_a_plan_holds_what_was_seen_and_others_around_it():
    plan = drawn(SEEN, 120, stream(0, "plan"))
    assert len(plan) == len(set(plan))
    seen = [op for op in plan if op in set(SEEN)]
    assert len(seen) >= 60
    assert len(plan) - len(seen) >= 20


def test_every_kind_gets_enough_for_a_model():
    plan = drawn(SEEN, 10, stream(0, "plan"))
    assert sum(op.name == "relu" for op in plan) == LEAST
    assert sum(op.name == "linear" for op in plan) >= LEAST


def test_products_get_most():
    plan = drawn(SEEN, 400, stream(0, "plan"))
    assert sum(op.family == "linear" for op in plan) >= 270


def test_a_plan_is_the_same_again_and_another_with_another_seed():
    assert (
        drawn(SEEN, 90, stream(0, "p")) == drawn(SEEN, 90, stream(0, "p")) != drawn(SEEN, 90, stream(1, "p"))
    )


def test_sizes_stay_within_the_factors():
    rng = stream(0, "sizes")
    found = {resized(linear(1, 100, 200), FILLER, rng).shape for _ in range(200)}
    assert {rows for rows, _, _ in found} == {1}
    ins = [i for _, i, _ in found]
    assert min(ins) >= 40
    assert max(ins) <= 200
    assert max(ins) > 150 > 60 > min(ins)


def test_nothing_seen_is_refused():
    with pytest.raises(BadInput, match="the operations seen must be at least one"):
        drawn([], 10, stream(0, "p"))
    with pytest.raises(BadInput, match="count"):
        drawn(SEEN, 0, stream(0, "p"))


def test_anchors_are_spread_over_sizes():
    found = anchors(SEEN, 3)
    amounts = [op.flops + op.bytes for op in found]
    every = sorted(op.flops + op.bytes for op in SEEN)
    assert amounts == sorted(amounts)
    assert every[10] < amounts[0] < amounts[-1] < every[-10]
    assert anchors(SEEN[:1], 5) == SEEN[:1]


def table(ms):
    ops = tuple(dict.fromkeys(op for op in SEEN if op.family == "linear"))
    times = np.array([ms(op) for op in ops])
    return OpTable(
        "d", "float32", "eager", "warm", Rates(1e9, 1e9), ops, times, times, times, np.zeros(len(ops))
    )


def test_more_is_timed_where_a_model_errs():
    def odd(op):
        slow = 10.0 if op.shape[2] == 48 and op.shape[1] % 16 else 1.0
        return slow * op.flops / 1e6

    found = around(table(odd), 0, 40, stream(0, "a"))
    assert 0 < len(found) <= 40
    near = [op for op in found if 24 <= op.shape[2] <= 58]
    assert len(near) > len(found) / 2
    assert not set(found) & set(SEEN)


def test_nothing_more_is_timed_where_it_is_right():
    assert around(table(lambda op: 2.0 * op.bytes / 1e6), 0, 40, stream(0, "a")) == []
