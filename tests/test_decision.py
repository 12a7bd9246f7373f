"""What can be chosen: decisions, conditions, composites, and the errors of wrong ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySpace, plain_space

from nas import BadInput, Categorical, Integer, Nested, OneOf, Real, Repeat, When
from nas.decision import flatten
from nas.rng import stream

DECISIONS = [
    Categorical("c", ("a", 1, None, 2.5)),
    Integer("i", -3, 9),
    Integer("il", 1, 1000, log=True),
    Real("r", -1.0, 2.0),
    Real("rl", 1e-5, 10.0, log=True),
    Categorical("one", ("only",)),
    Integer("same", 4, 4),
    Real("point", 0.5, 0.5),
]


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda d: d.name)
@given(seed=st.integers(0, 2**32))
def test_samples_mutants_and_neighbours_are_canonical_values(decision, seed):
    rng = stream(seed)
    value = decision.sample(rng)
    for v in (value, decision.mutate(value, rng), *decision.neighbours(value)):
        again = decision.canonical(v)
        assert again == v
        assert type(again) is type(v)


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda d: d.name)
def test_mutation_gives_another_value_wherever_there_is_one(decision):
    rng = stream(1)
    for _ in range(200):
        value = decision.sample(rng)
        assert (decision.mutate(value, rng) != value) == (decision.size > 1)
        assert value not in decision.neighbours(value)
        assert bool(decision.neighbours(value)) == (decision.size > 1)


@pytest.mark.parametrize("decision", [d for d in DECISIONS if d.size < 100], ids=lambda d: d.name)
def test_sampling_and_mutation_reach_every_value(decision):
    rng = stream(2)
    value, drawn, mutants = decision.values[0], set(), set()
    for _ in range(1500):
        drawn.add(decision.sample(rng))
        mutants.add(value := decision.mutate(value, rng))
    assert drawn == mutants == set(decision.values)
    assert len(decision.values) == decision.size


def test_log_scales_spread_samples_over_magnitudes():
    rng = stream(3)
    integers = [Integer("i", 1, 9999, log=True).sample(rng) for _ in range(4000)]
    reals = [Real("r", 1.0, 1e4, log=True).sample(rng) for _ in range(4000)]
    for draws in (integers, reals):
        shares = [sum(10**k <= v < 10 ** (k + 1) for v in draws) / 4000 for k in range(4)]
        assert shares == pytest.approx([0.25] * 4, abs=0.03)


def test_mutation_of_numbers_stays_near_more_often_than_chance():
    rng = stream(4)
    steps = [abs(Integer("i", 0, 1000).mutate(500, rng) - 500) for _ in range(1000)]
    assert 0.42 < sum(step == 1 for step in steps) / 1000 < 0.58
    reals = [abs(Real("r", 0.0, 1.0).mutate(0.5, rng) - 0.5) for _ in range(1000)]
    assert sum(reals) / 1000 == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.1)


@given(unit=st.floats(0, 1), log=st.booleans())
def test_positions_of_a_real_come_back(unit, log):
    decision = Real("r", 1e-3, 50.0, log)
    assert decision.unit(decision.at(unit)) == pytest.approx(unit, abs=1e-9)


def test_reals_keep_twelve_digits():
    assert Real("r", 0, 1).canonical(1 / 3) == 0.333333333333
    assert Real("r", 0, 1).at(-5.0) == 0.0
    assert Real("r", 0, 1).at(5.0) == 1.0


def test_options_are_given_back_in_their_own_type():
    value = Categorical("c", (1, "a")).canonical(1.0)
    assert value == 1
    assert type(value) is int


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categorical("", ("a",)), "a decision's name must be a text that is not empty, got ''"),
        (lambda: Categorical("c", ()), "c.options must hold at least one value, got ()"),
        (lambda: Categorical("c", "abc"), "c.options must be a tuple of values, got 'abc'"),
        (lambda: Categorical("c", (1, True)), "c.options must be distinct"),
        (lambda: Categorical("c", ([],)), r"c.options must hold texts, numbers, booleans or None, got \[\]"),
        (lambda: Categorical("c", (float("nan"),)), "c.options must hold texts"),
        (lambda: Integer("i", 3, 2), "i.low must be at most high = 2, got 3"),
        (lambda: Integer("i", 0, 2, log=True), "i.low must be at least 1 on a log scale, got 0"),
        (lambda: Integer("i", 0.5, 2), "i.low must be a whole number, got 0.5"),
        (lambda: Integer("i", True, 2), "i.low must be a whole number, got True"),
        (lambda: Real("r", 0.0, 1.0, log=True), "r.low must be above 0 on a log scale, got 0.0"),
        (lambda: Real("r", 0.0, math.inf), "r.high must be a finite number, got inf"),
        (lambda: Real("r", 2, 1), "r.low must be at most high = 1.0, got 2.0"),
        (lambda: Categorical("c", ("a",), when="x"), "c.when must be nas.When"),
        (lambda: When("c", ()), "When.values must name at least one value"),
        (lambda: Categorical("c", ("a", "b")).canonical("z"), "c must be one of 'a', 'b', got 'z'"),
        (lambda: Categorical("c", ("a", "b")).canonical([]), "c must be one of 'a', 'b'"),
        (lambda: Integer("i", 0, 3).canonical(4), r"i must lie in \[0, 3\], got 4"),
        (lambda: Integer("i", 0, 3).canonical(True), "i must be a whole number, got True"),
        (lambda: Integer("i", 0, 3).canonical(float("inf")), "i must be a whole number, got inf"),
        (lambda: Real("r", 0, 3).canonical("1"), "r must be a finite number, got '1'"),
        (lambda: Real("r", 0, 3).canonical(3.1), r"r must lie in \[0.0, 3.0\], got 3.1"),
        (lambda: Real("r", 0, 3).values, "r must be categorical or integer to be enumerated"),
        (lambda: flatten([1]), "decisions must hold Categorical, Integer, Real, Repeat, OneOf or Nested"),
        (lambda: flatten([Integer("i", 0, 1)] * 2), "decisions must have distinct names, got 'i'"),
        (lambda: flatten([OneOf("o", {})]), "o.options must map labels to decisions"),
        (lambda: flatten([Repeat("r", -1, [])]), "r.count must be at least 0, got -1"),
    ],
)
def test_wrong_decisions_are_refused_in_words(make, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        (
            [Integer("a", 0, 1, when=When("b", 1)), Integer("b", 0, 1)],
            "a.when must name a decision declared before",
        ),
        (
            [Real("a", 0, 1), Integer("b", 0, 1, when=When("a", 1))],
            "b.when must depend on a categorical or integer",
        ),
        (
            [Integer("a", 0, 1), Integer("b", 0, 1, when=When("a", 7))],
            r"b.when: a must lie in \[0, 1\], got 7",
        ),
    ],
)
def test_conditions_that_can_never_hold_are_refused(decisions, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        _ = ToySpace(decisions).leaves


def _names(*declared):
    return [leaf.name for leaf in flatten(declared)]


def test_composites_become_path_names():
    body = [Categorical("op", ("a", "b"))]
    assert _names(Repeat("stage", 2, body)) == ["stage.0.op", "stage.1.op"]
    assert _names(Repeat("stage", Integer("n", 0, 1), body)) == ["stage.n", "stage.0.op"]
    assert _names(OneOf("head", {"x": body, "y": []})) == ["head", "head.x.op"]
    assert _names(Nested("cell", plain_space(2))) == ["cell.d0", "cell.d1"]
    deep = Repeat("s", 1, [OneOf("o", {"x": [Nested("n", plain_space(1))]})])
    assert _names(deep) == ["s.0.o", "s.0.o.x.n.d0"]


def test_repetitions_are_active_up_to_their_count():
    space = ToySpace([Repeat("r", Integer("n", 1, 3), [Integer("w", 0, 1)])])
    choice = {"r.n": 2, "r.0.w": 0, "r.1.w": 1, "r.2.w": 1}
    assert list(space.architecture(choice)) == ["r.n", "r.0.w", "r.1.w"]


def test_conditions_inside_composites_first_look_there():
    inner = [Categorical("op", ("a", "b")), Integer("k", 0, 1, when=When("op", "b"))]
    space = ToySpace([Categorical("op", ("a", "b")), Repeat("r", 1, inner)])
    assert "r.0.k" not in space.architecture({"op": "b", "r.0.op": "a"})
    assert "r.0.k" in space.architecture({"op": "a", "r.0.op": "b", "r.0.k": 1})


def test_conditions_inside_composites_may_look_outside():
    space = ToySpace(
        [Categorical("mode", ("on", "off")), Repeat("r", 1, [Integer("k", 0, 1, when=When("mode", "on"))])]
    )
    assert list(space.architecture({"mode": "off"})) == ["mode"]
    assert list(space.architecture({"mode": "on", "r.0.k": 1})) == ["mode", "r.0.k"]


def test_all_conditions_must_hold():
    both = (When("a", 1), When("b", (1, 2)))
    space = ToySpace([Integer("a", 0, 1), Integer("b", 0, 2), Integer("c", 0, 1, when=both)])
    active = {(a["a"], a["b"]) for a in space.enumerate() if "c" in a}
    assert active == {(1, 1), (1, 2)}
