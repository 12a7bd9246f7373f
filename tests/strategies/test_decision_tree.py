"""A space as a tree, and standings: what Monte Carlo tree search stands on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySpace, spaces

from nas import Architecture, Categorical, Integer, Real, When
from nas.rng import stream
from nas.strategies.decision_tree import Walk
from nas.strategies.ranking import Record
from nas.strategies.sorting import standing


@given(spaces(), st.integers(0, 2**32))
def test_following_an_architecture_leads_back_to_it(space, seed):
    rng = stream(seed)
    a = space.sample(rng)
    walk = Walk(space)
    while walk.branches:
        walk.take(walk.branch(a))
    end = walk.complete(rng)
    assert space.architecture(end) == end
    reals = {name for name in a if isinstance(space.by_name[name], Real)}
    assert {n: end[n] for n in a if n not in reals} == {n: a[n] for n in a if n not in reals}
    for name in reals:
        scale = space.by_name[name]
        assert abs(scale.unit(end[name]) - scale.unit(a[name])) <= 1 / 32 + 1e-6
    if walk.exact:
        assert end == a


@given(spaces(reals=False))
def test_the_ends_of_the_tree_are_the_architectures(space):
    ends, ways = [], [()]
    while ways:
        walk = Walk(space)
        for branch in ways.pop():
            walk.take(branch)
        if walk.branches:
            ways += [(*walk.path, branch) for branch in range(walk.branches)]
        else:
            assert walk.exact
            ends.append(walk.complete(stream(0)))
    assert set(ends) == set(space.enumerate())
    assert len(ends) == space.size


def test_numbers_are_halved_on_their_own_scale_and_the_rest_is_drawn_within():
    space = ToySpace([Integer("i", 1, 256, log=True), Real("r", 1e-4, 1.0, log=True)])
    walk = Walk(space)
    walk.take(0)
    assert (walk.decision.low, walk.decision.high) == (1, 16)
    drawn = {walk.complete(stream(seed))["i"] for seed in range(100)}
    assert min(drawn) == 1
    assert 10 < max(drawn) <= 16
    while walk.decision.name == "i":
        walk.take(1)
    walk.take(1)
    assert walk.decision.low == pytest.approx(1e-2)
    assert all(walk.complete(stream(seed))["r"] >= 1e-2 for seed in range(100))


def test_what_is_inactive_does_not_branch():
    space = ToySpace([Categorical("a", ("x", "y")), Categorical("b", (0, 1, 2), when=When("a", "y"))])
    walk = Walk(space)
    walk.take(0)
    assert (walk.branches, walk.exact) == (0, True)
    walk = Walk(space)
    walk.take(1)
    assert walk.branches == 3


def _record(*costs, violation=0.0):
    return Record(Architecture({}), costs, violation)


def test_a_standing_is_the_share_that_is_worse():
    assert standing([_record(3.0), _record(1.0), _record(2.0)]).tolist() == [0.0, 1.0, 0.5]
    assert standing([_record(1.0), _record(1.0), _record(9.0)]).tolist() == [0.75, 0.75, 0.0]
    assert standing([_record(7.0)]).tolist() == [0.5]
    assert standing([None, None]).tolist() == [0.5, 0.5]


def test_failures_stand_below_violations_and_those_below_all_else():
    found = standing([None, _record(0.0, violation=2.0), _record(9.0), _record(0.0, violation=1.0), None])
    assert found.tolist() == [0.125, 0.5, 1.0, 0.75, 0.125]


def test_several_objectives_stand_by_front():
    found = standing([_record(0.0, 9.0), _record(9.0, 0.0), _record(9.0, 9.0), _record(5.0, 5.0)])
    assert found.tolist() == [2 / 3, 2 / 3, 0.0, 2 / 3]
