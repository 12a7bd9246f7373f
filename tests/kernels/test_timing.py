from __future__ import annotations

import gc

import pytest

from nas.errors import BadInput
from nas.kernels.timing import LEAST_MS, Timer, Timing


class Fake:
    """A clock that only calls move."""

    def __init__(self, *costs):
        self.now, self.calls, self.costs = 0.0, 0, costs

    def __call__(self):
        return self.now

    def call(self):
        self.now += self.costs[min(self.calls, len(self.costs) - 1)]
        self.calls += 1


def test_a_steady_call_takes_what_it_takes():
    fake = Fake(0.002)
    found = Timer(clock=fake)(fake.call)
    assert found.median_ms == pytest.approx(2.0)
    assert found.p10_ms == pytest.approx(found.p90_ms)


def test_warming_up_is_not_timed():
    fake = Fake(0.5, 0.5, 0.5, 0.001)
    assert Timer(warmup=3, clock=fake)(fake.call).p90_ms == pytest.approx(1.0)


def test_a_fast_call_is_repeated_within_a_reading():
    fake = Fake(1e-6)
    found = Timer(readings=10, clock=fake)(fake.call)
    assert found.median_ms == pytest.approx(1e-3)
    assert found.runs >= 10 * 50


def test_a_slow_call_is_stopped_by_the_time_limit():
    fake = Fake(1.0)
    assert Timer(warmup=1, readings=100, seconds=0.1, clock=fake)(fake.call).runs == 3


def test_blocks_go_on_until_the_median_rests():
    restless = Fake(*[0.001 * 1.05**i for i in range(200)])
    steady = Fake(0.001)
    timer = {"warmup": 1, "readings": 5, "seconds": 0.2}
    assert (
        Timer(**timer, clock=restless)(restless.call).runs
        > Timer(**timer, clock=steady)(steady.call).runs
        == 10
    )


def test_what_is_spent_around_a_call_is_taken_off():
    found = Timing(10.0, 9.0, 14.0, 7).less(2.0, 4)
    assert found == Timing(2.0, 1.75, 3.0, 7)
    assert Timing(1.0, 1.0, 1.0, 1).less(2.0, 4).median_ms == LEAST_MS


def test_nothing_is_collected_meanwhile():
    seen = []
    fake = Fake(0.01)

    def call():
        seen.append(gc.isenabled())
        fake.call()

    Timer(clock=fake)(call)
    assert set(seen) == {False}
    assert gc.isenabled()


@pytest.mark.parametrize("wrong", [{"warmup": 0}, {"readings": 0}, {"tolerance": -1.0}, {"seconds": 0.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(BadInput, match=f"timer.{next(iter(wrong))} must"):
        Timer(**wrong)
