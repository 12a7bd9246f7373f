from __future__ import annotations

import pytest
import torch
from torch import nn

import nas
from nas.errors import BadInput, UnknownMetric
from nas.estimators.latency_predicted import LatencyPredicted
from nas.kernels.models import SHIPPED
from nas.proposal import Measurement, Proposal
from nas.registry import create
from nas.tasks.digits import Digits

TASK = Digits(limit=50)
BUILT = []


class Net(nn.Module):
    def __init__(self, width: int, odd: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        self.odd = odd

    def forward(self, x):
        y = self.body(x)
        return torch.cumsum(y, 1) if self.odd == "cumsum" else y


class Nets(nas.Space):
    decisions = (nas.Categorical("width", (64, 4096)), nas.Categorical("odd", ("none", "cumsum")))

    def build(self, a):
        BUILT.append(a)
        return Net(a["width"], a["odd"])


SPACE = Nets()
ALL = ("latency_ms", "latency_ms_low", "latency_ms_high", "latency_coverage", "peak_bytes")


def evaluator(target="t4", space=SPACE, **settings):
    batch = settings.pop("batch_size", 64)
    return LatencyPredicted(space, TASK, create("target", {"name": target, "batch_size": batch}), **settings)


def predict(subject, width=64, odd="none", metrics=ALL) -> Measurement:
    (outcome,) = subject.evaluate(
        [Proposal(SPACE.architecture({"width": width, "odd": odd}), metrics)], seed=0
    )
    return outcome


def test_wider_networks_larger_batches_and_older_devices_take_longer():
    base = predict(evaluator()).values
    assert predict(evaluator(), 4096).values["latency_ms"] > base["latency_ms"]
    large = predict(evaluator(batch_size=4096), 4096).values["latency_ms"]
    assert large > 5 * predict(evaluator(), 4096).values["latency_ms"]
    assert predict(evaluator("a100", batch_size=4096), 4096).values["latency_ms"] < large
    assert base["latency_ms_low"] < base["latency_ms"] < base["latency_ms_high"]
    assert base["peak_bytes"] > 4 * (64 * 64 + 64 * 10)


def test_kernels_are_counted_and_timings_stand_behind_them():
    outcome = predict(evaluator())
    assert outcome.notes == {"kernels": 3, "unknown": []}
    assert 0 < outcome.values["latency_coverage"] <= 1


def test_what_has_no_timings_is_named_or_refused():
    known, outcome = predict(evaluator()), predict(evaluator(), odd="cumsum")
    assert outcome.notes["unknown"] == ["cumsum"]
    assert outcome.values["latency_coverage"] < known.values["latency_coverage"]
    assert outcome.values["latency_ms"] > known.values["latency_ms"]
    with pytest.raises(BadInput, match=r"have timings, got 'cumsum'; set unknown: roofline"):
        predict(evaluator(unknown="error"), odd="cumsum")
    assert predict(evaluator(unknown="error")).values == known.values


def test_a_target_without_timings_has_the_roofline_and_a_wide_band():
    assert "h100" not in SHIPPED
    values = predict(evaluator("h100")).values
    assert values["latency_coverage"] == 0
    assert values["latency_ms_high"] == pytest.approx(3 * values["latency_ms"])
    with pytest.raises(BadInput, match="peak rates"):
        evaluator("host")


def test_a_candidate_is_traced_once():
    subject = evaluator()
    BUILT.clear()
    first, second = predict(subject), predict(subject, metrics=("latency_ms",))
    assert len(BUILT) == 1
    assert first.values["latency_ms"] == second.values["latency_ms"]


def test_bad_settings():
    for settings, text in (
        ({"unknown": "skip"}, "unknown must be one of roofline, error"),
        ({"level": 1.0}, "level must lie between 0 and 1"),
        ({"op_models": "none.npz"}, "be an .npz file"),
    ):
        with pytest.raises(BadInput, match=text):
            evaluator(**settings)
    with pytest.raises(UnknownMetric):
        predict(evaluator(), metrics=("energy_mj",))
