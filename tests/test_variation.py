"""Mutation, crossover and neighbours, for every kind of space."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySpace, conditional_space, plain_space, spaces

from nas import Categorical, Infeasible, Integer
from nas.rng import stream
from nas.variation import crossover, mutate, neighbours


def _changed(a, b):
    return [name for name in a if name in b and a[name] != b[name]]


@given(spaces(), st.integers(0, 2**32))
def test_a_mutant_differs_in_one_decision_that_was_active(space, seed):
    rng = stream(seed)
    a = space.sample(rng)
    b = mutate(space, a, rng)
    assert space.architecture(b) == b
    changeable = any(space.by_name[name].size > 1 for name in a)
    assert len(_changed(a, b)) == (1 if changeable else 0)


@given(spaces(), st.integers(0, 2**32))
def test_a_child_has_a_parents_value_wherever_a_parent_has_one(space, seed):
    rng = stream(seed)
    a, b = space.sample(rng), space.sample(rng)
    child = crossover(space, a, b, rng)
    assert space.architecture(child) == child
    for name, value in child.items():
        offered = [parent[name] for parent in (a, b) if name in parent]
        assert not offered or value in offered


@given(spaces(reals=False), st.integers(0, 2**32))
def test_neighbours_are_all_that_differ_by_one_step(space, seed):
    rng = stream(seed)
    a = space.sample(rng)
    near = list(neighbours(space, a, rng))
    steps = {(name, v) for name in a for v in space.by_name[name].neighbours(a[name])}
    found = [(name, b[name]) for b in near for name in _changed(a, b)]
    assert len(near) == len(found) == len(steps)
    assert set(found) == steps


def test_each_active_decision_mutates_equally_often():
    space, rng = plain_space(4, 3), stream(0)
    a = space.sample(rng)
    counts = Counter(_changed(a, mutate(space, a, rng))[0] for _ in range(2000))
    assert [counts[f"d{i}"] / 2000 for i in range(4)] == pytest.approx([0.25] * 4, abs=0.04)


def test_children_take_half_of_each_parent():
    space, rng = plain_space(50, 2), stream(1)
    a, b = (space.architecture({f"d{i}": v for i in range(50)}) for v in (0, 1))
    share = sum(sum(crossover(space, a, b, rng).values()) for _ in range(100)) / 5000
    assert share == pytest.approx(0.5, abs=0.03)


def test_a_mutation_that_lengthens_a_repetition_draws_the_new_part():
    space, rng = conditional_space(), stream(2)
    a = space.architecture({"block.depth": 1, "block.0.op": "skip", "head": "linear"})
    grown = [b for b in (mutate(space, a, rng) for _ in range(300)) if b["block.depth"] == 3]
    assert {b["block.2.op"] for b in grown} == {"conv", "pool", "skip"}


def test_a_space_of_one_architecture_gives_it_back():
    space = ToySpace([Categorical("a", ("x",)), Integer("b", 2, 2)])
    a = space.sample(stream(0))
    assert mutate(space, a, stream(1)) == crossover(space, a, a, stream(1)) == a
    assert list(neighbours(space, a, stream(1))) == []


def test_infeasible_results_are_drawn_again_and_never_given():
    space = ToySpace(plain_space(3, 4).decisions, lambda a: sum(a.values()) % 3 == 0)
    rng = stream(3)
    a, b = space.sample(rng), space.sample(rng)
    for _ in range(200):
        assert space.feasible(mutate(space, a, rng))
        assert space.feasible(crossover(space, a, b, rng))
    assert all(space.feasible(c) for c in neighbours(space, a, rng))


def test_an_isolated_architecture_says_that_nothing_is_near():
    space = ToySpace(plain_space(2, 3).decisions, lambda a: a["d0"] == a["d1"])
    with pytest.raises(Infeasible, match="must have feasible neighbours, got none in 10,000 tries"):
        mutate(space, space.sample(stream(0)), stream(1))
