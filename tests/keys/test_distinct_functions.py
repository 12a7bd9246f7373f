"""Strategies that refuse functions instead of architectures."""

from __future__ import annotations

from collections import Counter

import pytest

from nas import Distinct, Proposal, keys, parse_objectives
from nas.errors import BadInput
from nas.registry import create
from nas.rng import stream
from nas.spaces.nasbench201 import NasBench201Space
from nas.strategy import Strategy
from nas.testing import drive

CELLS = NasBench201Space(nodes=3)
KEY = keys.create("symbolic", CELLS)
FUNCTIONS = len({KEY(a) for a in CELLS.enumerate()})


def visits_of(limit, trials=1_000):
    """How often each function was proposed by a random search that may visit it ``limit`` times."""
    objectives = parse_objectives("min loss")
    random = create("strategy", "random", {"space": CELLS, "objectives": objectives})
    strategy = Distinct(random, key=KEY, visits=limit)
    told = drive(strategy, lambda _: {"loss": 0.0}, trials, batch=5)
    return Counter(KEY(t.proposal.candidate) for t in told)


def test_no_function_is_proposed_twice():
    found = visits_of(1)
    assert set(found.values()) == {1}
    assert len(found) == FUNCTIONS < CELLS.size


def test_over_visited_functions_are_tabu():
    found = visits_of(3)
    assert set(found.values()) == {3}
    assert len(found) == FUNCTIONS


class Listed(Strategy):
    """Proposes the same list again and again; its state is empty."""

    def __init__(self, *texts):
        self.proposals = [Proposal(CELLS.from_string(text), ("loss",)) for text in texts]

    def ask(self, n, rng, pending=()):
        return self.proposals[:n]

    def tell(self, trials, rng):
        pass

    def snapshot(self):
        return {}

    def restore(self, state):
        pass


SKIP = "|skip_connect~0|+|none~0|skip_connect~1|"
TWIN = "|none~0|+|skip_connect~0|none~1|"


def test_pending_functions_count_and_snapshots_keep_the_visits():
    strategy = Distinct(listed := Listed(SKIP, TWIN), key=KEY, attempts=2)
    first, twin = listed.proposals
    assert strategy.ask(2, stream(0)) == [first]
    assert strategy.ask(2, stream(0), pending=[twin]) == []
    assert Distinct(listed, attempts=2).ask(2, stream(0), pending=[twin]) == [first]
    twice = Distinct(listed, key=KEY, visits=2, attempts=2)
    (trial,) = drive(Distinct(listed, key=KEY, attempts=2), lambda _: {"loss": 0.0}, 1)
    twice.tell([trial], stream(0))
    again = Distinct(listed, key=KEY, visits=2, attempts=2)
    again.restore(twice.snapshot())
    assert again.ask(2, stream(0)) == [first], "one visit of two is left"


def test_visits_must_be_positive():
    with pytest.raises(BadInput, match="visits must be at least 1"):
        Distinct(Listed(SKIP), visits=0)
