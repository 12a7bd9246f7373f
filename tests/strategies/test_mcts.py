"""Monte Carlo tree search: where it goes down, what it closes."""

from __future__ import annotations

import pytest
from toys import Shifted, ToySpace, conditional_space, failed, plain_space, small_space, trial

from nas import BadInput, Categorical, Proposal, parse_objectives
from nas.proposal import Measurement
from nas.rng import stream
from nas.strategies.mcts import Mcts
from nas.testing import drive

ONE = parse_objectives("min loss")


def test_nothing_is_proposed_twice_and_a_finite_space_ends():
    space = conditional_space()
    trials = drive(Mcts(space, ONE), Shifted(space, 0).evaluate, 10**4, batch=50)
    assert len(trials) == len({t.proposal.candidate for t in trials}) == 2635


def test_every_branch_is_tried_before_one_is_tried_again():
    space = plain_space(3, 5)
    first = drive(Mcts(space, ONE), Shifted(space, 0).evaluate, 5, batch=1)
    assert {t.proposal.candidate["d0"] for t in first} == set(range(5))


def test_the_good_branch_is_gone_down_more_often_but_not_alone():
    space = plain_space(4, 4)

    def first_matters(proposal):
        return Measurement({"loss": float(proposal.candidate["d0"] != 2)})

    trials = drive(Mcts(space, ONE), first_matters, 60, batch=1)
    good = sum(t.proposal.candidate["d0"] == 2 for t in trials)
    assert 35 < good < 58


def test_more_exploration_spreads_wider():
    space = plain_space(4, 4)

    def good(exploration):
        strategy = Mcts(space, ONE, exploration=exploration)
        trials = drive(strategy, lambda p: Measurement({"loss": float(p.candidate["d0"] != 2)}), 60, batch=1)
        return sum(t.proposal.candidate["d0"] == 2 for t in trials)

    assert good(0.05) > good(0.5) > good(5.0)


def test_rewards_do_not_depend_on_the_metrics_scale():
    space = plain_space(4, 4)
    problem = Shifted(space, 0)

    def run(scale):
        def evaluate(proposal):
            return Measurement({"loss": scale(problem.evaluate(proposal).values["loss"])})

        return [t.proposal for t in drive(Mcts(space, ONE), evaluate, 60)]

    assert run(lambda v: v) == run(lambda v: 1e9 * v - 1e12)


def test_pending_proposals_turn_the_next_ones_elsewhere():
    space = plain_space(2, 3)
    strategy = Mcts(space, ONE)
    strategy.tell((), stream(0))
    pending: list[Proposal] = []
    for i in range(9):
        pending += strategy.ask(1, stream(i), pending)
    assert len({p.candidate for p in pending}) == 9
    assert strategy.ask(1, stream(9), pending) == []
    assert {p.candidate["d0"] for p in pending[:3]} == {0, 1, 2}


def test_failures_are_the_worst_reward():
    space = ToySpace([Categorical("a", ("bad", "good")), Categorical("b", tuple(range(20)))])
    strategy = Mcts(space, ONE)
    every = {(a["a"], a["b"]): a for a in space.enumerate()}
    strategy.tell([failed(i, every["bad", i]) for i in range(4)], stream(0))
    strategy.tell([trial(4 + i, every["good", i], loss=1e9) for i in range(4)], stream(0))
    assert {p.candidate["a"] for p in strategy.ask(3, stream(1))} == {"good"}


def test_infeasible_ends_are_passed_over():
    space = ToySpace(plain_space(3, 3).decisions, lambda a: sum(a.values()) == 3)
    trials = drive(Mcts(space, ONE), Shifted(space, 0).evaluate, 7, batch=1)
    assert len({t.proposal.candidate for t in trials}) == 7


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_a_wrong_constant_is_refused(value):
    with pytest.raises(BadInput, match=r"^exploration must be finite and at least 0, got"):
        Mcts(small_space(), ONE, exploration=value)
