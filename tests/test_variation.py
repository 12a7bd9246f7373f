"""Mutation, crossover and neighbours, for every kind of space."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySpace, conditional_space, plain_space, spaces

from nas import Categorical, Infeasible, Integer, Real, Repeat
from nas.rng import stream
from nas.variation import crossover, mutate, mutate_each, neighbours, sample_alike


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


# --- a rate for each decision -----------------------------------------------------------------------


@given(spaces(), st.integers(0, 2**32), st.floats(0.0, 1.0))
def test_mutants_by_rates_belong_and_differ(space, seed, rate):
    rng = stream(seed)
    a = space.sample(rng)
    rates = dict.fromkeys(space.by_name, rate)
    b = mutate_each(space, a, rates, rng)
    assert space.architecture(b) == b
    changeable = any(space.by_name[name].size > 1 for name in a)
    assert bool(_changed(a, b)) == (changeable and rate > 0)


def test_each_decision_changes_at_its_own_rate():
    space, rng = plain_space(4, 3), stream(5)
    a = space.sample(rng)
    rates = {"d0": 1.0, "d1": 0.5, "d2": 0.0}
    counts = Counter(name for _ in range(2000) for name in _changed(a, mutate_each(space, a, rates, rng)))
    assert counts["d0"] == 2000
    assert counts["d1"] / 2000 == pytest.approx(0.5, abs=0.04)
    assert counts["d2"] == 0
    assert counts["d3"] / 2000 == pytest.approx(0.25, abs=0.04)


def test_where_no_decision_was_drawn_one_is_taken_in_proportion():
    space, rng = plain_space(3, 3), stream(6)
    a = space.sample(rng)
    rates = {"d0": 3e-9, "d1": 1e-9, "d2": 0.0}
    changed = [_changed(a, mutate_each(space, a, rates, rng)) for _ in range(2000)]
    assert {len(names) for names in changed} == {1}
    assert sum(names == ["d0"] for names in changed) / 2000 == pytest.approx(0.75, abs=0.04)


def test_rates_keep_to_what_is_feasible_and_draw_what_they_switch_on():
    space = ToySpace(conditional_space().decisions, lambda a: a["block.0.op"] != "skip")
    rng = stream(7)
    a = space.sample(rng)
    mutants = [mutate_each(space, a, {}, rng) for _ in range(300)]
    assert all(space.feasible(b) and space.architecture(b) == b for b in mutants)
    assert {b["head.mlp.width"] for b in mutants if b["head"] == "mlp"} == set(range(1, 9))


def test_real_neighbours_lie_a_step_away():
    space = ToySpace([Real("r", 0.0, 10.0), Integer("i", 0, 100), Categorical("c", ("x", "y"))])
    a = space.architecture({"r": 5.0, "i": 50, "c": "x"})
    near = [_changed(a, b)[0] + str(b[_changed(a, b)[0]]) for b in neighbours(space, a, stream(0), 0.2)]
    assert sorted(near) == ["cy", "i30", "i49", "i51", "i70", "r3.0", "r7.0"]


@given(spaces(), st.integers(0, 2**32))
def test_alike_architectures_belong_to_the_space(space, seed):
    a = sample_alike(space, stream(seed))
    assert space.architecture(a) == a


def test_copies_tend_to_agree_so_that_their_sums_spread():
    space = ToySpace([Repeat("block", 12, (Integer("width", 0, 9),))])

    def spread(draw):
        sums = [sum(draw(stream(0, "draw", i)).values()) for i in range(300)]
        return max(sums) - min(sums)

    assert spread(lambda rng: sample_alike(space, rng)) > 1.5 * spread(space.sample)


def test_without_copies_alike_architectures_are_drawn_as_ever():
    space = plain_space()
    assert sample_alike(space, stream(3)) == space.sample(stream(3))


def test_alike_architectures_are_feasible():
    space = ToySpace([Repeat("block", 3, (Integer("width", 0, 9),))], lambda a: len(set(a.values())) == 3)
    for seed in range(20):
        assert space.feasible(sample_alike(space, stream(seed)))
