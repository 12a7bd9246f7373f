from __future__ import annotations

import gc
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

import nas
from nas.errors import BadInput, UnknownMetric
from nas.estimators.latency_measured import LatencyMeasured
from nas.proposal import Proposal
from nas.target import Target, host
from nas.tasks.digits import Digits

TASK = Digits(limit=50)


class Sleeper(nn.Module):
    """Takes a known time and notes what it was called with."""

    calls: list = []  # noqa: RUF012

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.linear = nn.Linear(64, 2)

    def forward(self, x):
        time.sleep(self.seconds)
        self.calls.append((tuple(x.shape), x.dtype, torch.get_num_threads(), self.training, gc.isenabled()))
        return self.linear(x.flatten(1))


class Sleepers(nas.Space):
    decisions = (nas.Categorical("ms", (1, 4)),)

    def build(self, architecture):
        return Sleeper(architecture["ms"] / 1e3)


SPACE = Sleepers()


def measure(ms=1, target=None, **settings):
    Sleeper.calls.clear()
    evaluator = LatencyMeasured(SPACE, TASK, target or host(), **settings)
    proposal = Proposal(SPACE.architecture({"ms": ms}), ("latency_ms",))
    (outcome,) = evaluator.evaluate([proposal], seed=0)
    return outcome


def test_a_known_time_is_found():
    one, four = (measure(ms, runs=5, blocks=2) for ms in (1, 4))
    assert 1.0 <= one.values["latency_ms"] < 3.5
    assert 4.0 <= four.values["latency_ms"] < 7.0
    assert one.notes["p10_ms"] <= one.values["latency_ms"] <= one.notes["p90_ms"]
    spread = (one.notes["p90_ms"] - one.notes["p10_ms"]) / one.values["latency_ms"]
    assert one.notes["spread"] == pytest.approx(spread)


def test_it_runs_as_the_target_says_and_restores_the_threads():
    before = torch.get_num_threads()
    measure(runs=2, blocks=1, target=Target(batch_size=3, dtype="bfloat16", threads=2))
    assert set(Sleeper.calls) == {((3, 1, 8, 8), torch.bfloat16, 2, False, False)}
    assert torch.get_num_threads() == before
    assert gc.isenabled()


def test_blocks_go_on_until_the_median_is_stable():
    stable = measure(ms=4, runs=6, warmup=2, tolerance=1e9, blocks=9)
    assert stable.notes["runs"] == 12  # a second block confirms the first
    assert len(Sleeper.calls) == 14
    restless = measure(ms=4, runs=6, tolerance=0.0, blocks=3)
    assert restless.notes["runs"] <= 18


def test_fast_models_are_timed_more_often():
    assert measure(ms=1, runs=1, warmup=0, blocks=1).notes["runs"] > 5


def test_time_is_limited():
    assert measure(ms=4, runs=1000, warmup=0, seconds=0.02).notes["runs"] <= 6
    assert measure(ms=4, runs=1000, warmup=0, seconds=1e-9).notes["runs"] == 1


class Counting:
    calls = 0

    def __init__(self, forward):
        self._forward = forward

    def __get__(self, module, kind):
        def forward(x):
            self.calls += 1
            return self._forward(module, x)

        return forward


class Chains(nas.Space):
    decisions = (nas.Integer("layers", 1, 8),)

    def build(self, architecture):
        layers = [nn.Linear(512, 512) for _ in range(architecture["layers"])]
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 512), *layers)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_it_runs_on_the_targets_backend(backend, monkeypatch):
    pytest.importorskip(backend)
    pytest.importorskip("onnx")
    evaluator = LatencyMeasured(Chains(), TASK, replace(host(), backend=backend), runs=3, blocks=1)
    monkeypatch.setattr(nn.Linear, "forward", count := Counting(nn.Linear.forward))
    found = []
    for layers in (1, 8):
        proposal = Proposal(Chains().architecture({"layers": layers}), ("latency_ms",))
        found += evaluator.evaluate([proposal], seed=0)
    one, eight = (outcome.values["latency_ms"] for outcome in found)
    assert eight > 2 * one
    assert count.calls <= 4 * (2 + 9)  # to export it, not to time it
    with pytest.raises(BadInput, match="unknown backend to time 'tensorrt'"):
        LatencyMeasured(SPACE, TASK, replace(host(), backend="tensorrt"))


def test_what_it_declares():
    evaluator = LatencyMeasured(SPACE, TASK, host())
    ends = {"latency_ms_low", "latency_ms_high"}
    assert evaluator.metrics == evaluator.measured == {"latency_ms", *ends}
    (outcome,) = evaluator.evaluate(
        [Proposal(SPACE.architecture({"ms": 1}), ("latency_ms", *sorted(ends)))], seed=0
    )
    low, middle, high = (outcome.values[f"latency_ms{end}"] for end in ("_low", "", "_high"))
    assert low <= middle <= high
    assert not evaluator.functional
    assert not evaluator.cheap
    with pytest.raises(UnknownMetric, match="did you mean 'latency_ms'"):
        evaluator.evaluate([Proposal(SPACE.architecture({"ms": 1}), ("latency",))], seed=0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"runs": 0}, "runs must be a whole number of at least 1"),
        ({"warmup": -1}, "warmup must be a whole number of at least 0"),
        ({"blocks": 0}, "blocks must"),
        ({"tolerance": -1.0}, "tolerance must"),
        ({"seconds": 0.0}, "seconds must"),
        ({"target": Target(device="cuda:77")}, "target.device must be a device of this machine"),
        ({"target": Target(device="phone")}, "target.device must be"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(BadInput, match=message):
        measure(**setting)


@pytest.mark.cuda
def test_on_cuda():
    assert measure(ms=1, target=host("cuda:0", "float16")).values["latency_ms"] > 1.0
