"""What tests of executors evaluate: a script for each number, and what became of it."""

from __future__ import annotations

import os
import threading

from toys import plain_space

from nas.evaluator import Evaluator
from nas.proposal import Failure, Measurement, Proposal
from nas.rng import stream

SPACE = plain_space()
ASKED = [Proposal(SPACE.sample(stream(i)), ("loss",)) for i in range(6)]
UNIT = list(enumerate(ASKED, start=10))


class Script(Evaluator):
    """Does in the worker what the test says, and writes down each attempt."""

    metrics = frozenset({"loss"})

    def __init__(self, folder, act=lambda *_: None):
        self.folder, self.act = folder, act

    def evaluate(self, proposals, *, seed):
        return [self._one(p) for p in proposals]

    def _one(self, proposal):
        number = 10 + ASKED.index(proposal)
        file = self.folder / f"{number}.attempts"
        with file.open("a") as opened:
            opened.write(".")
        self.act(number, file.stat().st_size)
        main = threading.current_thread() is threading.main_thread()
        known = {"pid": os.getpid(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "main": main}
        return Measurement({"loss": float(number)}, notes=known)

    def attempts(self, number):
        return (self.folder / f"{number}.attempts").stat().st_size


def evaluated(executor, evaluator, units, logs=None):
    """Reports by number of units that an executor evaluates; it is left open."""
    executor.open(evaluator, 7, logs)
    for unit in units:
        executor.submit(unit)
    reports = {}
    while executor.busy:
        reports |= {report.number: report for report in executor.wait()}
    return reports


def kinds(reports):
    """By number, the kind of failure; None where there is none."""
    return {n: r.outcome.kind if isinstance(r.outcome, Failure) else None for n, r in reports.items()}
