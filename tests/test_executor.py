"""Where evaluations run: outcomes in order, broken ones as failures, and what was said in files."""

from __future__ import annotations

import logging
import sys
import time
from itertools import pairwise

import pytest
from toys import plain_space

from nas.errors import BadInput, Diverged
from nas.evaluator import Evaluator
from nas.executor import Executor, Report, evaluate_unit, log_file
from nas.executors import create
from nas.executors.alone import Alone
from nas.executors.here import Here
from nas.proposal import Failure, Measurement, Proposal
from nas.rng import stream

SPACE = plain_space()
ASKED = [Proposal(SPACE.sample(stream(i)), ("loss",)) for i in range(4)]
UNIT = list(enumerate(ASKED, start=10))


class Script(Evaluator):
    """Does to each candidate what the test says, and remembers its calls."""

    metrics = frozenset({"loss"})

    def __init__(self, act=lambda _: None):
        self.act, self.calls = act, []

    def evaluate(self, proposals, *, seed):
        self.calls.append((len(proposals), seed))
        for proposal in proposals:
            self.act(proposal)
        return [Measurement({"loss": float(ASKED.index(p))}) for p in proposals]


class Training(Script):
    pure = False


def raising(error, at=ASKED[1]):
    def act(proposal):
        if proposal == at:
            raise error

    return act


def test_a_unit_is_one_call_and_its_reports_are_in_order():
    evaluator = Script(lambda _: time.sleep(0.01))
    before = time.time()
    reports = evaluate_unit(evaluator, UNIT, 7, None)
    assert evaluator.calls == [(4, 7)]
    assert [(r.number, r.outcome.values["loss"]) for r in reports] == [(10 + i, float(i)) for i in range(4)]
    # Places are busy once, not once for each of those evaluated together.
    assert all(a.ended == pytest.approx(b.started) for a, b in pairwise(reports))
    busy = sum(r.ended - r.started for r in reports)
    assert 0.04 <= busy <= time.time() - before + 1e-3
    assert all(r.host and r.device == "cpu" for r in reports)


def test_one_broken_candidate_does_not_take_the_others_with_it():
    evaluator = Script(raising(ValueError("two\nlines")))
    outcomes = [r.outcome for r in evaluate_unit(evaluator, UNIT, 0, None)]
    assert [isinstance(o, Failure) for o in outcomes] == [False, True, False, False]
    assert outcomes[1].kind == "error"
    assert outcomes[1].reason == "ValueError: two"
    assert "raise error" in outcomes[1].trace
    assert [n for n, _ in evaluator.calls] == [4, 1, 1, 1, 1]


def test_a_broken_training_step_is_not_tried_again():
    evaluator = Training(raising(ValueError("no")))
    reports = evaluate_unit(evaluator, UNIT, 0, None)
    assert all(isinstance(r.outcome, Failure) for r in reports)
    assert len(evaluator.calls) == 1


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (Diverged("loss became nan"), "diverged", "loss became nan"),
        (MemoryError(), "memory", "MemoryError: MemoryError"),
        (RuntimeError("CUDA out of memory. Tried"), "memory", "RuntimeError: CUDA out of memory. Tried"),
        (SystemExit(3), "error", "SystemExit: 3"),
        (KeyError("x"), "error", "KeyError: 'x'"),
    ],
)
def test_kinds_of_failures(error, kind, reason):
    report = evaluate_unit(Script(raising(error)), UNIT[1:2], 0, None)[0]
    assert (report.outcome.kind, report.outcome.reason) == (kind, reason)
    assert report.outcome.seconds >= 0


def test_an_interrupt_is_no_failure():
    with pytest.raises(KeyboardInterrupt):
        evaluate_unit(Script(raising(KeyboardInterrupt())), UNIT, 0, None)


def test_an_evaluator_that_forgets_an_outcome_is_told():
    class Forgetful(Evaluator):
        def evaluate(self, proposals, *, seed):
            return []

    with pytest.raises(BadInput, match=r"Forgetful\.evaluate must give 4 outcomes, got 0"):
        evaluate_unit(Forgetful(), UNIT, 0, None)


# --- logs ----------------------------------------------------------------------------------------------


def test_prints_and_records_of_all_loggers_go_to_the_trials_file(tmp_path, capsys):
    def speak(_):
        sys.stdout.write("half a line ")
        sys.stdout.write("and the rest\n")
        logging.getLogger("nas.anything").info("from us %d", 1)
        logging.getLogger("theirs").warning("from the user")
        logging.getLogger("nas.anything").debug("too much")

    own, everything = logging.getLogger("nas"), logging.getLogger()
    before = own.level, list(everything.handlers), sys.stdout
    evaluate_unit(Script(speak), UNIT[:1], 0, tmp_path)
    assert (own.level, list(everything.handlers), sys.stdout) == before
    lines = log_file(tmp_path, 10).read_text().splitlines()
    assert lines[0] == "half a line and the rest"
    assert [line[9:] for line in lines[1:]] == ["from us 1", "from the user"]
    assert capsys.readouterr().out == ""


