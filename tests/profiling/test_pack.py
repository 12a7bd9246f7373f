"""Networks measured where neither this toolkit nor PyTorch is, and what is made of the result."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from nas import registry
from nas.errors import BadInput, NasError
from nas.kernels.predictor import OpModels
from nas.profiling import measure as program
from nas.profiling.nets import Source, drawn_nets, reads_input
from nas.profiling.over import Remote
from nas.profiling.pack import MANIFEST, RESULT, Item, diverse, pack, traces_of
from nas.profiling.result import imported
from nas.target import Target, host, of_file

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

BOARD = Target(
    "board", "elsewhere", peak_flops={"float32": 1e10}, bandwidth=1e9, provenance="datasheet",
    backend="onnxruntime",
    limits={"model_bytes": 1e6}, sources={"bandwidth": "its manual"},
)  # fmt: skip


def nets(count):
    space = registry.load("space", "mlp")(input_shape=(1, 8, 8), classes=10)
    return drawn_nets([Source("mlp", space, (1, 8, 8))], count, 0)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    pack(folder, BOARD, [Item(net.name, net.module(), net.example(), net.trace) for net in nets(10)])
    return folder


def answered(packed, tmp_path, **changes):
    """A result as the program writes it, with chosen fields changed."""
    traces = traces_of(packed)
    rows = {name: {"median_ms": 2.5e-6 * sum(c.op.bytes for c in t.calls)} for name, t in traces.items()}
    data = {
        "schema": 1,
        "manifest": program.sha256(packed / MANIFEST),
        "target": "board",
        "date": "2020-01-01T00:00:00Z",
        "machine": {"processor": "toy"},
        "versions": {"onnxruntime": "1"},
        "drift": 0.01,
        "nets": rows,
        **changes,
    }
    path = tmp_path / RESULT
    path.write_text(json.dumps(data))
    return path


def test_the_program_runs_without_this_toolkit_and_torch(packed, tmp_path):
    python = _bare(tmp_path)
    for name in ("torch", "nas"):
        done = subprocess.run(
            [python, "-c", f"import {name}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=_clean(),
        )
        assert f"No module named '{name}'" in done.stderr
    out = tmp_path / "out.json"
    command = [python, packed / "measure.py", "--passes", "2", "--seconds", "0.005", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=_clean())
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["manifest"] == program.sha256(packed / MANIFEST)
    assert set(found["nets"]) == {net.name for net in nets(10)}
    for row in found["nets"].values():
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert row["runs"] >= 10
    assert found["versions"]["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found["drift"] >= 0


def _clean():
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _bare(folder):
    """The interpreter of an environment with the runtime, numpy and what they need."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder / "venv")
    links = folder / "links"
    links.mkdir()
    for name in ("numpy", "onnxruntime", "flatbuffers", "packaging", "google", "sympy", "mpmath"):
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        place = Path(spec.submodule_search_locations[0])
        (links / name).symlink_to(place)
        for extra in place.parent.glob(f"{name}.libs"):
            (links / extra.name).symlink_to(extra)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "links.pth").write_text(f"{links}\n")
    return folder / "venv" / "bin" / "python"


