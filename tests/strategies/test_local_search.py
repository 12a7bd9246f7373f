"""Local search: hill climbing, Pareto local search, restarts."""

from __future__ import annotations

from toys import Shifted, ToySpace, failed, mixed_space, plain_space, trial

from nas import Categorical, Integer, Proposal, parse_objectives
from nas.front import Front
from nas.proposal import Measurement
from nas.rng import stream
from nas.strategies.local_search import LocalSearch
from nas.testing import drive

ONE, TWO = parse_objectives("min loss"), parse_objectives("min near, min cost")


def _steps(a, b):
    return sum(a[name] != b[name] for name in a)


def test_each_proposal_is_a_neighbour_of_the_best_until_the_climb_ends():
    space = plain_space(5, 4)
    problem, trials = Shifted(space, 2), []
    trials = drive(LocalSearch(space, parse_objectives("min near")), problem.evaluate, 60, batch=1)
    best = trials[0]
    for t in trials[1:]:
        assert _steps(best.proposal.candidate, t.proposal.candidate) == 1
        best = min(best, t, key=lambda trial: trial.values["near"])
        if best.values["near"] == 0:
            break
    assert best.proposal.candidate == problem.optimum


def test_a_climb_visits_all_neighbours_before_it_restarts_and_none_twice():
    space = plain_space(3, 3)
    flat = drive(LocalSearch(space, ONE), lambda _p: Measurement({"loss": 1.0}), 8, batch=1)
    start = flat[0].proposal.candidate
    assert {_steps(start, t.proposal.candidate) for t in flat[1:7]} == {1}
    assert len({t.proposal.candidate for t in flat}) == 8
    assert _steps(start, flat[7].proposal.candidate) > 1


def test_a_local_optimum_is_left_by_a_restart():
    space = ToySpace([Integer("i", 0, 99)])

    def two_valleys(proposal):
        i = proposal.candidate["i"]
        return Measurement({"loss": float(min(abs(i - 10) + 1, abs(i - 90)))})

    for seed in range(5):
        trials = drive(LocalSearch(space, ONE), two_valleys, 150, seed=seed, batch=1)
        assert min(t.values["loss"] for t in trials) == 0


def test_known_neighbours_are_taken_from_memory():
    space = plain_space(3, 3)
    trials = drive(LocalSearch(space, ONE), Shifted(space, 0).evaluate, 27, batch=1)
    assert len({t.proposal.candidate for t in trials}) == 27


def test_several_neighbours_can_be_pending_at_once():
    space = plain_space(4, 3)
    strategy = LocalSearch(space, ONE)
    strategy.tell((), stream(0))
    (start,) = strategy.ask(1, stream(1))
    strategy.tell([trial(0, start.candidate, loss=1.0)], stream(2))
    first = strategy.ask(5, stream(3))
    rest = strategy.ask(50, stream(3), first)
    assert len({p.candidate for p in first + rest}) == len(first) + len(rest) == 4 * 2


def test_failed_starts_and_neighbours_are_passed_over():
    space = plain_space(4, 3)
    strategy = LocalSearch(space, ONE)
    strategy.tell((), stream(0))
    (broken,) = strategy.ask(1, stream(1))
    strategy.tell([failed(0, broken.candidate)], stream(2))
    (start,) = strategy.ask(1, stream(4))
    assert start != broken
    strategy.tell([trial(1, start.candidate, loss=1.0)], stream(5))
    (near,) = strategy.ask(1, stream(6))
    strategy.tell([failed(2, near.candidate)], stream(7))
    assert near not in strategy.ask(50, stream(8))
    assert len(strategy.ask(50, stream(8))) == 7


def test_the_archive_of_a_climb_spreads_along_the_front():
    space = plain_space(6, 3)
    for seed in range(3):
        problem = Shifted(space, seed)
        trials = drive(LocalSearch(space, TWO), problem.evaluate, 400, seed=seed)
        assert {tuple(point) for point in Front(trials, TWO).points.tolist()} == problem.front()


def test_a_baseline_architecture_is_where_the_search_starts():
    space = ToySpace([Categorical("a", ("x", "y", "z")), Categorical("b", (0, 1))])
    start = space.architecture({"a": "x", "b": 0})
    strategy = LocalSearch(space, ONE)
    strategy.tell((), stream(0))
    strategy.tell([trial(0, start, role="baseline", loss=1.0)], stream(1))
    asked = strategy.ask(9, stream(2))
    assert {_steps(start, p.candidate) for p in asked} == {1}
    assert len(asked) == 3
    assert asked == [Proposal(p.candidate, ("loss",)) for p in asked]


def test_numbers_are_found_to_a_hundredth_of_their_range_by_smaller_and_smaller_steps():
    space = mixed_space()
    for seed in range(3):
        trials = drive(
            LocalSearch(space, parse_objectives("min near")), Shifted(space, seed).evaluate, 200, seed=seed
        )
        assert min(t.values["near"] for t in trials) < 0.01
