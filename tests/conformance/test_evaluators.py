"""Every registered evaluator × every check, on small perceptrons for the smallest task."""

from __future__ import annotations

import functools

import pytest

from nas import Proposal, Target, parse_objectives
from nas.registry import create, names
from nas.rng import stream
from nas.testing import EVALUATOR_CHECKS

SETTINGS = {"training": {"epochs": 1}}
"""What makes some evaluators quick."""


@functools.cache
def _offers():
    task = create("task", {"name": "digits", "limit": 128})
    space = create("space", {"name": "mlp", "layers": 2, "widths": [4, 8]}, {"task": task})
    return {"task": task, "space": space, "target": Target(), "objectives": parse_objectives("max accuracy")}


@functools.cache
def _subject(name):
    evaluator = create("evaluator", {"name": name, **SETTINGS.get(name, {})}, _offers())
    rng, space = stream(0, "conformance"), _offers()["space"]
    metrics = tuple(sorted(evaluator.metrics))
    proposals = [Proposal(space.sample(rng), metrics) for _ in range(2)]
    return evaluator, [*proposals, Proposal(space.sample(rng), metrics[:1])]


@pytest.mark.parametrize("check", EVALUATOR_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", names("evaluator"))
def test_evaluator(name, check):
    check(*_subject(name))