def test_the_program_is_python_of_version_3_8():
    text = Path(program.__file__).read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 8))
    imported_names = {
        a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
    }
    froms = {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert (imported_names | froms) - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_a_file_that_changed_on_the_way_is_not_measured(packed, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in packed.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    name = json.loads((copy / MANIFEST).read_text())["nets"][0]["file"]
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(SystemExit, match=f"{name} is not the file that was packed"):
        program.checked(copy)


def test_a_result_calibrates_the_target(packed, tmp_path):
    path, found = imported(answered(packed, tmp_path), packed, BOARD, tmp_path / "out")
    target = of_file(path)()
    assert (target.name, target.provenance, target.backend) == ("board", "calibrated", "onnxruntime")
    assert target.limits == BOARD.limits
    assert "10 networks measured on toy" in target.sources["provenance"]
    models = OpModels.load(Path(target.op_models))
    assert models.notes["composition"]["reuse"] > 0
    assert found["fitted_mape"] < 0.2


def test_better_than_the_datasheet_is_used_where_it_is_known(packed, tmp_path):
    first, _ = imported(answered(packed, tmp_path), packed, BOARD, tmp_path / "a")
    known = of_file(first)()
    again, _ = imported(answered(packed, tmp_path), packed, known, tmp_path / "b")
    assert OpModels.load(again.parent / "models.npz").notes["nets"] == 10


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"manifest": "0" * 64}, "a result of other artefacts"),
        ({"target": "phone"}, "target must be board, got 'phone'"),
        ({"schema": 99}, "schema version must be 1, got 99"),
        ({"drift": 0.5}, "drift between passes must be at most 10%, got '50%'"),
        ({"nets": {"mlp-0": {"median_ms": 1.0}}}, "nets must be those of the pack"),
    ],
)
def test_a_result_that_does_not_fit_is_refused(packed, tmp_path, changes, says):
    with pytest.raises(BadInput, match=says):
        imported(answered(packed, tmp_path, **changes), packed, BOARD, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_result_is_said(packed, tmp_path):
    with pytest.raises(BadInput, match=r"result.json must be a JSON file, got 'no such file'"):
        imported(tmp_path / RESULT, packed, BOARD, tmp_path / "out")


def test_what_the_program_cannot_run_is_not_packed(tmp_path):
    net = nets(1)[0]
    item = Item(net.name, net.module(), net.example(), net.trace)
    with pytest.raises(BadInput, match=r"target.backend must be onnxruntime"):
        pack(tmp_path / "p", host(), [item])
    halves = replace(BOARD, dtype="float16", peak_flops={"float16": 1e9})
    with pytest.raises(BadInput, match=r"target.dtype must be float32"):
        pack(tmp_path / "p", halves, [item])
    with pytest.raises(BadInput, match="at least one"):
        pack(tmp_path / "p", BOARD, [])


def test_chosen_networks_lie_apart():
    traces = [net.trace for net in nets(60)]
    chosen = diverse(traces, 6)
    assert len(set(chosen)) == 6
    flops = [traces[i].flops for i in chosen]
    assert max(flops) / min(flops) > 3
    assert sorted(diverse(traces[:3], 5)) == [0, 1, 2]


def test_networks_that_ignore_their_input_are_not_drawn():
    space = registry.load("space", "nasbench201")(cells=1, channels=4, input_shape=(3, 8, 8), classes=10)
    dead = [
        net for net in drawn_nets([Source("cells", space, (3, 8, 8))], 60, 0) if not reads_input(net.trace)
    ]
    assert dead == []


# --- over ssh ---------------------------------------------------------------------------------------

FAKES = {
    "ssh": """#!/bin/sh
while [ "$1" = "-o" ] || [ "$1" = "-p" ]; do shift 2; done
[ "$1" = "me@board" ] || { echo "ssh: connect to host $1 port 22: No route to host" >&2; exit 255; }
cd "$REMOTE" && sh -c "$2"
""",
    "scp": """#!/bin/sh
while [ "$1" = "-o" ] || [ "$1" = "-P" ]; do shift 2; done
[ "$1" = "-q" ] && shift
for last; do :; done
case "$last" in
*:*) for f; do [ "$f" = "$last" ] || cp "$f" "$REMOTE/${last#*:}"; done ;;
*) cp "$REMOTE/${1#*:}" "$last" ;;
esac
""",
}


@pytest.fixture
def _fake_ssh(tmp_path, monkeypatch):
    place = tmp_path / "bin"
    place.mkdir()
    (tmp_path / "remote").mkdir()
    for name, text in FAKES.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("REMOTE", str(tmp_path / "remote"))


@pytest.mark.usefixtures("_fake_ssh")
def test_a_pack_is_measured_over_ssh(packed, tmp_path):
    remote = replace(Remote.of("ssh://me@board"), python=sys.executable)
    result = remote.measure(packed)
    assert result == packed / RESULT
    imported(result, packed, BOARD, tmp_path / "out", drift=100.0)
    assert list((tmp_path / "remote").iterdir()) == []  # nothing stays there
    result.unlink()


@pytest.mark.usefixtures("_fake_ssh")
def test_a_host_that_is_not_reached_is_said_with_the_way_by_hand(packed):
    with pytest.raises(NasError, match=r"No route to host; try 'ssh you@nowhere' by hand, or copy .* there"):
        Remote.of("ssh://you@nowhere").measure(packed)


@pytest.mark.parametrize(
    "url", ["me@board", "http://board", "ssh://", "ssh://me@", "ssh://-oProxyCommand=x", "ssh://a b"]
)
def test_other_addresses_are_refused(url):
    with pytest.raises(BadInput, match="--over must read ssh://user@host"):
        Remote.of(url)


def test_a_port_is_passed_on():
    assert Remote.of("ssh://me@board:2222") == Remote("me@board", "2222")
