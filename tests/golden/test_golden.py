"""What each strategy proposes first does not change unnoticed.

``keys.json`` holds the first 20 architecture keys by strategy and seed. After an intended change, run
``pytest tests/golden --renew-golden``, look at the difference, and say in the changelog that searches with
the same seed now propose other architectures.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toys import OF_A_POOL, OF_PATHS, Shifted, conditional_space, counted, ten_batches

from nas import parse_objectives
from nas.proposal import Measurement
from nas.registry import create
from nas.strategies import BUILTIN
from nas.testing import drive
from nas.testing.problems import SharedToySpace

FILE = Path(__file__).with_name("keys.json")
SEEDS = (0, 1, 2)


def _paths(name, seed):
    """What a sampler of paths trains first."""
    space = SharedToySpace(conditional_space())
    offers = {"space": space, "objectives": (), "task": ten_batches(), "known": counted(space)}
    strategy = create("strategy", {"name": name, **OF_PATHS[name]}, offers)
    trials = drive(strategy, lambda p: Measurement(dict.fromkeys(p.metrics, 1.0)), 20, seed=seed)
    return [trial.proposal.candidate.key for trial in trials[:20]]


def _keys(name, seed):
    """A population of 8 lets children appear among the first 20."""
    if name in OF_PATHS:
        return _paths(name, seed)
    space = conditional_space()
    one = name == "aging_evolution" or name in OF_A_POOL
    objectives = parse_objectives("min loss" if one else "min near, min cost")
    breeds = name in ("aging_evolution", "evolution", "nsga2", "nsga3")
    settings = {"population": 8} if breeds else OF_A_POOL.get(name, {})
    strategy = create("strategy", {"name": name, **settings}, {"space": space, "objectives": objectives})
    trials = drive(strategy, Shifted(space, seed).evaluate, 20, seed=seed)
    return [trial.proposal.candidate.key for trial in trials[:20]]


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_the_first_proposals_are_as_recorded(name, request):
    now = {str(seed): _keys(name, seed) for seed in SEEDS}
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {}
    if request.config.getoption("renew_golden"):
        FILE.write_text(json.dumps({**recorded, name: now}, indent=1, sort_keys=True) + "\n")
        pytest.skip(f"{name} was recorded anew")
    assert name in recorded, f"{name} must be recorded: pytest tests/golden --renew-golden"
    for seed, keys in now.items():
        assert keys == recorded[name][seed], f"{name} proposes other architectures under seed {seed}"


def test_nothing_is_recorded_that_no_longer_exists():
    assert set(json.loads(FILE.read_text())) == set(BUILTIN)
