"""Aging evolution, NSGA-II, and the choice between them."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Shifted, failed, mixed_space, plain_space, trial

from nas import Architecture, BadInput, Fixed, Proposal, parse_objectives
from nas.front import Front
from nas.rng import stream
from nas.strategies.aging_evolution import AgingEvolution
from nas.strategies.evolution import evolution
from nas.strategies.generational import Generational
from nas.strategies.nsga2 import least_crowded, nsga2
from nas.strategies.ranking import Ranking, Record
from nas.testing import drive
from nas.testing.strategy_checks import quality

ONE, TWO = parse_objectives("min loss"), parse_objectives("min near, min cost")
SPACE = plain_space(4, 5)


def _architecture(*values):
    return SPACE.architecture({f"d{i}": v for i, v in enumerate(values)})


def _steps(a, b):
    return sum(a[name] != b[name] for name in a)


def _record(costs, violation=0.0, name=0):
    return Record(Architecture({"n": name}), costs, violation)


# --- ranking --------------------------------------------------------------------------------------


def test_constraints_come_before_objectives():
    good, dear = _record((1.0, 1.0)), _record((9.0, 9.0))
    broken, worse = _record((0.0, 0.0), 0.1), _record((0.0, 0.0), 0.2)
    assert good.dominates(dear)
    assert dear.dominates(broken)
    assert broken.dominates(worse)
    assert not broken.dominates(dear)
    assert not good.dominates(_record((1.0, 1.0)))
    assert not good.dominates(_record((0.0, 2.0)))
    assert sorted([worse, broken, dear, good], key=lambda r: r.rank) == [good, dear, broken, worse]


def test_records_leave_out_failures_missing_values_and_what_is_no_architecture():
    ranking = Ranking(parse_objectives("max a, min b <= 1"))
    x = _architecture(0, 0, 0, 0)
    trials = [
        trial(0, x, a=1.0, b=2.0),
        trial(1, x, a=float("nan"), b=0.0),
        trial(2, x, metrics=("a", "b"), a=1.0),
        failed(3, x, metrics=("a", "b")),
        trial(4, Fixed("collections:OrderedDict"), a=1.0, b=1.0),
    ]
    assert ranking.records(trials) == [Record(x, (-1.0, 2.0), 1.0), None, None, None, None]
    assert ranking.records([]) == []


def test_the_baseline_is_what_relative_bounds_refer_to_from_then_on():
    ranking = Ranking(parse_objectives("min loss <= baseline * 0.5"))
    x = _architecture(0, 0, 0, 0)
    (first,) = ranking.records([trial(0, Fixed("collections:OrderedDict"), role="baseline", loss=4.0)])
    assert first is None
    records = ranking.records([trial(1, x, loss=2.0), trial(2, x, loss=3.0)])
    assert [r.violation for r in records] == [0.0, 0.5]


# --- aging evolution ------------------------------------------------------------------------------


def _grown(population=3, **settings):
    strategy = AgingEvolution(SPACE, ONE, population=population, **settings)
    strategy.tell((), stream(0, "tell", -1))
    return strategy


def test_the_search_begins_with_random_architectures():
    members = [p.candidate for p in _grown(50).ask(50, stream(1))]
    assert len(set(members)) > 40


def test_children_are_one_step_from_the_best_when_everyone_takes_part():
    strategy, best = _grown(tournament=64), _architecture(0, 0, 0, 0)
    others = [_architecture(4, 4, 4, 4), _architecture(3, 3, 3, 3)]
    strategy.tell(
        [trial(i, a, loss=v) for i, (a, v) in enumerate(zip([*others, best], (3, 2, 1), strict=True))], None
    )
    assert {_steps(best, p.candidate) for p in strategy.ask(100, stream(1))} == {1}


def test_the_oldest_dies_however_good_it_is():
    strategy, best = _grown(tournament=64), _architecture(0, 0, 0, 0)
    second = _architecture(4, 4, 4, 4)
    strategy.tell([trial(0, best, loss=0.0)], None)
    strategy.tell([trial(i, second, loss=1.0) for i in (1, 2)], None)
    assert {_steps(best, p.candidate) for p in strategy.ask(50, stream(1))} == {1}
    strategy.tell([trial(3, second, loss=1.0)], None)
    assert {_steps(second, p.candidate) for p in strategy.ask(50, stream(1))} == {1}


def test_failures_do_not_enter_and_do_not_age_others():
    strategy, best = _grown(tournament=64), _architecture(0, 0, 0, 0)
    strategy.tell([trial(i, best, loss=0.0) for i in range(3)], None)
    strategy.tell([failed(3 + i, _architecture(4, 4, 4, 4)) for i in range(10)], None)
    assert {_steps(best, p.candidate) for p in strategy.ask(50, stream(1))} == {1}


def test_founders_that_are_pending_count():
    strategy, best = _grown(4, tournament=64), _architecture(0, 0, 0, 0)
    strategy.tell([trial(0, best, loss=0.0)], None)
    pending = [Proposal(_architecture(1, 1, 1, 1), ("loss",))] * 3
    assert {_steps(best, p.candidate) for p in strategy.ask(50, stream(1), pending)} == {1}
    assert {_steps(best, p.candidate) for p in strategy.ask(53, stream(1))[3:]} == {1}
    assert any(_steps(best, p.candidate) > 1 for p in strategy.ask(3, stream(1)))


def test_feasible_members_win_tournaments_against_better_infeasible_ones():
    strategy = AgingEvolution(SPACE, parse_objectives("min loss, limit cost <= 1"), 2, 64)
    allowed, broken = _architecture(0, 0, 0, 0), _architecture(4, 4, 4, 4)
    strategy.tell([trial(0, allowed, loss=9.0, cost=1.0), trial(1, broken, loss=0.0, cost=1.1)], None)
    assert {_steps(allowed, p.candidate) for p in strategy.ask(50, stream(1))} == {1}


def test_crossover_brings_two_parents_together():
    strategy = _grown(2, tournament=1, crossover=1.0)
    a, b = _architecture(0, 0, 0, 0), _architecture(4, 4, 4, 4)
    strategy.tell([trial(0, a, loss=1.0), trial(1, b, loss=1.0)], None)
    children = [p.candidate for p in strategy.ask(100, stream(1))]
    mixed = [c for c in children if _steps(a, c) > 1 and _steps(b, c) > 1]
    assert len(mixed) > 20


# --- NSGA-II --------------------------------------------------------------------------------------


def test_survivors_are_the_first_fronts_then_the_least_crowded():
    first = [_record((0.0, 4.0), name=0), _record((4.0, 0.0), name=1)]
    second = [_record((x, 9.0 - x), name=10 + i) for i, x in enumerate((1.0, 4.0, 4.2, 4.4, 8.0))]
    kept = least_crowded([*second, *first], 5)
    assert {r.architecture["n"] for r in kept[:2]} == {0, 1}
    assert {r.architecture["n"] for r in kept[2:4]} == {10, 14}
    assert kept[4].architecture["n"] == 13


def test_survivors_take_feasible_then_less_violating_ones():
    records = [_record((0.0, 0.0), 0.3, 0), _record((9.0, 9.0), 0.0, 1), _record((0.0, 0.0), 0.1, 2)]
    assert [r.architecture["n"] for r in least_crowded(records, 3)] == [1, 2, 0]
    assert [r.architecture["n"] for r in least_crowded(records, 2)] == [1, 2]


def test_survivors_match_a_brute_force_sorting():
    rng = stream(3)
    costs = rng.integers(0, 6, size=(40, 3)).astype(float)
    records = [_record(tuple(row), name=i) for i, row in enumerate(costs.tolist())]
    left, expected = list(records), []
    while len(expected) < 20:
        front = [r for r in left if not any(other.dominates(r) for other in left)]
        expected.append({r.architecture for r in front})
        left = [r for r in left if r not in front]
        if sum(map(len, expected)) >= 20:
            break
    kept = [r.architecture for r in least_crowded(records, 20)]
    whole = set().union(*expected[:-1])
    assert len(kept) == 20
    assert set(kept[: len(whole)]) == whole
    assert set(kept[len(whole) :]) <= expected[-1]


def test_a_generation_ends_with_its_worth_of_offspring_however_it_is_told():
    def after(portions):
        strategy = nsga2(SPACE, TWO, population=6)
        rng = stream(4)
        told = [
            trial(i, SPACE.sample(rng), near=float(rng.random()), cost=float(rng.random())) for i in range(6)
        ]
        for portion in portions:
            strategy.tell(told[portion], None)
        return strategy.ask(5, stream(5))

    whole = after([slice(0, 6)])
    assert after([slice(0, 1), slice(1, 5), slice(5, 6)]) == whole
    assert after([slice(0, 5)]) != whole


def test_children_are_new_while_there_is_anything_new_nearby():
    strategy = nsga2(SPACE, TWO, population=10)
    trials = drive(strategy, Shifted(SPACE, 0).evaluate, 250, batch=10)
    candidates = [t.proposal.candidate for t in trials]
    assert len(set(candidates)) >= 0.98 * len(candidates)
    pending = strategy.ask(10, stream(6))
    again = strategy.ask(10, stream(6), pending)
    assert not {p.candidate for p in again} & {p.candidate for p in pending}


def test_the_whole_front_of_a_known_problem_is_found():
    space = plain_space(6, 3)
    for seed in range(3):
        problem = Shifted(space, seed)
        trials = drive(nsga2(space, TWO, population=20), problem.evaluate, 500, seed=seed, batch=10)
        found = {tuple(point) for point in Front(trials, TWO).points.tolist()}
        assert found == problem.front()


# --- the choice, and what both share ----------------------------------------------------------------


def test_evolution_chooses_by_the_number_of_goals():
    assert isinstance(evolution(SPACE, parse_objectives("min a, limit b < 1")), AgingEvolution)
    assert isinstance(evolution(SPACE, parse_objectives("min a, max b")), Generational)


@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 1}, "population must be at least 2, got 1"),
        ({"tournament": 0}, "tournament must be at least 1, got 0"),
        ({"crossover": 1.5}, r"crossover must lie in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_settings_are_refused_in_words(objectives, settings, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        evolution(SPACE, objectives, **settings)


def test_an_architecture_as_baseline_joins_the_population():
    best = _architecture(0, 0, 0, 0)
    for strategy in (AgingEvolution(SPACE, ONE, 2), nsga2(SPACE, ONE, 2, crossover=0.0)):
        strategy.tell([trial(i, best, role="baseline", loss=0.0) for i in range(2)], None)
        assert _steps(best, strategy.ask(1, stream(0))[0].candidate) == 1


@pytest.mark.parametrize("goal", ["min loss", "min near, min cost"])
def test_evolution_beats_random_search_beyond_doubt(goal):
    """A small version of benchmarks/search_quality.py: the mean paired gain is above 3 standard errors."""
    from nas.strategies.random_search import RandomSearch

    space, objectives = plain_space(8, 5), parse_objectives(goal)

    def run(make):
        return np.array([quality(make, space, objectives, seed, 200) for seed in range(8)])

    gain = run(lambda s, o: evolution(s, o, population=20)) - run(RandomSearch)
    assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(8)


def test_evolution_improves_on_numbers_too():
    space = mixed_space()
    trials = drive(evolution(space, ONE, population=20), Shifted(space, 1).evaluate, 300)
    losses = [t.values["loss"] for t in trials]
    assert min(losses) < 0.05
    assert np.median(losses[-100:]) < 0.5 * np.median(losses[:20])
