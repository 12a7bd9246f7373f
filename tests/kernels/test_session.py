"""A session that is killed goes on, and one on a machine that does not come to rest gives up."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_plan import linear

from nas.errors import BadInput, Unsupported
from nas.kernels.roofline import Rates
from nas.kernels.session import HEADER, ROWS, Busy, Patience, Session
from nas.kernels.timing import Timer, Timing

RATES = Rates(1e9, 1e9)
ANCHORS = [linear(1, 8, 8), linear(1, 16, 16)]
PLAN = [linear(2, 8 * i, 8) for i in range(1, 11)]
QUICK = Patience(chunk=4, wait=0.0)


class Machine:
    """A runner whose operations take their flops in microseconds, times how slow the machine is."""

    name = "eager"
    versions = {"fake": "1"}  # noqa: RUF012 - a protocol's attribute

    def __init__(self, slow=lambda _: 1.0, dies_at=None, share=1.0):
        self.slow, self.dies_at, self.share = slow, dies_at, share
        self.timed, self.now = [], 0.0

    def op(self, op, seed, timer):
        if op.shape[1] == 24:
            raise Unsupported("no call is known")
        if self.dies_at is not None and len(self.timed) >= self.dies_at:
            raise KeyboardInterrupt
        self.timed.append(op)
        self.now += 1.0
        ms = op.flops / 1e3 * self.slow(len(self.timed))
        return Timing(ms, 0.9 * ms, 1.2 * ms, 5)

    @property
    def clocks(self):
        return lambda: self.now, lambda: self.share * self.now


def session(folder, machine, patience=QUICK, **settings):
    asked = {"device": "toy", "seed": 0, **settings}
    return Session(folder, machine, RATES, asked, ANCHORS, Timer(), patience, machine.clocks)


def times(s):
    table = s.table(device="toy", dtype="float32", notes={})
    return dict(zip(table.ops, table.median_ms.tolist(), strict=True))


def nothing(done, of):
    pass


def test_rows_are_what_the_clock_said(tmp_path):
    s = session(tmp_path, Machine())
    s.time_ops(PLAN, "first", nothing)
    assert times(s) == {op: pytest.approx(op.flops / 1e3) for op in PLAN if op.shape[1] != 24}
    assert list(s.skipped) == ["linear/linear"]
    assert s.repeated == 0


def test_a_killed_session_goes_on_where_it_was(tmp_path):
    first = Machine(dies_at=4 + 4 + 4 + 4 + 2)  # in the second chunk
    with pytest.raises(KeyboardInterrupt):
        session(tmp_path, first).time_ops(PLAN, "first", nothing)
    second = Machine()
    s = session(tmp_path, second)
    assert 0 < len(times(s)) < 9
    kept = set(times(s))
    s.time_ops(PLAN, "first", nothing)
    assert len(times(s)) == 9
    assert not kept & set(second.timed)


def test_a_line_that_was_cut_off_is_timed_again(tmp_path):
    session(tmp_path, Machine()).time_ops(PLAN, "first", nothing)
    path = tmp_path / ROWS
    path.write_text(path.read_text()[:-9])
    s = session(tmp_path, Machine())
    assert len(times(s)) == 8
    s.time_ops(PLAN, "first", nothing)
    assert len(times(s)) == 9


def test_parts_have_rows_of_their_own(tmp_path):
    s = session(tmp_path, Machine())
    s.time_ops(PLAN[:2], "first", nothing)
    s.time_ops(PLAN[4:5], "around", nothing)
    assert s.table("around", device="toy", dtype="float32", notes={}).ops == tuple(PLAN[4:5])


def test_slow_but_steady_is_scaled_to_the_first_speed(tmp_path):
    steady = Machine(slow=lambda calls: 1.0 if calls <= 8 else 3.0)  # after the reference and the first look
    s = session(tmp_path, steady, Patience(drift=10.0, wait=0.0, chunk=2))
    s.time_ops(PLAN[4:10], "first", nothing)
    found = times(s)
    for op in PLAN[6:10]:  # the first part saw both speeds
        assert found[op] == pytest.approx(op.flops / 1e3)


def test_drift_is_said_and_the_part_is_timed_again(tmp_path, caplog):
    once = Machine(slow=lambda calls: 1.5 if 9 <= calls <= 16 else 1.0)
    s = session(tmp_path, once)
    s.time_ops(PLAN, "first", nothing)
    assert s.repeated == 1
    assert "the machine drifts: anchors changed by 50%" in caplog.text
    assert times(s) == {op: pytest.approx(op.flops / 1e3) for op in PLAN if op.shape[1] != 24}


def test_a_machine_that_drifts_on_is_given_up_with_the_reason(tmp_path):
    s = session(tmp_path, Machine(slow=lambda calls: 1.05**calls))
    with pytest.raises(Busy, match=r"the machine drifts.*in 3 tries; stop other programs.*--max-drift"):
        s.time_ops(PLAN, "first", nothing)
    assert times(s) == {}


def test_a_machine_that_does_something_else_is_given_up(tmp_path):
    s = session(tmp_path, Machine(share=0.5))
    with pytest.raises(Busy, match="got its processor for 50% of the time"):
        s.time_ops(PLAN, "first", nothing)


def test_what_is_allowed_is_not_complained_of(tmp_path):
    s = session(tmp_path, Machine(share=0.5), Patience(drift=0.3, wait=0.0))
    s.time_ops(PLAN, "first", nothing)
    assert len(times(s)) == 9
    assert min(s.shares) == pytest.approx(0.5)


def test_networks_are_timed_in_turn(tmp_path):
    machine, order = Machine(), []
    s = session(tmp_path, machine)

    def timer(run):
        machine.now += 1.0
        return Timing(run(), 1.0, 2.0, 3)

    values = {"a": iter([5.0, 1.0, 2.0]), "b": iter([7.0, 7.0, 8.0])}
    nets = {name: lambda name=name: order.append(name) or next(values[name]) for name in values}
    found = s.time_nets(nets, 3, timer, nothing)
    assert order == ["a", "b"] * 3
    assert (found["a"].median_ms, found["b"].median_ms) == (2.0, 7.0)
    again = session(tmp_path, machine).time_nets(dict.fromkeys(nets), 3, timer, nothing)
    assert again == found  # nothing is run


def test_a_session_of_other_settings_is_not_continued(tmp_path):
    session(tmp_path, Machine()).time_ops(PLAN[:2], "first", nothing)
    with pytest.raises(BadInput, match=r"seed must be 1, got 0; continue with those settings"):
        session(tmp_path, Machine(), seed=1)
    with pytest.raises(BadInput, match="device must be 'other', got 'toy'"):
        session(tmp_path, Machine(), device="other")


def test_a_session_of_another_schema_is_not_continued(tmp_path):
    session(tmp_path, Machine())
    data = json.loads((tmp_path / HEADER).read_text())
    data["settings"]["schema"] = 99
    (tmp_path / HEADER).write_text(json.dumps(data))
    with pytest.raises(BadInput, match="schema must be 1, got 99"):
        session(tmp_path, Machine())


def test_the_table_says_where_it_is_from(tmp_path):
    s = session(tmp_path, Machine())
    s.time_ops(PLAN[:2], "first", nothing)
    table = s.table(device="toy", dtype="float32", notes={"seed": 7})
    assert (table.device, table.backend, table.mode) == ("toy", "eager", "warm")
    np.testing.assert_allclose(table.p90_ms / table.p10_ms, 1.2 / 0.9)
    table.save(tmp_path / "t.csv.gz")
    assert type(table).load(tmp_path / "t.csv.gz", "toy").notes == {"seed": 7}


@pytest.mark.parametrize("wrong", [{"drift": 0.0}, {"tries": 0}, {"chunk": 0}, {"wait": -1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(BadInput, match=f"{next(iter(wrong))} must be"):
        Patience(**wrong)
