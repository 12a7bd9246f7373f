"""Members whose weights are gone are evaluated again before the front is reported."""

from __future__ import annotations

from toys import plain_space

from nas import Budget, FunctionEvaluator, Study, parse_objectives
from nas.registry import create

GOALS = parse_objectives("max ones, min cost")


def values(architecture):
    codes = [len(str(v)) + i % 2 for i, v in enumerate(architecture.values())]
    return {"ones": float(sum(codes)), "cost": float(sum(i * c for i, c in enumerate(codes)))}


def searched():
    space = plain_space()
    strategy = create("strategy", "random", {"space": space, "objectives": GOALS})
    study = Study(space, GOALS, FunctionEvaluator(values, ("ones", "cost")), strategy)
    study.run(Budget(trials=20))
    return study


def confirmed(study):
    return [t for t in study.history.trials if t.role == "confirm"]


def test_nothing_is_confirmed_where_nothing_is_lost():
    study = searched()
    study.confirm()
    assert not confirmed(study)


def test_a_member_whose_weights_are_lost_is_evaluated_in_full_and_only_then():
    study = searched()
    lost = study.front()[0].candidate
    study.confirm(lambda member: member.candidate == lost)
    assert [t.proposal.candidate for t in confirmed(study)] == [lost]
    assert set(confirmed(study)[0].values) == {"ones", "cost"}
    assert study.spent.trials == 20, "what is confirmed is not searched"
