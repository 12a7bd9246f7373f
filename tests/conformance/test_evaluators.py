"""Every registered evaluator × every check, on small perceptrons for the smallest task."""

from __future__ import annotations

import functools

import pytest

from nas import Proposal, Target, parse_objectives
from nas.registry import create, names
from nas.rng import stream
from nas.testing import EVALUATOR_CHECKS

SETTINGS = {
    "training": {"epochs": 1},
    "training_free": {"batch_size": 16},
    "latency_transferred": {
        "table": "synthetic",
        "measured": [{"row": row, "latency_ms": 1.0 + row / 10} for row in range(0, 24, 3)],
    },
    "tabular": {"table": "synthetic"},
    "tabular_surrogate": {"table": "synthetic", "predict": ["test_accuracy", "gpu_latency_ms"]},
}
"""What makes some evaluators quick, or what they need to be given."""

SHARED = {"name": "nasbench201", "nodes": 3, "cells": 1, "channels": 4}
"""A space with a supernet, whose weights some evaluators train or look at."""

SPACES = {
    "inherited": SHARED,
    "paths": SHARED,
    "program_optimizer": {"name": "program", "interface": "optimizer"},
    "program_regression": {"name": "program", "width": 4},
    "latency_transferred": {"name": "table"},
    "tabular": {"name": "table"},
    "tabular_surrogate": {"name": "table"},
}
"""What some evaluators measure instead of perceptrons."""

ASKED = {"paths": ("gradient_norm", "train_loss")}
"""What some evaluators are asked for instead of all that they measure, which is not to be had at once."""

TARGETS = {"latency_predicted": create("target", {"name": "t4"})}
"""What some evaluators measure for instead of this machine."""


@functools.cache
def _offers(name):
    task = create("task", {"name": "digits", "limit": 128})
    perceptrons = {"name": "mlp", "layers": 2, "widths": [4, 8]}
    space = create("space", SPACES.get(name, perceptrons), {"task": task})
    target, objectives = TARGETS.get(name, Target()), parse_objectives("max accuracy")
    given = {"task": task, "space": space, "target": target, "objectives": objectives}
    return {**given, "supernet": space.supernet()}


@functools.cache
def _subject(name):
    evaluator = create("evaluator", {"name": name, **SETTINGS.get(name, {})}, _offers(name))
    rng, space = stream(0, "conformance"), _offers(name)["space"]
    metrics = ASKED.get(name, tuple(sorted(evaluator.metrics)))
    proposals = [Proposal(space.sample(rng), metrics) for _ in range(2)]
    return evaluator, [*proposals, Proposal(space.sample(rng), metrics[:1])]


@pytest.mark.parametrize("check", EVALUATOR_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", names("evaluator"))
def test_evaluator(name, check):
    check(*_subject(name))
