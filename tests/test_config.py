"""YAML 1.2, overrides, and configs as searches."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
import yaml
from commands import QUICK
from hypothesis import given
from hypothesis import strategies as st

from nas.budget import Budget
from nas.config import load, override, resolved, schema, search_of, stored, validated
from nas.errors import BadInput
from nas.yaml12 import parse_yaml

TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs",)), max_size=20)
"""JSON writes other characters as pairs of escapes, which YAML does not join; YAML's keys are short."""

SCALARS = {
    "1e-4": 1e-4,
    "1E+3": 1000.0,
    "1.": 1.0,
    ".5": 0.5,
    "-.5": -0.5,
    "+1": 1,
    "-7": -7,
    "0": 0,
    "012": 12,
    "0o17": 15,
    "0x1f": 31,
    "0x1F": 31,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "true": True,
    "True": True,
    "FALSE": False,
    "~": None,
    "null": None,
    "Null": None,
    "": None,
    # texts, some of which YAML 1.1 reads as something else
    "on": "on",
    "off": "off",
    "yes": "yes",
    "No": "No",
    "y": "y",
    "tRUE": "tRUE",
    "1_000": "1_000",
    "0b101": "0b101",
    "0o8": "0o8",
    "1:30": "1:30",
    "2024-01-02": "2024-01-02",
    "1e": "1e",
    "e4": "e4",
    "inf": "inf",
    "nan": "nan",
    "+": "+",
    ".": ".",
    "1.2.3": "1.2.3",
    "0x": "0x",
    "=": "=",
    "<<": "<<",
    '""': "",
    '"1"': "1",
    "'true'": "true",
    "'~'": "~",
    "!!str 5": "5",
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text):
    expected = SCALARS[text]
    found = parse_yaml(f"x: {text}")["x"]
    assert found == expected
    assert type(found) is type(expected)


def test_nan_is_a_number():
    assert math.isnan(parse_yaml("x: .nan")["x"])


@given(st.floats(allow_nan=False) | st.integers(-(10**12), 10**12) | st.booleans() | st.none())
def test_what_is_written_as_yaml_is_read_back(value):
    text = yaml.safe_dump({"x": value})
    assert parse_yaml(text) == {"x": value}


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
))  # fmt: skip
def test_json_is_yaml(value):
    assert parse_yaml(json.dumps(value)) == value


@given(st.text(alphabet="ab: -[]{},\n#&*!|>'\"%@`?\\\t0.", max_size=40))
def test_no_text_breaks_the_reader(text):
    with contextlib.suppress(BadInput):
        parse_yaml(text)


def test_anchors_are_shared():
    assert parse_yaml("a: &x {lr: 1e-3}\nb: *x") == {"a": {"lr": 1e-3}, "b": {"lr": 1e-3}}


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("budget.trials=9", ("budget", "trials"), 9),
        ("space.width=2", ("space",), {"name": "conv", "width": 2}),
        ("memo.mantissa_bits=24", ("memo",), {"key": "functional", "mantissa_bits": 24}),
        ("strategy.population=8", ("strategy",), {"name": "random", "population": 8}),
        ("evaluators.0.lr=1e-2", ("evaluators", 0), {"name": "training", "lr": 0.01}),
        ("evaluators.1=cost", ("evaluators", 1), "cost"),
        ("task.limit=60", ("task",), {"name": "digits", "limit": 60}),
        ("objectives=max accuracy, min params < 5", ("objectives",), "max accuracy, min params < 5"),
        ("target={name: host, threads: 2}", ("target",), {"name": "host", "threads": 2}),
        ("baseline=", ("baseline",), None),
        ("baseline.width=3", ("baseline",), {"width": 3}),
        ("export.formats=[pt2]", ("export",), {"formats": ["pt2"]}),
    ],
)
def test_overrides_reach_into_mappings_and_lists(setting, path, value):
    data = {
        "seed": 1,
        "space": "conv",
        "memo": "functional",
        "budget": {"trials": 5},
        "strategy": {"name": "random"},
        "evaluators": ["training", {"name": "latency_measured"}],
    }
    override(data, setting)
    found = data
    for step in path:
        found = found[step]
    assert found == value


def test_overrides_add_what_is_not_there():
    data = {"space": "conv"}
    for setting in ("budget.trials=3", "memo.key=architecture", "target.threads=2"):
        override(data, setting)
    assert data == {
        "space": "conv",
        "budget": {"trials": 3},
        "memo": {"key": "architecture"},
        "target": {"name": "host", "threads": 2},
    }


def test_objectives_as_a_text_have_no_parts():
    with pytest.raises(BadInput, match="not through objectives"):
        override({"objectives": "max accuracy"}, "objectives.bound=3")


def test_a_config_is_a_search(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(QUICK)
    config, folder = load(path, ["budget.seconds=1e3", "seed=4"])
    search = search_of(config, folder)
    assert folder == search.folder == tmp_path
    assert search.budget == Budget(trials=6, seconds=1000.0)
    assert search.seed == 4
    assert search.space == {"factory": "./own.py:Tiny"}
    assert search.strategy == "random"
    assert search.formats == ()


def test_what_is_left_out_has_defaults():
    config = validated({"space": "conv"})
    assert (config.task, config.target, config.strategy, config.memo) == (
        "digits",
        "host",
        "evolution",
        "functional",
    )
    assert config.budget.trials == 64
    assert search_of(config, None).budget == Budget(trials=64)


def test_given_budgets_replace_the_default_one():
    assert search_of(validated({"space": "conv", "budget": {"seconds": 5}}), None).budget == Budget(seconds=5)


def test_a_stored_config_is_read_back(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(QUICK + "export: {formats: [json]}\nbaseline: {width: 2, act: relu}\n")
    config, folder = load(path)
    (tmp_path / "config.json").write_text(json.dumps(resolved(config, folder)))
    assert stored(tmp_path) == (config, folder)


def test_the_schema_is_json_and_describes_every_key():
    found = json.loads(json.dumps(schema()))
    assert found["$schema"].endswith("2020-12/schema")
    for name, property_ in found["properties"].items():
        assert property_.get("description") or "$ref" in json.dumps(property_), name
