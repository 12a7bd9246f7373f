"""The plus strategies: elitism, plateaus, generations."""

from __future__ import annotations

import pytest
from toys import Shifted, plain_space, trial

from nas import BadInput, parse_objectives
from nas.rng import stream
from nas.strategies.plus_evolution import plus_evolution
from nas.testing import drive

ONE = parse_objectives("min loss")
SPACE = plain_space(4, 5)


def _architecture(*values):
    return SPACE.architecture({f"d{i}": v for i, v in enumerate(values)})


def _steps(a, b):
    return sum(a[name] != b[name] for name in a)


def _parents(strategy):
    """Whoever all of many children are one step from."""
    children = [p.candidate for p in strategy.ask(8, stream(9))]
    return [
        a
        for a in map(_architecture, range(5), range(5), range(5), range(5))
        if any(_steps(a, c) == 1 for c in children)
    ]


def test_one_plus_lambda_keeps_the_best_of_parent_and_children():
    strategy = plus_evolution(SPACE, ONE, population=1, offspring=2)
    first, worse, better = _architecture(0, 0, 0, 0), _architecture(1, 1, 1, 1), _architecture(2, 2, 2, 2)
    strategy.tell([trial(0, first, loss=1.0)], stream(0))
    assert _parents(strategy) == [first]
    strategy.tell([trial(1, worse, loss=2.0), trial(2, worse, loss=3.0)], stream(0))
    assert _parents(strategy) == [first]
    strategy.tell([trial(3, better, loss=0.5)], stream(0))
    assert _parents(strategy) == [first], "a generation is two children"
    strategy.tell([trial(4, worse, loss=2.0)], stream(0))
    assert _parents(strategy) == [better]


def test_an_equally_good_child_replaces_its_parent():
    strategy = plus_evolution(SPACE, ONE, population=1, offspring=1)
    first, second = _architecture(0, 0, 0, 0), _architecture(1, 1, 1, 1)
    strategy.tell([trial(0, first, loss=1.0)], stream(0))
    strategy.tell([trial(1, second, loss=1.0)], stream(0))
    assert _parents(strategy) == [second]


def test_mu_parents_share_the_children():
    strategy = plus_evolution(SPACE, ONE, population=2, offspring=2)
    pair = [_architecture(0, 0, 0, 0), _architecture(4, 4, 4, 4)]
    strategy.tell([trial(i, a, loss=float(i)) for i, a in enumerate(pair)], stream(0))
    assert _parents(strategy) == pair


def test_feasible_members_stay_before_better_infeasible_ones():
    strategy = plus_evolution(SPACE, parse_objectives("min loss, limit cost <= 1"), population=1, offspring=1)
    allowed, broken = _architecture(0, 0, 0, 0), _architecture(1, 1, 1, 1)
    strategy.tell([trial(0, allowed, loss=9.0, cost=1.0)], stream(0))
    strategy.tell([trial(1, broken, loss=0.0, cost=1.1)], stream(0))
    assert _parents(strategy) == [allowed]


def test_a_hill_climber_reaches_the_optimum():
    for seed in range(3):
        problem = Shifted(SPACE, seed)
        strategy = plus_evolution(SPACE, parse_objectives("min near"), population=1, offspring=1)
        trials = drive(strategy, problem.evaluate, 150, seed=seed, batch=1)
        assert min(t.values["near"] for t in trials) == 0


@pytest.mark.parametrize("setting", ["population", "offspring"])
def test_wrong_settings_are_refused_in_words(setting):
    with pytest.raises(BadInput, match=f"^{setting} must be at least 1, got 0"):
        plus_evolution(SPACE, ONE, **{setting: 0})
