"""What every strategy must keep to, as plain functions on small problems with known answers."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nas.architecture import Architecture
from nas.errors import must
from nas.front import Front, hypervolume
from nas.objective import Objective, minimised, parse_objectives
from nas.proposal import Failure, Measurement, Outcome, Proposal, Trial
from nas.rng import stream
from nas.strategy import Strategy, check_pair
from nas.testing.drive import drive, proceed
from nas.testing.expect import expect, generators_untouched
from nas.testing.problems import SPACES, SharedToySpace, Shifted, small_space

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nas.space import Space

Make: TypeAlias = "Callable[[Space, Sequence[Objective]], Strategy]"
"""Gives a fresh strategy for a space and objectives."""

GOALS = ("min loss", "min near, min cost", "min loss, min cost <= 4, limit near <= 5.5")
"""Objectives that the problems answer."""
TRIALS = 64
"""Length of a checked run."""
SEARCHES = 8
"""Seeds, and thereby problems, of a comparison with random search."""
SEARCH_TRIALS = 250
"""Trials of each of these searches."""


def check_proposals_lie_in_the_space(make: Make) -> None:
    """Every proposed architecture is canonical, feasible and of the space."""
    for space, objectives in _cases(make):
        problem = Shifted(space, 1)
        for trial in drive(make(space, objectives), problem.evaluate, TRIALS):
            _expect_belongs(space, trial.proposal)


def check_asking_changes_nothing(make: Make) -> None:
    """Asking again with the same generator gives the same answer, at any time of a run."""
    for space, objectives in _cases(make):
        strategy = _Watched(make(space, objectives))
        drive(strategy, Shifted(space, 1).evaluate, TRIALS)


def check_never_more_than_asked(make: Make) -> None:
    """An asking for n, in whole groups, brings at most n proposals, and the first one at least one."""
    for space, objectives in _cases(make):
        for groups in (1, 3, 17):
            strategy = make(space, objectives)
            strategy.tell((), stream(0, "tell", -1))
            n = groups * strategy.group
            got = len(strategy.ask(n, stream(0, "ask", 0)))
            expect(1 <= got <= n, f"ask({n}) must give 1 to {n} proposals at first, got {got}")
            watched = _Watched(make(space, objectives))
            drive(watched, Shifted(space, 1).evaluate, TRIALS, batch=groups)


def check_same_seed_same_run(make: Make) -> None:
    """Two runs with one seed are equal, and draw nothing from the global generators."""
    for space, objectives in _cases(make):
        problem = Shifted(space, 1)
        with generators_untouched("a strategy"):
            first = drive(make(space, objectives), problem.evaluate, TRIALS, seed=3)
        second = drive(make(space, objectives), problem.evaluate, TRIALS, seed=3)
        _expect_equal(first, second, "the same seed must give the same run")


def check_resume_equals_straight_run(make: Make) -> None:
    """Half a run, taken up by a fresh strategy from the history or a snapshot, ends like a straight one."""
    for space, objectives in _cases(make):
        evaluate = Shifted(space, 1).evaluate
        straight = drive(make(space, objectives), evaluate, TRIALS)
        before = make(space, objectives)
        half = drive(before, evaluate, TRIALS // 2)
        state, after = before.snapshot(), make(space, objectives)
        if state is None:
            resumed = drive(after, evaluate, TRIALS, told=half)
        else:
            after.tell((), stream(0, "tell", -1))
            after.restore(state)
            resumed = proceed(after, evaluate, TRIALS, half)
        _expect_equal(straight, resumed, "a resumed run must equal a straight one")


def check_survives_failures(make: Make) -> None:
    """Failures, NaN and missing values in any mixture, or nothing but failures, do not stop a strategy."""
    for space, objectives in _cases(make):
        problem = Shifted(space, 1)
        for evaluate in (_Unreliable(problem, period=5), _Unreliable(problem, period=1)):
            trials = drive(make(space, objectives), evaluate, TRIALS)
            expect(len(trials) >= TRIALS, f"failures must not end the search, got {len(trials)} trials")
            for trial in trials:
                _expect_belongs(space, trial.proposal)


def check_works_with_pending(make: Make) -> None:
    """Four places that are refilled one by one, whichever ends first, are kept busy for the whole run.

    Where proposals come in groups, a place is one group's.
    """
    for space, objectives in _cases(make):
        problem = Shifted(space, 1)
        told = _asynchronous(make(space, objectives), problem.evaluate, TRIALS)
        most = TRIALS + told[-1].size - 1 if told else 0  # groups are whole
        possible = f"{TRIALS} trials must be possible with 4 pending, got {len(told)}"
        expect(TRIALS <= len(told) <= most, possible)
        for trial in told:
            _expect_belongs(space, trial.proposal)


def check_takes_the_baseline(make: Make) -> None:
    """A baseline is told before anything else, and bounds may be relative to it."""
    for space, _ in _cases(make):
        objectives = parse_objectives("min loss <= baseline * 2")
        problem, strategy = Shifted(space, 1), make(space, objectives)
        proposal = Proposal(problem.other, ("loss",))
        baseline = Trial(0, proposal, problem.evaluate(proposal), role="baseline")
        for trial in drive(strategy, problem.evaluate, TRIALS, told=[baseline]):
            _expect_belongs(space, trial.proposal)


def check_exhausts_a_small_space(make: Make) -> None:
    """Each of four architectures is proposed within 200 trials."""
    for goal in GOALS:
        objectives = parse_objectives(goal)
        space = _suited(make, small_space(), objectives)
        if _fits(make(space, objectives), space, objectives):
            trials = drive(make(space, objectives), Shifted(space, 1).evaluate, 200)
            found = {trial.proposal.candidate for trial in trials}
            expect(len(found) == 4, f"all 4 architectures must be found, got {len(found)}")


STRATEGY_CHECKS: tuple[Callable[[Make], None], ...] = (
    check_proposals_lie_in_the_space,
    check_asking_changes_nothing,
    check_never_more_than_asked,
    check_same_seed_same_run,
    check_resume_equals_straight_run,
    check_survives_failures,
    check_works_with_pending,
    check_takes_the_baseline,
    check_exhausts_a_small_space,
)
"""Called with a factory that gives a fresh strategy for a space and objectives."""


def check_beats_random_search(make: Make) -> None:
    """On problems with shifted optima, the mean over fixed seeds is better than that of random search."""
    from nas.strategies.random_search import RandomSearch

    space = SPACES["plain"]()
    for goal in GOALS[:2]:
        objectives = parse_objectives(goal)
        if not _fits(make(space, objectives), space, objectives):
            continue
        own, random = (
            fmean(quality(factory, space, objectives, seed, SEARCH_TRIALS) for seed in range(SEARCHES))
            for factory in (make, RandomSearch)
        )
        expect(own > random, f"searching for {goal!r} must beat random's {random:.4f}, got {own:.4f}")


SEARCHING_CHECKS: tuple[Callable[[Make], None], ...] = (check_beats_random_search,)
"""For strategies that learn: called as `STRATEGY_CHECKS` are."""


def quality(make: Make, space: Space, objectives: Sequence[Objective], seed: int, trials: int) -> float:
    """How good the front of one search of a `Shifted` problem is.

    Args:
        make: gives the strategy.
        space: of the problem.
        objectives: goals among ``loss``, ``near`` and ``cost``, without bounds.
        seed: of the problem and the search.
        trials: length of the search.

    Returns:
        Hypervolume in [0, 1] of the box from 0 to 1.5 per decision and goal; more is better.
    """
    problem = Shifted(space, seed)
    done = drive(make(space, objectives), problem.evaluate, trials, seed=seed, batch=10)
    front = Front(done, objectives)
    points = minimised([member.values for member in front], objectives)
    return hypervolume(np.minimum(points / (1.5 * len(space.leaves)), 1.0))


class _Watched(Strategy):
    """Passes on to a strategy, which it asks twice, and whose answers must not be longer than asked."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.group = strategy.group

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        twin = np.random.Generator(type(rng.bit_generator)())
        twin.bit_generator.state = rng.bit_generator.state
        first, second = self._strategy.ask(n, twin, pending), self._strategy.ask(n, rng, pending)
        expect(first == second, f"asking twice with one generator must agree, got {second} after {first}")
        expect(len(second) <= n, f"ask({n}) must give at most {n} proposals, got {len(second)}")
        return second

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        self._strategy.tell(trials, rng)
        self.group = self._strategy.group


