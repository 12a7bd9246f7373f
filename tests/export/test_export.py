from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from nas.architecture import Architecture
from nas.errors import BadInput
from nas.export import pt2
from nas.export.bundle import Bundle, write_whole
from nas.export.json_format import export_json
from nas.export.pt2 import ParityError, export_pt2


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
        )
    return net.eval()


def bundle(module=None, batch=2, **changes) -> Bundle:
    fields = {
        "name": "best",
        "architecture": Architecture({"width": 4, "norm": "batch"}),
        "values": {"accuracy": 0.75, "latency_ms": float("nan")},
        "module": module or network(),
        "example": torch.linspace(-1, 1, batch * 64).reshape(batch, 1, 8, 8),
        "provenance": {"seed": 0, "trial": 3},
    }
    return Bundle(**{**fields, **changes})


def test_json_says_everything(tmp_path):
    b = bundle()
    facts, weights = export_json(b, tmp_path / "out")
    content = json.loads(facts.read_text())
    assert content == {
        "name": "best",
        "architecture": {"width": 4, "norm": "batch"},
        "metrics": {"accuracy": 0.75, "latency_ms": None},
        "provenance": {"seed": 0, "trial": 3},
        "files": [{"file": "best.pt", "bytes": weights.stat().st_size, "holds": "state dict"}],
    }
    other = network()
    nn.init.zeros_(other[4].weight)
    other.load_state_dict(torch.load(weights, weights_only=True))
    assert torch.equal(other(b.example), b.module(b.example))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["best.json", "best.pt"]


@pytest.mark.parametrize("batch", [1, 2])
def test_the_program_computes_what_the_module_does(tmp_path, batch):
    b = bundle(batch=batch)
    program, report = export_pt2(b, tmp_path)
    content = json.loads(report.read_text())
    assert content["file"] == "best.pt2"
    assert content["bytes"] == program.stat().st_size
    assert content["dynamic_batch"] is True
    assert content["input_shape"] == [batch, 1, 8, 8]
    run = torch.export.load(program).module()
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    difference = float((run(x) - b.module(x)).detach().abs().max())
    assert difference <= 1e-5
    assert 0.0 <= content["max_difference"] <= 1e-5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt2", "best.pt2.json"]


class Stuck(nn.Module):
    """Allows one batch size only."""

    def forward(self, x):
        return x.reshape(2, 64) * 2


def test_a_fixed_batch_where_no_other_is_possible(tmp_path):
    program, report = export_pt2(bundle(Stuck().eval()), tmp_path)
    assert json.loads(report.read_text())["dynamic_batch"] is False
    x = torch.ones(2, 1, 8, 8)
    assert torch.equal(torch.export.load(program).module()(x), torch.full((2, 64), 2.0))


def test_a_program_that_differs_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    other = network()
    other[4].bias.data += 0.01
    wrong = torch.export.export(other, (torch.zeros(2, 1, 8, 8),))
    monkeypatch.setattr(pt2, "_exported", lambda _: (wrong, False))
    with pytest.raises(ParityError, match=r"got a difference of 0\.01"):
        export_pt2(bundle(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, lambda partial: partial.write_text("whole"))

    def fail(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "whole"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../best"}, "bundle.name must"),
        ({"name": ""}, "bundle.name must"),
        ({"module": nn.Linear(2, 2)}, "bundle.module must be in evaluation mode"),
        ({"example": torch.zeros(0, 1, 8, 8)}, "bundle.example must hold at least one sample"),
    ],
)
def test_bad_bundles(changes, message):
    with pytest.raises(BadInput, match=message):
        bundle(**changes)
