"""A search of a toy with failures, bounds, a baseline and graphs."""

from __future__ import annotations

from nas.cli.opened import found, opened
from nas.config import load, resolved, search_of
from nas.run import Run

OWN = '''
import nas
from torch import nn

SIZES = {"conv": 3.0, "pool": 1.0, "skip": 0.0}


class Chain(nas.Space):
    """Up to three operations in a row around a shortcut."""

    decisions = (
        nas.Integer("width", 1, 8),
        nas.Categorical("first", ("conv", "pool", "skip")),
        nas.Categorical("second", ("conv", "pool", "skip")),
        nas.Categorical("third", ("conv", "pool", "skip"), when=nas.When("second", ("conv", "pool"))),
    )

    def build(self, a):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, a["width"]), nn.Linear(a["width"], 10))

    def graph(self, a):
        ops = [a[name] for name in ("first", "second", "third") if name in a]
        nodes = [(f"input:{a['width']}", ())] + [(op, (i,)) for i, op in enumerate(ops)]
        return nas.Graph([*nodes, ("sum", (0, len(nodes) - 1))])


def _measure(architecture):
    size = sum(SIZES[v] for v in list(architecture.values())[1:])
    if architecture["width"] == 7:
        raise ValueError(f"<script>alert('{size}')</script> & more")
    score = 0.5 + 0.04 * size + 0.01 * architecture["width"] ** 0.5
    return {"score": score, "cost": 1.0 + size * architecture["width"], "size": size}


def evaluator():
    return nas.FunctionEvaluator(_measure, ("score", "cost", "size"))
'''
CONFIG = """\
space: {factory: "./own.py:Chain"}
task: {name: digits, limit: 60}
objectives: "max score >= 0.52, min cost < 20, limit size <= 8"
baseline: {width: 2, first: pool, second: conv, third: skip}
evaluators: [{factory: "./own.py:evaluator"}]
strategy: {name: evolution, population: 10}
budget: {trials: 70}
"""


def search(folder, seed=0, settings=()):
    """A finished run, opened to be read."""
    place = folder.parent
    (place / "own.py").write_text(OWN)
    (place / "search.yaml").write_text(CONFIG)
    config, here = load(place / "search.yaml", [f"seed={seed}", *settings])
    run = Run(search_of(config, here), folder, config=resolved(config, here))
    try:
        run.search()
    finally:
        run.close()
    return opened(found(folder, None, None))