class _Unreliable:
    """Answers as the problem does only every so often; else fails in one of four ways."""

    def __init__(self, problem: Shifted, period: int) -> None:
        self._problem = problem
        self._period = period
        self._count = 0

    def __call__(self, proposal: Proposal) -> Outcome:
        self._count += 1
        if self._period > 1 and self._count % self._period == 0:
            return self._problem.evaluate(proposal)
        broken: tuple[Outcome, ...] = (
            Failure("error", "as planned"),
            Measurement({}),
            Measurement(dict.fromkeys(proposal.metrics, float("nan"))),
            Measurement({proposal.metrics[0]: 1.0, **dict.fromkeys(proposal.metrics[1:], float("inf"))}),
        )
        return broken[self._count % (4 if self._period > 1 else 1)]


def _asynchronous(strategy: Strategy, evaluate: Callable[[Proposal], Outcome], trials: int) -> list[Trial]:
    """Four places; at each turn all free ones are filled, and a random one's group ends and is told alone."""
    strategy.tell((), stream(0, "tell", -1))
    order, running, told, number = stream(0, "order"), list[list[Trial]](), list[Trial](), 0
    while len(told) < trials:
        group = strategy.group
        n = group * min(4 - len(running), -(-(trials - number) // group))
        pending = [trial.proposal for trials_of_group in running for trial in trials_of_group]
        fresh = strategy.ask(n, stream(0, "ask", number), pending) if n > 0 else []
        expect(len(fresh) <= n, f"ask({n}) must give at most {n} proposals, got {len(fresh)}")
        for start in range(0, len(fresh), group):
            part = fresh[start : start + group]
            running.append(
                [
                    Trial(number + i, p, evaluate(p), "search", number, i, len(part))
                    for i, p in enumerate(part)
                ]
            )
            number += len(part)
        if not running:
            break
        ended = running.pop(int(order.integers(len(running))))
        strategy.tell(ended, stream(0, "tell", ended[0].number))
        told += ended
    return told


def _cases(make: Make) -> list[tuple[Space, tuple[Objective, ...]]]:
    """The toy spaces and objectives that the strategy can work with."""
    goals = [parse_objectives(goal) for goal in GOALS]
    every: list[tuple[Space, tuple[Objective, ...]]] = [
        (_suited(make, space(), o), o) for space in SPACES.values() for o in goals
    ]
    fitting = [(s, o) for s, o in every if _fits(make(s, o), s, o)]
    if not fitting:
        raise must("the strategy", "fit one of the toy problems to be checked", sorted(SPACES))
    return fitting


def _suited(make: Make, space: Space, objectives: Sequence[Objective]) -> Space:
    """The space, with shared weights where the strategy needs some."""
    return SharedToySpace(space) if "supernet" in make(space, objectives).needs else space


def _fits(strategy: Strategy, space: Space, objectives: Sequence[Objective]) -> bool:
    probe = space.sample(stream(0, "probe"))
    return check_pair(strategy, "the strategy", space, probe, objectives) is None


def _expect_belongs(space: Space, proposal: Proposal) -> None:
    a = proposal.candidate
    if isinstance(a, Architecture):
        canonical = space.architecture(a)
        expect(canonical == a and space.feasible(a), f"proposals must lie in the space, got {a}")


def _expect_equal(first: Sequence[Trial], second: Sequence[Trial], what: str) -> None:
    a, b = ([(t.proposal, t.batch) for t in trials] for trials in (first, second))
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    expect(a == b, f"{what}, got a difference at trial {at} of {len(a)} and {len(b)}")
