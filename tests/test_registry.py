"""From names, decorators and references to plugins."""

from __future__ import annotations

import subprocess
import sys

import pytest
from toys import ToySpace, plain_space

import nas
from nas import BadInput, parse_objectives, registry
from nas.errors import UnknownName
from nas.strategies.grid import Grid

OFFERS = {"space": plain_space(), "objectives": parse_objectives("min loss"), "task": None}


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {kind: {} for kind in registry.KINDS})


@pytest.mark.parametrize("kind", ["space", "task", "strategy", "evaluator"])
def test_every_built_in_name_is_listed_and_sorted(kind):
    found = registry.names(kind)
    assert list(found) == sorted(set(found))
    assert len(found) >= 3


def test_listing_names_imports_no_plugin():
    code = (
        "import sys; from nas.registry import KINDS, names\n"
        "for kind in ('space', 'task', 'strategy', 'evaluator'): names(kind)\n"
        "print([m for m in ('torch', 'pymoo', 'sklearn', 'optuna', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_offers_reach_those_that_name_them_and_settings_come_from_the_config():
    strategy = registry.create("strategy", {"name": "grid", "points": 2}, OFFERS)
    assert isinstance(strategy, Grid)
    assert isinstance(registry.create("strategy", "grid", OFFERS), Grid)
    assert registry.create("strategy", strategy) is strategy


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gird", "unknown strategy 'gird'; did you mean 'grid'?"),
        ({"name": "grid", "point": 3}, "unknown setting of grid 'point'; did you mean 'points'?"),
        ({"name": "grid", "points": 1}, "points must be at least 2, got 1"),
        ({"name": "grid", "points": "many"}, "grid: "),
        ({"points": 2}, "strategy must have either name: or factory:"),
        ({"name": "grid", "factory": "a:b"}, "strategy must have either name: or factory:"),
        ({"factory": "nas.strategies.grid"}, "factory must read 'package.module:name' or './file.py:name'"),
        ({"factory": "no_such_package:x"}, "factory must be importable, got 'no_such_package:x'"),
        (
            {"factory": "nas.strategies.grid:Gird"},
            "unknown name in nas.strategies.grid 'Gird'; did you mean 'Grid'?",
        ),
        ({"factory": "./nothing.py:x"}, "factory must name a file that exists, got './nothing.py:x'"),
    ],
)
def test_wrong_specs_are_refused_in_words(spec, message, tmp_path):
    with pytest.raises(BadInput) as caught:
        registry.create("strategy", spec, OFFERS, folder=tmp_path)
    assert str(caught.value).startswith(message)


def test_a_missing_setting_is_named():
    with pytest.raises(BadInput, match=r"^grid\.space must be given"):
        registry.create("strategy", "grid", {"objectives": ()})


def test_an_unknown_kind_is_refused():
    with pytest.raises(UnknownName, match=r"unknown kind 'startegy'; did you mean 'strategy'\?"):
        registry.names("startegy")


def test_decorators_register_once_under_a_new_name():
    @nas.register_space("mine")
    def mine(width: int = 3):
        return plain_space(width, 2)

    assert nas.register_space("mine")(mine) is mine
    assert "mine" in registry.names("space")
    assert registry.create("space", {"name": "mine", "width": 5}).size == 32
    for taken in ("mine", "conv"):
        with pytest.raises(BadInput, match="the name of a space must be new"):
            nas.register_space(taken)(ToySpace)


def test_each_decorator_registers_its_own_kind():
    decorators = (nas.register_evaluator, nas.register_strategy, nas.register_task)
    for decorator, kind in zip(decorators, ("evaluator", "strategy", "task"), strict=True):
        decorator("mine")(ToySpace)
        assert registry.load(kind, "mine") is ToySpace


def test_files_are_found_from_the_configs_folder_and_loaded_once(tmp_path):
    (tmp_path / "own.py").write_text("count = []\nclass Mine:\n    def __init__(self, n=1): self.n = n\n")
    spec = {"factory": "./own.py:Mine", "n": 4}
    first, second = (registry.create("space", spec, folder=tmp_path) for _ in range(2))
    assert first.n == 4
    assert type(first) is type(second)
    assert registry.source_file("./own.py:Mine", tmp_path) == tmp_path / "own.py"
    assert registry.source_file("nas.space:Space", tmp_path) is None


def test_a_broken_file_fails_as_it_would_in_python_and_can_be_mended(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("raise RuntimeError('half written')")
    with pytest.raises(RuntimeError, match="half written"):
        registry.reference(f"{path}:x")
    path.write_text("x = 7")
    assert registry.reference(f"{path}:x") == 7


def test_errors_inside_a_factory_keep_their_words():
    @nas.register_task("picky")
    def picky(n):
        raise TypeError("n is of no use")

    with pytest.raises(BadInput, match=r"^picky: n is of no use"):
        registry.create("task", {"name": "picky", "n": 1})
