"""Architectures, mixtures and fixed modules: immutable, canonical, with keys that hold everywhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySpace, conditional_space, spaces

from nas import Architecture, BadInput, Categorical, Fixed, Integer, Mixture, Repeat
from nas.rng import stream


@given(spaces(), st.integers(0, 2**32))
def test_json_round_trip_keeps_values_order_and_key(space, seed):
    a = space.sample(stream(seed))
    again = space.architecture(json.loads(json.dumps(a.to_json())))
    assert list(again.items()) == list(a.items())
    assert again == a
    assert (again.key, hash(again)) == (a.key, hash(a))


@given(spaces(), st.integers(0, 2**32))
def test_keys_are_equal_exactly_where_architectures_are(space, seed):
    rng = stream(seed)
    a, b = space.sample(rng), space.sample(rng)
    assert (a == b) == (a.key == b.key)


def test_keys_are_fixed_for_all_time():
    a = Architecture({"op": "conv", "width": 16, "lr": 0.1, "norm": None, "bias": True})
    assert a.key == "fc43cdfc349af4943c217671cf91db1e"


def test_types_of_values_make_other_keys():
    assert len({Architecture({"a": v}).key for v in ("1", 1, True, None, 1.5)}) == 5


def test_architectures_cannot_be_changed_from_outside():
    values = {"a": 1}
    a = Architecture(values)
    values["a"] = 2
    a.to_json()["a"] = 3
    assert a["a"] == 1
    with pytest.raises(TypeError):
        a["a"] = 4
    with pytest.raises(AttributeError):
        a.other = 1


def test_a_missing_decision_names_what_was_chosen():
    with pytest.raises(KeyError, match=r"b \(chosen: a\)"):
        Architecture({"a": 1})["b"]
    assert Architecture({"a": 1}).get("b", 7) == 7


def test_parts_and_repetitions_read_paths():
    space = ToySpace([Repeat("s", Integer("n", 1, 12), [Integer("w", 0, 9)]), Categorical("sx", ("a",))])
    a = space.architecture({"s.n": 11, "sx": "a", **{f"s.{i}.w": i % 10 for i in range(12)}})
    assert a.part("s")["n"] == 11
    assert "x" not in a.part("s")
    assert [part["w"] for part in a.repeated("s")] == [*range(10), 0]


def test_repetitions_without_decisions_of_their_own_are_absent():
    assert Architecture({"s.n": 3}).repeated("s") == ()


def test_mixtures_hold_read_only_weights():
    given_weights = np.array([0.5, 1.5])
    m = Mixture({"a": given_weights})
    given_weights[0] = 9.0
    assert m.weights["a"].tolist() == [0.5, 1.5]
    with pytest.raises(ValueError, match="read-only"):
        m.weights["a"][0] = 1.0


def test_mixtures_are_equal_by_value():
    a, b = Mixture({"a": [0.25, 0.75]}), Mixture({"a": np.array([0.25, 0.75])})
    assert a == b
    assert (hash(a), a.key) == (hash(b), b.key)
    assert a != Mixture({"a": [0.75, 0.25]})
    assert a.key != Architecture({"a": "x"}).key
    assert Mixture(json.loads(json.dumps(a.to_json()))) == a


def test_mixtures_lose_and_fix_options():
    d = Categorical("a", ("x", "y", "z"))
    m = Mixture({"a": [0.2, 0.5, 0.3], "b": [1.0]})
    assert m.without(d, 1).weights["a"].tolist() == [0.2, 0.0, 0.3]
    assert m.fixed(d, 2).weights["a"].tolist() == [0.0, 0.0, 1.0]
    assert m.weights["a"].tolist() == [0.2, 0.5, 0.3]
    assert m.choices([d]) == {"a": "y"}
    assert m.without(d, 1).choices([d]) == {"a": "z"}
    assert Mixture({"a": [1, 1, 1]}).choices([d]) == {"a": "x"}


@pytest.mark.parametrize("weights", [[-0.1, 1.0], [np.nan, 1.0], [np.inf], [], [[0.5, 0.5]], 0.5])
def test_wrong_mixtures_are_refused(weights):
    with pytest.raises(BadInput, match=r"^mixture\.a must"):
        Mixture({"a": weights})


def test_fixed_modules_are_named_by_their_factory():
    a, b = Fixed("collections:OrderedDict"), Fixed("collections:OrderedDict")
    assert a == b
    assert (hash(a), a.key) == (hash(b), b.key)
    assert a.build() == {}
    assert Fixed(conditional_space).name == "conditional_space"
    assert isinstance(Fixed(conditional_space).build(), ToySpace)


@pytest.mark.parametrize("factory", ["no.such.module:x", "collections:nothing", "collections"])
def test_fixed_modules_that_cannot_be_found_are_refused(factory):
    with pytest.raises(BadInput, match=r"^baseline must name a factory as 'package\.module:name'"):
        Fixed(factory).build()
