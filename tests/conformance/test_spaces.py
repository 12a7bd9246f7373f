"""Every registered space × every check, with inputs of the smallest task."""

from __future__ import annotations

import functools

import pytest
import torch
from toys import SPACES

from nas.registry import create, names
from nas.rng import stream
from nas.testing import SPACE_CHECKS, check_space

CONV = {"stages": 2, "widths": [4, 8]}

SETTINGS = {
    "hyper": lambda task: {"model": lambda: _small(task)},
    "join": lambda task: {
        "parts": {
            "conv": create("space", {"name": "conv", **CONV}, {"task": task}),
            "hyper": create("space", "hyper", {"task": task}),
        }
    },
    "nasbench201": lambda _task: {"cells": 1, "channels": 4},
    "conv": lambda _task: CONV,
    "darts": lambda _task: {"layers": 3, "channels": 4},
    "hw_gpt_bench": lambda _task: {"vocabulary": 10},
    "mobile": lambda _task: {"width": 0.25, "depth": 2},
    "nasbench_macro": lambda _task: {"channels": 4},
    "transnasbench101_macro": lambda _task: {"channels": 4},
    "transnasbench101_micro": lambda _task: {"channels": 4},
    "vit": lambda _task: {"embed_dims": [8, 16], "depth": 4},
}
"""What some spaces need to be given, or to be small."""

EXAMPLES = {"hw_gpt_bench": torch.arange(10).reshape(2, 5)}
"""Inputs of the spaces whose modules do not read the task's."""


def _small(task):
    space = create("space", {"name": "conv", **CONV}, {"task": task})
    return space.build(space.sample(stream(0, "model")))


@functools.cache
def _task():
    return create("task", {"name": "digits", "limit": 64})


@functools.cache
def _space(name):
    settings = SETTINGS.get(name, lambda _task: {})(_task())
    return create("space", {"name": name, **settings}, {"task": _task()})


@pytest.mark.parametrize("check", SPACE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", names("space"))
def test_space(name, check):
    check(_space(name), EXAMPLES.get(name, _task().example(4)))


@pytest.mark.parametrize("name", SPACES)
def test_toy_spaces_pass_every_check(name):
    findings = check_space(SPACES[name](), torch.zeros(2, 4))
    assert [name for name, _ in findings] == [check.__name__ for check in SPACE_CHECKS]
    assert [finding for finding in findings if finding[1] is not None] == []