def test_a_silent_evaluation_leaves_no_file(tmp_path):
    evaluate_unit(Script(lambda _: sys.stdout.write("")), UNIT, 0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_traceback_of_a_failure_is_in_its_own_file(tmp_path):
    def act(proposal):
        sys.stdout.write("before\n")
        raising(ValueError("no"))(proposal)

    evaluate_unit(Script(act), UNIT, 0, tmp_path)
    text = log_file(tmp_path, 11).read_text()
    assert text.startswith("before\nTraceback (most recent call last)")
    assert text.rstrip().endswith("ValueError: no")
    assert "Traceback" not in log_file(tmp_path, 12).read_text()


def test_the_terminal_comes_back_after_an_interrupt(tmp_path):
    before = sys.stdout
    with pytest.raises(KeyboardInterrupt):
        evaluate_unit(Script(raising(KeyboardInterrupt())), UNIT, 0, tmp_path)
    assert sys.stdout is before


# --- here ------------------------------------------------------------------------------------------------


def test_here_runs_units_one_by_one_in_order():
    here, evaluator = Here(), Script()
    here.open(evaluator, 5, None)
    here.submit(UNIT[:1])
    here.submit(UNIT[1:3])
    assert (here.places, here.busy) == (1, 2)
    assert evaluator.calls == []  # nothing runs before it is waited for
    assert [r.number for r in here.wait()] == [10]
    assert [r.number for r in here.wait()] == [11, 12]
    assert (here.busy, evaluator.calls) == (0, [(1, 5), (2, 5)])


def test_closing_forgets_what_was_queued():
    here = Here()
    here.open(Script(), 0, None)
    here.submit(UNIT)
    here.close()
    assert here.busy == 0


# --- clock readings alone --------------------------------------------------------------------------------


class Recorded(Executor):
    """Two places; writes down what was submitted, and reports units in the order that the test wants."""

    places = 2

    def __init__(self, fail=()):
        self.sent, self.units, self.fail, self.clock = [], [], fail, 0.0

    @property
    def busy(self):
        return len(self.units)

    def open(self, evaluator, seed, logs):
        self.sent.append("open")

    def submit(self, unit):
        self.sent.append([(number, proposal.metrics) for number, proposal in unit])
        self.units.append(unit)

    def wait(self):
        return [self._report(number, p.metrics) for number, p in self.units.pop(0)]

    def _report(self, number, metrics):
        began, self.clock = self.clock, self.clock + 10.0 * len(metrics)
        outcome = Failure("error", "no") if (number, metrics) in self.fail else None
        outcome = outcome or Measurement(dict.fromkeys(metrics, 1.0), 5.0)
        return Report(number, outcome, "host", "cpu", began, self.clock, 2, 1.0)

    def drop(self):
        self.units = self.units[:1]

    def close(self):
        self.units.clear()


def both(number, *metrics):
    return number, Proposal(ASKED[0].candidate, metrics or ("loss", "ms"))


def test_readings_follow_when_all_else_has_ended():
    inner = Recorded()
    alone = Alone(inner, frozenset({"ms"}))
    assert alone.places == 2
    alone.open(None, 0, None)
    alone.submit([both(1)])
    alone.submit([both(2, "ms"), both(3, "loss")])
    assert [r.number for r in alone.wait()] == [3]  # 1 has its loss and waits
    assert inner.sent == ["open", [(1, ("loss",))], [(3, ("loss",))]]
    (second,) = alone.wait()
    alone.submit([both(4)])  # held back until the last reading is taken
    (first,) = alone.wait()
    assert (second.number, first.number, alone.busy) == (2, 1, 1)
    assert inner.sent[3:] == [[(2, ("ms",))], [(1, ("ms",))]]
    (fourth,) = alone.wait()
    assert fourth.outcome.values == {"loss": 1.0, "ms": 1.0}
    assert inner.sent[5:] == [[(4, ("loss",))], [(4, ("ms",))]]
    assert alone.busy == 0


def test_both_parts_are_one_report():
    alone = Alone(Recorded(), frozenset({"ms"}))
    alone.submit([both(1, "loss", "size", "ms")])
    (report,) = alone.wait()
    assert report.outcome == Measurement({"loss": 1.0, "size": 1.0, "ms": 1.0}, 10.0)
    # 20 s and 10 s, whatever lay between them; each part was tried twice.
    assert (report.started, report.ended) == (0.0, 30.0)
    assert (report.attempts, report.lost_seconds) == (3, 2.0)


def test_what_failed_is_not_timed():
    inner = Recorded(fail=[(1, ("loss",))])
    alone = Alone(inner, frozenset({"ms"}))
    alone.submit([both(1)])
    (report,) = alone.wait()
    assert report.outcome.kind == "error"
    assert (inner.sent, alone.busy) == ([[(1, ("loss",))]], 0)


def test_dropping_finishes_what_lacks_only_its_reading():
    inner = Recorded()
    alone = Alone(inner, frozenset({"ms"}))
    for unit in ([both(1)], [both(2, "loss")], [both(3)], [both(4, "ms")]):
        alone.submit(unit)
    assert [r.number for r in alone.wait()] == [2]  # 1 has its loss, 3 has begun
    alone.drop()
    found = [alone.wait()[0].number, alone.wait()[0].number]
    assert sorted(found) == [1, 3]
    assert alone.busy == 0


def test_executors_by_name():
    assert isinstance(create("here"), Here)
    here = Here()
    assert create(here) is here
    with pytest.raises(BadInput, match=r"unknown executor 'there'; did you mean 'here'"):
        create("there")
    for wrong in ({"workers": 2}, {"name": "here", "workers": 2}, 3):
        with pytest.raises(BadInput, match=r"unknown executor None|unknown setting of here|must be a name"):
            create(wrong)
