"""The command line called in this process, and a user's own file to search with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from nas.cli import main

if TYPE_CHECKING:
    from pathlib import Path

OWN = '''
import time

import nas
from torch import nn


class Tiny(nas.Space):
    """Perceptrons of one hidden layer for digits."""

    decisions = (nas.Integer("width", 1, 8), nas.Categorical("act", ("relu", "tanh")))

    def __init__(self, classes: int = 10):
        self.classes = classes

    def build(self, a):
        act = nn.ReLU() if a["act"] == "relu" else nn.Tanh()
        hidden = nn.Linear(64, a["width"])
        return nn.Sequential(nn.Flatten(), hidden, act, nn.Linear(a["width"], self.classes))


class Nothing(Tiny):
    """A space where nothing may be chosen."""

    def feasible(self, a):
        return False


class NeedsSupernet(nas.Strategy):
    needs = frozenset({"supernet"})

    def __init__(self, space, objectives):
        pass

    def ask(self, n, rng, pending=()):
        return []

    def tell(self, trials, rng):
        pass


def width(architecture):
    """Wider is better."""
    return {"accuracy": architecture["width"] / 8}


def fails(architecture):
    raise RuntimeError("no such luck\\nsecond line")


def odd_fails(architecture):
    if architecture["width"] % 2:
        raise ValueError("an odd width")
    return architecture["width"] / 8


def sleeps(architecture, fidelity):
    time.sleep(0.3 * fidelity)
    return architecture["width"] / 8


number = 5
'''

QUICK = """\
space: {factory: "./own.py:Tiny"}
task: {name: digits, limit: 60}
objectives: "max accuracy, min params"
evaluators: [{factory: "./own.py:width"}]
strategy: random
budget: {trials: 6}
"""
"""A search that trains nothing."""

TRAINED = """\
space: {factory: "./own.py:Tiny"}
task: {name: digits, limit: 60}
objectives: "max accuracy, min params"
evaluators: [{name: training, epochs: 1}]
strategy: random
budget: {trials: 4}
"""


class Answer(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


class Terminal:
    """Calls ``nas`` in a folder of its own, which holds ``own.py``."""

    def __init__(self, folder: Path, monkeypatch, capsys) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)
        self.write("own.py", OWN)

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name

    def __call__(self, *args: object) -> Answer:
        self._monkeypatch.setattr(sys, "argv", ["nas", *map(str, args)])
        self._capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        out, err = self._capsys.readouterr()
        return Answer(code, out, err)
