"""Every registered strategy × every check."""

from __future__ import annotations

import pytest
from toys import OF_A_POOL, OF_PATHS, counted, ten_batches

from nas.registry import create, names
from nas.testing import SEARCHING_CHECKS, STRATEGY_CHECKS, check_strategy

LEARNS_NOTHING = ("distinct", "grid", "halving", "hyperband", "random")
"""Strategies that do not use what they are told, and so cannot beat random search where every evaluation
costs the same; by default the wrappers among them wrap random search. Of what strategies of a pool ask for,
half are no objectives: they are compared where metrics cost nothing (tests/strategies/test_robot.py)."""

NOT_COMPARED = {*LEARNS_NOTHING, *OF_A_POOL, *OF_PATHS}
"""Path samplers search nothing: what they train is searched by others."""


def _factory(name):
    def make(space, objectives):
        spec = {"name": name, **OF_A_POOL.get(name, {}), **OF_PATHS.get(name, {})}
        offers = {"space": space, "objectives": objectives}
        if name in OF_PATHS:
            offers |= {"task": ten_batches(), "known": counted(space)}
        return create("strategy", spec, offers)

    return make


@pytest.mark.parametrize("check", STRATEGY_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", names("strategy"))
def test_strategy(name, check):
    check(_factory(name))


@pytest.mark.parametrize("check", SEARCHING_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", sorted({*names("strategy")} - NOT_COMPARED))
def test_searching_strategy(name, check):
    check(_factory(name))


def test_all_findings_are_listed_for_an_author():
    findings = check_strategy(_factory("random"))
    assert [name for name, _ in findings] == [check.__name__ for check in STRATEGY_CHECKS]
    assert all(message is None for _, message in findings)
