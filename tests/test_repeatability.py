"""One config and one seed give one front: again, in another process, and with another hash seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import nas


def shapely(architecture):
    """A cheap stand-in for training: any exact function of the choice."""
    sizes = [float(len(str(value))) for value in architecture.values()]
    return {"error": sum(i * s for i, s in enumerate(sizes)), "size": sum(sizes)}


SEARCHES = {
    "a function": {
        "space": {"name": "nasbench201", "nodes": 3},
        "objectives": "min error, min size",
        "evaluator": shapely,
        "strategy": {"name": "evolution", "population": 8},
        "trials": 40,
        "batch": 4,
        "seed": 5,
    },
    "training": {
        "space": {"name": "mlp"},
        "task": {"name": "digits", "limit": 300, "batch_size": 32},
        "objectives": "max accuracy, min params",
        "evaluator": [{"name": "training", "epochs": 2}],
        "strategy": {"name": "evolution", "population": 3},
        "trials": 6,
        "seed": 5,
    },
}


def found(name):
    """The front and every trial of a search, as JSON values."""
    front = nas.search(**SEARCHES[name])
    rows = [(m.candidate.to_json(), m.candidate.key, dict(sorted(m.values.items())), m.trial) for m in front]
    return json.loads(json.dumps({"members": rows, "hypervolume": front.hypervolume()}))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_front_repeats(name):
    here = found(name)
    assert here["members"]
    assert found(name) == here
    for hash_seed in ("0", "4711"):
        assert elsewhere(name, hash_seed) == here


def elsewhere(name, hash_seed):
    """The same in another process."""
    code = f"import json, test_repeatability as t; print(json.dumps(t.found({name!r})))"
    places = os.pathsep.join(filter(None, [os.path.dirname(__file__), *sys.path]))  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_another_seed_gives_another_search():
    one, other = (dict(SEARCHES["a function"], seed=seed, trials=8) for seed in (5, 6))
    assert [m.candidate for m in nas.search(**one)] != [m.candidate for m in nas.search(**other)]
