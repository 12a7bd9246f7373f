"""What a search has used: continued trainings, lost attempts, money, and the time of earlier sessions."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
from test_study import LOSS, SPACE, Listed, Scored, ask_loss, sampled, study
from toys import failed, trial

from nas import BadInput, Budget
from nas.budget import Price, Spent, covered
from nas.history import MemoryHistory
from nas.parts import Parts, Search
from nas.strategies.halving import Halving
from nas.strategies.random_search import RandomSearch

A, B = sampled(2)


def at(number, fidelity, continues=None, candidate=A):
    t = trial(number, candidate, loss=1.0)
    return replace(t, proposal=replace(t.proposal, fidelity=fidelity, continues=continues))


def spent(*trials, price=None):
    found = Spent()
    for t in trials:
        found.add(t, price)
    return found


def test_a_continued_trial_costs_only_what_it_adds():
    climb = [at(0, 1 / 9), at(1, 1 / 9, candidate=B), at(2, 1 / 3, 0), at(3, 1.0, 2)]
    assert [spent(*climb[: n + 1]).evaluations for n in range(4)] == pytest.approx(
        [1 / 9, 2 / 9, 1 / 9 + 1 / 3, 1 / 9 + 1.0]
    )
    assert spent(*climb).trials == 4


def test_what_continues_a_failure_or_nothing_that_is_known_costs_the_whole():
    lost = replace(failed(0, A), proposal=at(0, 1 / 3).proposal)
    assert spent(lost, at(1, 1.0, 0)).evaluations == pytest.approx(1 / 3 + 1)
    assert spent(at(1, 1.0, 0)).evaluations == 1


def test_a_halving_search_gets_what_its_budget_pays_for():
    one = study(Halving(SPACE, LOSS, RandomSearch(SPACE, LOSS), min_fidelity=1 / 9), Scored())
    one.run(Budget(evaluations=6))
    trained = 0.0
    fidelity = {}
    for t in one.history.trials:
        fidelity[t.number] = t.proposal.fidelity
        trained += t.proposal.fidelity - fidelity.get(t.proposal.continues, 0.0)
    assert any(t.proposal.continues is not None for t in one.history.trials)
    assert trained == pytest.approx(one.spent.evaluations)
    assert 6 <= trained < 7


def test_lost_attempts_keep_places_busy_and_cost_money():
    t = replace(trial(0, A, loss=1.0), started=10.0, ended=1810.0, lost_seconds=1800.0)
    found = spent(t, t, price=Price(2.5, "EUR"))
    assert found.device_seconds == 7200
    assert found.cost == pytest.approx(5.0)
    assert Price(2.5, "EUR").text(7200) == "5.00 EUR"
    assert Price(0.01).text(3600) == "0.01"


def test_a_budget_of_money_ends_a_search():
    def slow(proposal):
        time.sleep(0.02)
        return {"loss": 0.0}

    one = study(Listed(ask_loss(sampled(50))), Scored(slow), price=Price(3600.0))
    one.run(Budget(cost=0.1))
    assert one.ended == "budget reached: cost"
    assert 1 <= one.spent.trials <= 5
    assert one.spent.cost == pytest.approx(one.spent.device_seconds)


def test_a_budget_of_money_needs_a_price():
    settings = {"evaluators": [Scored()], "strategy": "random", "budget": Budget(cost=3.0)}
    with pytest.raises(BadInput, match=r"budget\.cost must have a price.*price_per_hour"):
        Parts(Search(SPACE, LOSS, **settings))
    assert Parts(Search(SPACE, LOSS, **settings, price_per_hour=1.0)).study().ended == "not started"
    for price in (-1.0, math.nan, math.inf, "3", True):
        with pytest.raises(BadInput, match="price_per_hour must be a number of at least 0"):
            Parts(Search(SPACE, LOSS, **settings, price_per_hour=price))


def test_shares_are_of_the_limits_that_are_set():
    found = spent(at(0, 0.5), at(1, 0.5))
    assert found.shares(Budget(trials=8, evaluations=4)) == {"trials": 0.25, "evaluations": 0.25}
    assert found.reached(Budget(trials=2, evaluations=4)) == "trials"
    assert found.reached(Budget(trials=3)) is None


def test_time_that_several_evaluations_share_counts_once():
    times = [(0, 4), (1, 2), (3, 6), (10, 11), (5, 5)]
    trials = [replace(trial(i, A, loss=1.0), started=s, ended=e) for i, (s, e) in enumerate(times)]
    assert covered(trials) == 7
    assert covered([]) == 0


def test_wall_time_of_earlier_sessions_counts():
    history = MemoryHistory()
    history.append([replace(trial(i, A, loss=1.0), started=10.0 * i, ended=10.0 * i + 9) for i in range(3)])
    one = study(Listed(ask_loss(sampled(9))), history=history)
    one.run(Budget(wall_seconds=27))
    assert one.ended == "budget reached: wall_seconds"
    assert len(history.trials) == 3
    one.run(Budget(trials=4))
    assert 27 <= one.spent.wall_seconds < 30, "counted once"
