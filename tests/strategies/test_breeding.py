"""How children are made: crossover, mutation rates by path, and what is refused."""

from __future__ import annotations

from collections import Counter

import pytest
from toys import conditional_space, plain_space, trial

from nas import BadInput, parse_objectives
from nas.registry import create
from nas.rng import stream
from nas.strategies.breeding import Breeding

ONE = parse_objectives("min loss")
SPACE = plain_space(4, 5)
A, B = (SPACE.architecture({f"d{i}": v for i in range(4)}) for v in (0, 4))


def _steps(a, b):
    return sum(a[name] != b[name] for name in a)


def _mutants(mutation, n=1000):
    breeding, rng = Breeding(SPACE, mutation=mutation), stream(0)
    return [breeding.child(lambda: A, rng) for _ in range(n)]


def test_without_a_rate_exactly_one_decision_changes():
    assert {_steps(A, child) for child in _mutants(None)} == {1}


def test_one_in_n_changes_one_on_average_and_at_least_one():
    steps = Counter(_steps(A, child) for child in _mutants({"rate": "1/n"}))
    none = 0.75**4
    assert 0 not in steps
    assert steps[1] / 1000 == pytest.approx(4 * 0.25 * 0.75**3 + none, abs=0.04)
    assert steps[2] > 0


def test_a_number_is_the_rate_of_all():
    assert {_steps(A, child) for child in _mutants({"rate": 1.0})} == {4}


def test_the_longest_path_counts_and_the_rest_has_one_in_n():
    space = conditional_space()
    breeding = Breeding(space, mutation={"rate": {"block": 0.0, "block.1": 1.0, "head": 0.0}})
    parent = space.architecture(
        {"block.depth": 2, "block.0.op": "pool", "block.1.op": "pool", "head": "linear"}
    )
    rng = stream(1)
    for _ in range(50):
        child = breeding.mutant(parent, rng)
        assert child["block.1.op"] != "pool"
        assert (child["block.depth"], child["block.0.op"], child["head"]) == (2, "pool", "linear")


def test_what_is_known_is_mutated_on_until_it_is_new_or_ten_times():
    breeding, rng = Breeding(SPACE), stream(2)
    near = set(_mutants(None))
    assert _steps(A, breeding.new(A, lambda a: a == A or a in near, rng)) >= 2
    tried = []
    breeding.new(A, lambda a: tried.append(a) or True, rng)
    assert len(tried) == 10


@pytest.mark.parametrize(
    ("mutation", "message"),
    [
        ({"rate": 1.5}, r"mutation.rate must be a number in \[0, 1\], got 1.5"),
        ({"rate": "often"}, r"mutation.rate must be a number in \[0, 1\], got 'often'; or '1/n' for all"),
        ({"rate": {"d0": -1}}, r"mutation.rate.d0 must be a number in \[0, 1\], got -1"),
        ({"rate": {"d9": 0.5}}, "mutation.rate: unknown decision 'd9'; did you mean"),
        ({"chance": 0.5}, "mutation must be None or hold rate alone, got"),
        (0.5, "mutation must be None or hold rate alone, got 0.5"),
    ],
)
@pytest.mark.parametrize("name", ["aging_evolution", "evolution", "nsga2", "nsga3", "plus_evolution"])
def test_every_evolution_takes_the_setting_and_refuses_in_words(name, mutation, message):
    with pytest.raises(BadInput, match=message):
        create("strategy", {"name": name, "mutation": mutation}, {"space": SPACE, "objectives": ONE})


@pytest.mark.parametrize("name", ["aging_evolution", "evolution", "nsga2", "nsga3", "plus_evolution"])
def test_every_evolution_heeds_the_setting(name):
    spec = {"name": name, "population": 2, "crossover": 0.0, "mutation": {"rate": 1.0}}
    strategy = create("strategy", spec, {"space": SPACE, "objectives": ONE})
    strategy.tell([trial(i, A, loss=0.0) for i in range(2)], stream(0))
    assert {_steps(A, p.candidate) for p in strategy.ask(20, stream(1))} == {4}
