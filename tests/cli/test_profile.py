"""``nas profile`` and ``nas front --measure``."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from torch import nn

from nas.decision import Integer
from nas.errors import BadInput
from nas.kernels.op_table import OpTable
from nas.kernels.session import Patience
from nas.kernels.timing import Timer
from nas.profiling import profile as module
from nas.profiling.nets import Source
from nas.profiling.profile import Plan, plan_of, profile
from nas.space import Space
from nas.target import Target, host, of_file

TINY = Plan(
    ops=60, adaptive=4, nets=9, passes=2, anchors=2,
    timer=Timer(warmup=1, readings=2, seconds=0.001), net_timer=Timer(warmup=1, readings=2, seconds=0.001),
)  # fmt: skip
LOOSE = Patience(drift=1e6, wait=0.0)


@pytest.fixture
def _tiny(monkeypatch):
    """Few networks of one small space, and a plan that takes seconds."""
    monkeypatch.setattr(module, "SEEN", 10)
    monkeypatch.setitem(module.PLANS, "quick", TINY)
    monkeypatch.setattr(module, "default_sources", _sources)


def _sources():
    return [Source("chain", Chain(), (64,))]


class Chain(Space):
    """Two kinds of operations, so that two models are fitted."""

    decisions = (Integer("depth", 1, 4), Integer("width", 8, 64))

    def build(self, a):
        sizes = [64, *[a["width"]] * a["depth"]]
        pairs = pairwise(sizes)
        return nn.Sequential(*[m for i, o in pairs for m in (nn.Linear(i, o), nn.ReLU())])


@pytest.mark.usefixtures("_tiny")
def test_the_host_is_measured_and_predicted_by_its_own_target(nas):
    answer = nas("profile", "--out", "here", "--max-drift", 1e6, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["target"] == "here/target.yaml"
    assert found["rows"] >= 60
    assert found["nets"] == 9
    assert set(found["errors"]) >= {"linear/linear"}
    table = OpTable.load(nas.folder / "here" / "ops.csv.gz", "host")
    assert {"versions", "cores", "script", "date", "seed", "processor_share"} <= set(table.notes)
    nas.write("search.yaml", "space: mlp\ntask: {name: digits, limit: 60}\ntarget: ./here/target.yaml\n"
              "objectives: [min latency_ms, min params]\nevaluators: [latency_predicted]\nstrategy: random\n"
              "budget: {trials: 3}\n")  # fmt: skip
    assert nas("search", "search.yaml", "--out", "run").code == 0
    for name in ("target.yaml", "models.npz", "models.json"):
        assert (nas.folder / "run" / "sources" / name).is_file()
    for path in (nas.folder / "here").iterdir():
        path.unlink()
    front = json.loads(nas("front", "run", "--json").out)  # the run has copies of its own
    assert all(0 < m["values"]["latency_ms"] < 100 for m in front["members"])
    assert "latency_ms" not in front.get("bands", {})


@pytest.mark.usefixtures("_tiny")
def test_a_finished_profile_is_not_measured_again(tmp_path, monkeypatch):
    first = profile(host(), TINY, tmp_path, patience=LOOSE)
    rows = (tmp_path / "session_ops.csv").read_text()
    again = profile(host(), TINY, tmp_path, patience=LOOSE)
    assert (tmp_path / "session_ops.csv").read_text() == rows
    assert (again.rows, again.nets, again.errors) == (first.rows, first.nets, first.errors)
    with pytest.raises(BadInput, match="seed must be 3, got 0"):
        profile(host(), TINY, tmp_path, seed=3, patience=LOOSE)


@pytest.mark.usefixtures("_tiny")
def test_onnxruntime_is_a_backend_too(tmp_path):
    pytest.importorskip("onnxruntime")
    found = profile(
        replace(host(), backend="onnxruntime"), replace(TINY, adaptive=0), tmp_path, patience=LOOSE
    )
    target = of_file(found.target)()
    assert (target.backend, target.provenance, target.device) == ("onnxruntime", "calibrated", "cpu")


def test_what_is_not_here_is_not_profiled(tmp_path, nas):
    board = Target("board", "elsewhere", peak_flops={"float32": 1e9}, bandwidth=1e9)
    with pytest.raises(
        BadInput, match=r"be this machine to be profiled.*nas profile --pack DIR --target board"
    ):
        profile(board, TINY, tmp_path)
    answer = nas("profile", "--dtype", "int4")
    assert answer.code == 2
    assert "target.dtype must be one of float32" in answer.err
    answer = nas("profile", "--target", "raspberry_pi_4", "--dtype", "float16")
    assert answer.code == 2
    assert "on raspberry_pi_4, got 'float16'" in answer.err
    assert nas("profile", "--plan", "huge").code == 2
    assert nas("profile", "--backend", "tensorflow").code == 2


def test_a_drift_that_cannot_be_is_refused(nas):
    answer = nas("profile", "--max-drift", 0)
    assert answer.code == 2
    assert "drift must be above 0" in answer.err


def test_plans_have_names():
    assert plan_of("full").ops > plan_of("quick").ops
    with pytest.raises(BadInput, match="unknown plan 'fast'"):
        plan_of("fast")


def test_a_pack_comes_back_as_a_calibrated_target(nas):
    pytest.importorskip("onnxruntime")
    from nas.profiling import measure as program

    nas.write("own.yaml", "space: mlp\ntask: {name: digits, limit: 60}\nobjectives: [min params]\n")
    answer = nas("profile", "--pack", "pi", "--target", "raspberry_pi_4", "--nets", 3, "--config", "own.yaml")
    assert answer.code == 0, answer.err
    assert "python3 measure.py" in answer.out
    folder = nas.folder / "pi"
    manifest = program.checked(folder)
    assert len(manifest["nets"]) == 3
    result = {
        "schema": 1, "manifest": program.sha256(folder / "manifest.json"), "target": "raspberry_pi_4",
        "date": "2020-01-01T00:00:00Z", "machine": {"processor": "A72"}, "versions": {}, "drift": 0.0,
        "nets": {net["name"]: {"median_ms": 1.0 + i} for i, net in enumerate(manifest["nets"])},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    answer = nas("profile", "--import", "pi/result.json", "--target", "raspberry_pi_4", "--out", "calibrated")
    assert answer.code == 0, answer.err
    target = of_file(nas.folder / "calibrated" / "target.yaml")()
    assert (target.name, target.provenance) == ("raspberry_pi_4", "calibrated")
    answer = nas("profile", "--import", "pi/result.json", "--target", "raspberry_pi_5")
    assert answer.code == 2
    assert "target must be raspberry_pi_5, got 'raspberry_pi_4'" in answer.err


def test_a_host_that_ssh_does_not_reach_is_said(nas, monkeypatch):
    pytest.importorskip("onnxruntime")
    nas.write("own.yaml", "space: mlp\ntask: {name: digits, limit: 60}\nobjectives: [min params]\n")
    monkeypatch.setenv("PATH", str(nas.folder))  # there is no ssh
    answer = nas("profile", "--pack", "p", "--nets", 1, "--config", "own.yaml", "--over", "ssh://me@nowhere")
    assert answer.code == 1
    assert "measuring over ssh on me@nowhere failed" in answer.err
    assert "run 'python3 measure.py' in it" in answer.err


def test_the_front_is_measured_again(quick):
    members = json.loads(quick("front", "run", "--measure", "--json").out)["members"]
    assert all(0 < member["measured"]["latency_ms"] < 1000 for member in members)
    assert "measured latency_ms" in quick("front", "run", "--measure").out


def test_the_front_is_packed(quick):
    pytest.importorskip("onnxruntime")
    answer = quick("front", "run", "--measure", "--pack", "there")
    assert answer.code == 0, answer.err
    manifest = json.loads((quick.folder / "there" / "manifest.json").read_text())
    trials = {m["trial"] for m in json.loads(quick("front", "run", "--json").out)["members"]}
    assert {net["name"] for net in manifest["nets"]} == {f"trial_{t:04d}" for t in trials}
