from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml
from toys import small_space, trial

import nas
from nas import registry, sources
from nas.cli.show import show_front
from nas.config import search_of, validated
from nas.errors import BadInput, UnknownName
from nas.estimators.latency_measured import LatencyMeasured
from nas.feasibility import limited
from nas.front import Front
from nas.objective import parse_objectives
from nas.parts import Parts, Search
from nas.report.honesty import guesses
from nas.target import DTYPES, ELSEWHERE, Target, of_file
from nas.targets import FOLDER
from nas.tasks.digits import Digits

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))
OWN = """
name: my_board
description: a board on my desk
provenance: calibrated
peak_flops: {float16: 2e12, float32: 1e12}
bandwidth: 5e10
limits: {model_bytes: 4e5}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with ``my_board.yaml``, from which it is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_board.yaml").write_text(OWN, encoding="utf-8")
    return tmp_path


def speed(architecture):
    return {"accuracy": 0.5, "latency_ms": 1.0}


speed.metrics = ("accuracy", "latency_ms")


def parts(target, objectives="max accuracy, min latency_ms < 2", **settings):
    return Parts(Search("mlp", objectives, target=target, task="digits", evaluators=[speed], **settings))


# --- what is shipped --------------------------------------------------------------------------------------


def test_the_machines_that_people_ask_for_are_there():
    asked = "h200 h100 a100 l4 t4 p100 v100 rtx_4090 jetson_agx_orin jetson_orin_nano raspberry_pi_4 "
    asked += "raspberry_pi_5 pixel_4_cpu apple_m1 apple_m2 apple_m4 coral_edge_tpu stm32h7 stm32n6"
    assert set(asked.split()) <= set(SHIPPED)
    assert registry.names("target") == tuple(sorted(["host", *SHIPPED]))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_figure_of_a_shipped_target_has_a_source(name):
    made = registry.create("target", name)
    assert made.name == name
    assert made.provenance == "datasheet"
    assert made.description
    figures = {"peak_flops", "bandwidth", "limits"} & set(
        yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    )
    assert figures <= set(made.sources)
    assert set(made.unsure) <= {f.name for f in fields(Target)} | set(DTYPES)
    assert 1e8 < made.bandwidth < 1e13
    assert all(1e8 < rate < 1e16 for rate in made.peak_flops.values())
    fastest = [made.peak_flops[d] for d in ("float32", "float16", "int8") if d in made.peak_flops]
    assert fastest == sorted(fastest)


def test_a_search_chooses_dtype_batch_and_threads_of_what_the_machine_has():
    chosen = registry.create("target", {"name": "h200", "dtype": "int8", "batch_size": 4, "threads": 2})
    assert (chosen.dtype, chosen.batch_size, chosen.threads, chosen.gpu) == ("int8", 4, 2, "H200")
    with pytest.raises(BadInput, match="dtype must be one of float32 on raspberry_pi_4, got 'float16'"):
        registry.create("target", {"name": "raspberry_pi_4", "dtype": "float16"})
    with pytest.raises(BadInput, match="did you mean 'dtype'"):
        registry.create("target", {"name": "h200", "dtyp": "int8"})
    with pytest.raises(UnknownName, match="did you mean 'h200'"):
        registry.create("target", "h20")


def test_no_target_is_read_before_it_is_named():
    code = "import sys, nas; from nas import registry; registry.names('target'); print('yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- a user's own file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "./my_board.yaml",
        {"name": "./my_board.yaml", "batch_size": 8},
        {"factory": "./my_board.yaml", "batch_size": 8},
    ],
)
def test_an_own_target_is_one_file_beside_the_config(own, spec, monkeypatch):
    monkeypatch.chdir("/")
    made = search_of(validated({"space": "mlp", "target": spec}), own)
    target = Parts(made).target
    assert (target.name, target.dtype, target.device) == ("my_board", "float16", ELSEWHERE)
    assert target.batch_size == (1 if isinstance(spec, str) else 8)


def test_a_run_keeps_its_own_copy_of_the_file(own, tmp_path):
    search = Search("mlp", "max accuracy", target={"name": "./my_board.yaml", "dtype": "float32"}, folder=own)
    run = tmp_path / "run"
    run.mkdir()
    sources.keep(search, run)
    (own / "my_board.yaml").unlink()
    again = Parts(sources.from_run(search, run))
    assert (again.target.name, again.target.dtype) == ("my_board", "float32")
    (own / "my_board.yaml").write_text(OWN.replace("1e12", "9e12"), encoding="utf-8")
    with pytest.raises(BadInput, match="stay as it was when the run began"):
        sources.check_unchanged(search, run)


FAULTS = {
    "a missing field": (OWN.replace("bandwidth: 5e10", ""), "bandwidth must be given"),
    "a misspelled field": (OWN.replace("bandwidth", "bandwith"), "did you mean 'bandwidth'"),
    "a rate in Tflop/s of nothing": (
        OWN.replace("2e12", "0"),
        "peak_flops.float16 must be a positive number",
    ),
    "a rate as text": (OWN.replace("5e10", "50 GB/s"), "bandwidth must be a positive number"),
    "an unknown dtype": (OWN.replace("float16", "float17"), "unknown dtype in my_board.yaml 'float17'"),
    "no dtype": (OWN.replace("{float16: 2e12, float32: 1e12}", "{}"), "peak_flops must map names to numbers"),
    "another provenance": (OWN.replace("calibrated", "guessed"), "provenance must be measured, calibrated"),
    "a chosen setting": (OWN + "batch_size: 4\n", "unknown key of my_board.yaml 'batch_size'"),
    "no mapping": ("- 1\n", "map fields of a target to values"),
    "no YAML": ("a: b: c\n", "my_board.yaml must be valid YAML"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_file_are_named(own, fault):
    text, message = FAULTS[fault]
    (own / "my_board.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        registry.create("target", "./my_board.yaml")


def test_a_file_that_is_not_there(own):
    with pytest.raises(BadInput, match="target: it must be a file that can be read"):
        Parts(Search("mlp", target="./other.yaml"))


# --- limits, bounds and bands -------------------------------------------------------------------------------


def test_limits_of_memory_become_constraints(own):
    board = of_file(own / "my_board.yaml")()

    def bounds(text):
        return [str(o) for o in limited(parse_objectives(text), board)]

    assert bounds("max accuracy") == ["max accuracy", "limit model_bytes <= 400000"]
    assert bounds("max accuracy, min model_bytes") == ["max accuracy", "min model_bytes <= 400000"]
    assert bounds("max accuracy, limit model_bytes < 100")[1] == "limit model_bytes <= 100"
    assert bounds("max accuracy, limit model_bytes < 1e9")[1] == "limit model_bytes <= 400000"
    for bound in ("<= 0.5 * baseline", ">= 5"):
        with pytest.raises(BadInput, match="bounded by a number from above: my_board has a limit of 400000"):
            bounds(f"max accuracy, limit model_bytes {bound}")


def test_a_search_stays_within_the_memory_of_its_target():
    front = nas.search(
        space={"name": "mlp"}, target="stm32h7", task={"name": "digits", "limit": 100}, trials=12,
        objectives="max params", evaluator=[], strategy="random",
    )  # fmt: skip
    assert [str(o) for o in front.objectives][1:] == [
        "limit model_bytes <= 2e+06",
        "limit activation_bytes <= 1e+06",
    ]
    assert all(m.values["model_bytes"] <= 2e6 for m in front)
    assert front.best().values["model_bytes"] < 1.2 * front.best().values["params"] + 100  # int8


def test_times_from_a_datasheet_are_bounded_only_when_that_is_accepted():
    with pytest.raises(
        BadInput, match=r"latency_ms <= 2 must be on a calibrated target.*--accept-uncalibrated"
    ):
        parts("t4")
    assert parts("t4", accept_uncalibrated=True).bands == {"latency_ms": 2.0}
    assert parts("t4", "max accuracy, min latency_ms").bands == {"latency_ms": 2.0}
    assert parts("host").bands == {}
    assert search_of(validated({"space": "mlp", "accept_uncalibrated": True}), Path()).accept_uncalibrated


def test_the_file_of_a_calibrated_target_is_believed(own):
    assert parts("./my_board.yaml").bands == {}


def test_a_front_of_guesses_says_so(capsys):
    space = small_space()
    trials = [trial(0, space.architecture(a), accuracy=0.5, latency_ms=1.0) for a in [next(iter_all(space))]]
    objectives = parse_objectives("max accuracy, min latency_ms")
    front = Front(trials, objectives, bands={"latency_ms": 2.0})
    assert front.to_json()["bands"] == {"latency_ms": 2.0}
    (finding,) = guesses(parts("t4", "max accuracy, min latency_ms"), front)
    assert (
        "latency_ms comes from the datasheet of t4: take each value within a factor of 2"
        in finding.sentences[0]
    )
    show_front(front)
    assert "latency_ms comes from the target's datasheet: within a factor of 2" in capsys.readouterr().out
    assert guesses(parts("host"), Front(trials, objectives)) == []
    show_front(Front(trials, objectives))
    assert "datasheet" not in capsys.readouterr().out


def iter_all(space):
    import numpy as np

    rng = np.random.default_rng(0)
    while True:
        yield dict(space.sample(rng))


# --- measuring ----------------------------------------------------------------------------------------------


def test_nothing_is_measured_for_another_machine(monkeypatch):
    def measured(target):
        return LatencyMeasured(small_space(), Digits(limit=20), target)

    with pytest.raises(BadInput, match="target must be this machine to be measured, got 'raspberry_pi_4'"):
        measured(registry.create("target", "raspberry_pi_4"))
    with pytest.raises(BadInput, match="must be a floating one to be measured"):
        measured(replace(registry.create("target", {"name": "stm32n6"}), device="cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L40S")
    with pytest.raises(BadInput, match="must be a L4 to measure l4, got 'NVIDIA L40S'"):
        measured(registry.create("target", "l4"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    assert "latency_ms" in measured(registry.create("target", "l4")).metrics


def test_the_list_shows_figures_and_marks_those_that_are_unsure(capsys, monkeypatch):
    from nas.cli import main

    monkeypatch.setattr(sys, "argv", ["nas", "list", "targets"])
    with pytest.raises(SystemExit):
        main()
    header, *lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert header.split()[:3] == ["target", "provenance", "dtypes"]
    assert set(rows) == {*registry.names("target"), "peak"}
    assert "120?" in rows["apple_m4"]
    assert "model_bytes <= 8,000,000" in rows["coral_edge_tpu"]
    assert rows["host"].split() == ["host", "measured", "float32", "float16", "bfloat16"]
    monkeypatch.setattr(sys, "argv", ["nas", "list", "targets", "--json"])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().out)["h200"]["bandwidth"] == 4.8e12
