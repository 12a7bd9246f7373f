"""The loop: budgets, failures, batches, shared answers, baselines, confirmation, and being cut anywhere."""

from __future__ import annotations

import itertools
import logging
import math
import os
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from toys import OF_A_POOL, OF_PATHS, ToySpace, plain_space, small_space

from nas import Categorical, Fixed, parse_objectives, registry
from nas.budget import Budget
from nas.errors import BadInput, RunFailed, StorageError, UnknownMetric
from nas.evaluator import Evaluator, Known
from nas.executor import Executor, evaluate_unit, log_file
from nas.files import FolderFiles
from nas.front import Front
from nas.history import History, MemoryHistory, OptunaHistory
from nas.memo import Memoized
from nas.proposal import Failure, Measurement, Proposal
from nas.rng import stream
from nas.space import Graph
from nas.strategies.evolution import evolution
from nas.strategies.random_search import RandomSearch
from nas.strategy import Scripted, Strategy, check_pair
from nas.study import EXHAUSTED, FIRST_FAILURES, Study
from nas.testing.problems import Shifted

SPACE = plain_space()
LOSS = parse_objectives("min loss")
PROBLEM = Shifted(SPACE, 0)


def sampled(n, space=SPACE):
    return [space.sample(stream(i, "sampled")) for i in range(n)]


class Listed(Strategy):
    """Proposes a list, in order, and remembers what it is asked and told."""

    def __init__(self, proposals, group=1):
        self.proposals, self.group = list(proposals), group
        self.asked, self.told, self.pending = [], [], []

    def ask(self, n, rng, pending=()):
        self.asked.append(n)
        self.pending.append(list(pending))
        done = sum(map(len, self.told)) + len(pending)
        return self.proposals[done : done + n]

    def tell(self, trials, rng):
        if trials:
            self.told.append([t.number for t in trials])


class Scored(Evaluator):
    """Values by a function of the proposal; remembers its calls."""

    def __init__(
        self, score=lambda p: {"loss": PROBLEM(p.candidate)["loss"]}, metrics=("loss",), seconds=1.0, **kinds
    ):
        self.metrics, self.score, self.seconds, self.calls = frozenset(metrics), score, seconds, []
        self.functional = frozenset(kinds.get("functional", ()))
        self.measured = frozenset(kinds.get("measured", ()))

    def evaluate(self, proposals, *, seed):
        self.calls.append(list(proposals))
        return [Measurement(self._asked(p), self.seconds) for p in proposals]

    def _asked(self, proposal):
        values = self.score(proposal)
        return {m: values[m] for m in proposal.metrics}


class Batched(Scored):
    batched = True


class Places(Executor):
    """Several places, of which the one that was taken last ends first."""

    def __init__(self, places):
        self.places, self._units = places, []

    @property
    def busy(self):
        return len(self._units)

    def drop(self):
        self._units.clear()

    close = drop

    def open(self, evaluator, seed, logs):
        self._of = evaluator, seed, logs

    def submit(self, unit):
        self._units.append(unit)

    def wait(self):
        evaluator, seed, logs = self._of
        return evaluate_unit(evaluator, self._units.pop(), seed, logs)


def ask_loss(architectures, **kinds):
    return [Proposal(a, ("loss",), **kinds) for a in architectures]


def study(strategy, evaluator=None, objectives=LOSS, space=SPACE, **settings):
    return Study(space, objectives, evaluator or Scored(), strategy, **settings)


def proposals(one):
    return [t.proposal for t in one.history.trials if t.role == "search"]


# --- budgets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "budget must set a limit"),
        ({"trials": 0}, r"budget\.trials must be a positive number"),
        ({"trials": 2.5}, r"budget\.trials must be a whole number"),
        ({"seconds": -1.0}, r"budget\.seconds must be a positive number"),
        ({"evaluations": True}, r"budget\.evaluations must be a positive number"),
        ({"wall_seconds": math.nan}, r"budget\.wall_seconds must be a positive number"),
    ],
)
def test_budgets_are_checked(given, message):
    with pytest.raises(BadInput, match=message):
        Budget(**given)


@pytest.mark.parametrize(
    ("budget", "trials"),
    [
        (Budget(trials=7), 7),
        (Budget(evaluations=3), 6),  # at half the fidelity
        (Budget(seconds=12.0), 5),  # of 2.5 s each
        (Budget(trials=7, seconds=5.0), 2),
        (Budget(trials=2, seconds=50.0), 2),
    ],
)
def test_the_first_limit_ends_the_search(budget, trials):
    one = study(Listed(ask_loss(sampled(20), fidelity=0.5)), Scored(seconds=2.5))
    one.run(budget)
    assert len(one.history.trials) == one.spent.trials == trials
    assert one.spent.evaluations == trials / 2
    assert one.spent.seconds == 2.5 * trials
    assert one.ended.startswith("budget reached: ")


@pytest.mark.parametrize("limit", ["wall_seconds", "device_seconds"])
def test_clocks_end_the_search(limit):
    def slow(proposal):
        time.sleep(0.02)
        return {"loss": 0.0}

    one = study(Listed(ask_loss(sampled(50))), Scored(slow))
    one.run(Budget(**{limit: 0.1}))
    assert one.ended == f"budget reached: {limit}"
    assert 1 <= one.spent.trials <= 5
    assert 0.1 <= getattr(one.spent, limit) < 1


def test_a_batch_beyond_the_budget_is_asked_for_whole_and_launched_in_part():
    straight, one = (study(Listed(ask_loss(sampled(20))), batch=8) for _ in range(2))
    one.run(Budget(trials=3))
    assert one.strategy.asked == [8]
    assert one.strategy.told == []
    assert [len(call) for call in one.evaluator.calls] == [1, 1, 1]
    assert (one.spent.trials, one.ended) == (3, "budget reached: trials")
    one.run(Budget(trials=5))
    one.run(Budget(trials=12))
    assert [len(batch) for batch in one.strategy.told] == [8]
    straight.run(Budget(trials=12))
    assert proposals(one) == proposals(straight)
    assert [t.number for t in one.history.trials] == list(range(12))


def test_a_larger_budget_goes_on_where_the_smaller_one_ended():
    straight, halved = (study(RandomSearch(SPACE, LOSS), batch=4) for _ in range(2))
    straight.run(Budget(trials=16))
    halved.run(Budget(trials=8))
    halved.run(Budget(trials=8))  # nothing to do
    assert len(halved.history.trials) == 8
    halved.run(Budget(trials=16))
    assert proposals(halved) == proposals(straight)
    assert halved.spent.trials == 16


def test_reused_answers_are_trials_and_no_evaluations():
    a, b = sampled(2)
    one = study(Listed(ask_loss([a, b, a, a])), Memoized(Scored(), SPACE))
    one.run(Budget(trials=10))
    assert (one.spent.trials, one.spent.evaluations, one.spent.reused) == (4, 2, 2)
    assert [t.reused for t in one.history.trials] == [False, False, True, True]


def test_a_thousand_answers_that_were_known_exhaust_a_space():
    space = small_space()
    one = study(RandomSearch(space, LOSS), Memoized(Scored(lambda _: {"loss": 0.0}), space), space=space)
    one.run(Budget(evaluations=5))
    assert one.ended == "space exhausted: 1,000 answers in a row were known"
    assert one.spent.evaluations == 4
    assert all(t.reused for t in one.history.trials[-EXHAUSTED:])


def test_a_strategy_that_proposes_nothing_ends_the_search():
    one = study(Listed(ask_loss(sampled(3))))
    assert len(one.run(Budget(trials=10))) == 1
    assert len(one.history.trials) == 3
    assert one.ended == "the strategy has nothing more to propose"


def test_more_than_was_asked_for_is_cut():
    class Greedy(Listed):
        def ask(self, n, rng, pending=()):
            return super().ask(n + 5, rng, pending)

    one = study(Greedy(ask_loss(sampled(20))), batch=4)
    one.run(Budget(trials=8))
    assert [len(told) for told in one.strategy.told] == [4, 4]


# --- what is refused --------------------------------------------------------------------------


def test_what_cannot_work_is_refused_at_once():
    with pytest.raises(UnknownMetric, match=r"objectives: unknown metric 'los'; did you mean 'loss'"):
        study(Listed([]), objectives=parse_objectives("min los"))
    with pytest.raises(BadInput, match=r"objectives\.loss\.bound must have a baseline"):
        study(Listed([]), objectives=parse_objectives("min loss <= baseline"))
    with pytest.raises(BadInput, match="batch must be at least 1"):
        study(Listed([]), batch=0)


# --- failures ---------------------------------------------------------------------------------


def breaking(when):
    """Fails on the calls for which ``when`` holds."""
    count = itertools.count()

    def score(proposal):
        i = next(count)
        if when(i):
            raise ValueError(f"call {i}")
        return {"loss": float(i)}

    return Scored(score)


def test_failures_are_told_and_counted_and_enter_no_front():
    one = study(Listed(ask_loss(sampled(6))), breaking(lambda i: i % 2 == 0))
    front = one.run(Budget(trials=6))
    assert one.spent.failures == 3
    assert one.strategy.told == [[i] for i in range(6)]
    assert [t.failed for t in one.history.trials] == [True, False] * 3
    assert front[0].trial == 1


def test_values_that_are_not_finite_are_told_and_enter_no_front():
    values = iter([math.nan, math.inf, 3.0])
    one = study(Listed(ask_loss(sampled(3))), Scored(lambda _: {"loss": next(values)}))
    front = one.run(Budget(trials=3))
    assert [m.trial for m in front] == [2]
    assert len(one.strategy.told) == 3


def test_a_run_that_only_fails_stops_with_the_first_reason():
    one = study(Listed(ask_loss(sampled(50))), breaking(lambda _: True), batch=4)
    with pytest.raises(RunFailed, match=r"first 10 evaluations all failed, .*because: ValueError: call 0$"):
        one.run(Budget(trials=50))
    assert len(one.history.trials) == 12
    assert one.ended == "the first evaluations all failed"


def test_one_success_at_the_start_lets_a_run_go_on():
    one = study(Listed(ask_loss(sampled(30))), breaking(lambda i: i != FIRST_FAILURES - 1))
    one.run(Budget(trials=30))
    assert one.spent.failures == 29


def test_a_baseline_that_works_does_not_hide_that_nothing_else_does():
    one = study(Listed(ask_loss(sampled(50))), breaking(lambda i: i > 0), baseline=sampled(1)[0])
    with pytest.raises(RunFailed, match="call 1"):
        one.run(Budget(trials=50))


def test_a_run_that_only_failed_may_be_tried_again():
    history, broken = MemoryHistory(), breaking(lambda _: True)
    with pytest.raises(RunFailed):
        study(Listed(ask_loss(sampled(50))), broken, history=history).run(Budget(trials=20))
    again = study(Listed(ask_loss(sampled(50))), Scored(), history=history)
    assert again.run(Budget(trials=20))
    assert (again.spent.trials, again.spent.failures) == (20, 10)


# --- batches, places, groups --------------------------------------------------------------------


def test_a_batch_is_told_together_on_any_number_of_places():
    runs = []
    for executor in (None, Places(3), Places(8)):
        one = study(Listed(ask_loss(sampled(10))), batch=4, executor=executor)
        one.executor.places = 99 if executor is None else one.executor.places
        one.run(Budget(trials=10))
        assert one.strategy.told == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        runs.append([t.outcome.values for batch in one.history.batches() for t in batch])
    assert runs[0] == runs[1] == runs[2]


def test_without_a_batch_each_is_told_as_it_ends_and_replaced():
    one = study(Listed(ask_loss(sampled(6))), executor=Places(3))
    one.run(Budget(trials=6))
    assert one.strategy.asked[:3] == [3, 1, 1]
    assert one.strategy.told[0] == [2]
    assert sorted(n for (n,) in one.strategy.told) == list(range(6))
    known = {p.candidate for p in one.strategy.proposals[:2]}
    assert {p.candidate for p in one.strategy.pending[1]} == known


@pytest.mark.parametrize(("batch", "told"), [(None, [3, 3, 3]), (7, [6]), (2, [3, 3, 3])])
def test_groups_reach_the_evaluator_unsplit_and_are_told_together(batch, told):
    one = study(Listed(ask_loss(sampled(20)), group=3), batch=batch)
    one.run(Budget(trials=8))  # one more than the budget rather than a part of a group
    assert [len(call) for call in one.evaluator.calls] == [3, 3, 3]
    assert [len(batch) for batch in one.strategy.told] == told


def test_groups_stay_together_on_several_places():
    one = study(Listed(ask_loss(sampled(12)), group=2), executor=Places(3))
    one.run(Budget(trials=12))
    assert all(len(call) == 2 for call in one.evaluator.calls)
    assert all(b == a + 1 and a % 2 == 0 for a, b in one.strategy.told)


def test_a_batched_evaluator_gets_one_call_a_batch():
    one = study(Listed(ask_loss(sampled(12))), Batched(), batch=5)
    one.run(Budget(trials=12))
    assert [len(call) for call in one.evaluator.calls] == [5, 5, 2]


# --- shared answers -----------------------------------------------------------------------------


class Twins(ToySpace):
    """Architectures with the same ``a`` compute the same function, whatever ``b`` is."""

    def graph(self, architecture):
        return Graph([("input", ()), (architecture["a"], (0,))])


TWINS = Twins([Categorical("a", ("x", "y", "z")), Categorical("b", tuple(range(9)))])


def twin(a, b):
    return TWINS.architecture({"a": a, "b": b})


def shared(score, metrics=("loss", "params"), kind=Scored):
    return kind(score, metrics, functional=("loss",))


def values_of(proposal):
    return {"loss": "xyz".index(proposal.candidate["a"]) + 0.25, "params": proposal.candidate["b"] + 0.5}


@pytest.mark.parametrize("executor", [None, Places(8)])
def test_twins_in_one_batch_are_evaluated_once(executor):
    inner = shared(values_of)
    asked = [
        Proposal(twin("x", 0), ("loss",)),
        Proposal(twin("x", 1), ("loss",)),
        Proposal(twin("y", 0), ("loss",)),
    ]
    one = study(Listed(asked), Memoized(inner, TWINS), space=TWINS, batch=3, executor=executor)
    one.run(Budget(trials=3))
    assert sorted(p.candidate["a"] for call in inner.calls for p in call) == ["x", "y"]
    assert [t.reused for t in sorted(one.history.trials, key=lambda t: t.number)].count(True) == 1
    assert [t.values["loss"] for t in next(one.history.batches())] == [0.25, 0.25, 1.25]


def test_a_twin_that_waited_is_asked_only_for_what_is_its_own():
    inner = shared(values_of)
    both = ("loss", "params")
    asked = [Proposal(twin("x", 0), both), Proposal(twin("x", 1), both), Proposal(twin("x", 1), both)]
    one = study(Listed(asked), Memoized(inner, TWINS), space=TWINS, batch=3)
    one.run(Budget(trials=3))
    assert [[p.metrics for p in call] for call in inner.calls] == [[both], [("params",)]]
    trials = next(one.history.batches())
    assert [t.values for t in trials] == [values_of(p) for p in asked]
    assert [t.reused for t in trials] == [False, True, True]
    assert [t.known for t in trials] == [False, False, True]


def test_when_the_first_twin_fails_the_second_is_evaluated():
    def score(proposal):
        if proposal.candidate["b"] == 0:
            raise ValueError("no")
        return values_of(proposal)

    inner = shared(score)
    asked = [Proposal(twin("x", b), ("loss",)) for b in (0, 0, 1, 2)]
    one = study(Listed(asked), Memoized(inner, TWINS), space=TWINS, batch=4)
    one.run(Budget(trials=4))
    assert [(t.failed, t.reused) for t in next(one.history.batches())] == [
        (True, False),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert len(inner.calls) == 3


def test_fifty_twins_in_a_batched_call_wait_for_one():
    inner = shared(values_of, kind=Batched)
    asked = [Proposal(twin(a, b % 9), ("loss",)) for b in range(17) for a in "xyz"][:50]
    one = study(Listed(asked), Memoized(inner, TWINS), space=TWINS, batch=50)
    one.run(Budget(trials=50))
    assert [len(call) for call in inner.calls] == [3]
    assert one.spent.reused == 47


def test_new_answers_beside_shared_ones_keep_a_search_alive(monkeypatch):
    monkeypatch.setattr("nas.study.EXHAUSTED", 4)
    asked = [Proposal(twin("x", b), ("loss", "params")) for b in range(9)] + ask_loss([twin("x", 0)] * 9)
    one = study(Listed(asked), Memoized(shared(values_of), TWINS), space=TWINS)
    one.run(Budget(trials=99))
    assert one.ended.startswith("space exhausted")
    assert one.spent.trials == 9 + 4
    assert one.spent.evaluations == 1  # all others borrowed its loss


def test_what_was_known_of_an_architecture_does_not_make_its_training_free():
    a = twin("x", 0)
    asked = [Proposal(a, ("params",)), Proposal(a, ("loss", "params")), Proposal(a, ("loss", "params"))]
    one = study(Listed(asked), Memoized(shared(values_of), TWINS), space=TWINS)
    (member,) = one.run(Budget(trials=3))
    assert one.spent.evaluations == 2
    assert [t.reused for t in one.history.trials] == [False, True, True]
    assert [t.known for t in one.history.trials] == [False, False, True]
    assert member.borrowed == set()


# --- the baseline -------------------------------------------------------------------------------


def test_the_baseline_is_trial_0_and_told_and_no_part_of_the_budget():
    base, *rest = sampled(4)
    one = study(Listed(ask_loss([base, *rest])), baseline=base, batch=2)
    one.run(Budget(trials=2))
    first = one.history.trials[0]
    assert (first.number, first.role, first.proposal.candidate) == (0, "baseline", base)
    assert one.strategy.told == [[0], [1, 2]]
    assert one.spent.trials == 2
    assert one.front().baseline.values == {"loss": PROBLEM(base)["loss"]}


def test_bounds_relative_to_a_fixed_baseline():
    fixed = Fixed("package:model")

    def score(proposal):
        return {"loss": 5.0 if isinstance(proposal.candidate, Fixed) else PROBLEM(proposal.candidate)["loss"]}

    objectives = parse_objectives("min loss <= baseline - 0.5")
    one = study(RandomSearch(SPACE, objectives), Scored(score), objectives, baseline=fixed)
    front = one.run(Budget(trials=60))
    losses = [t.values["loss"] for t in one.history.trials[1:]]
    assert front.baseline.candidate == fixed
    assert (len(front) == 1) == (min(losses) <= 4.5)
    assert len(front.candidates) == len(
        {t.proposal.candidate for t in one.history.trials[1:] if t.values["loss"] <= 4.5}
    )
    assert any(loss > 4.5 for loss in losses)


def test_a_baseline_that_cannot_be_measured_ends_the_run_and_is_tried_again():
    history, base = MemoryHistory(), sampled(1)[0]
    with pytest.raises(RunFailed, match="the baseline could not be measured: ValueError: call 0"):
        study(Listed([]), breaking(lambda _: True), baseline=base, history=history).run(Budget(trials=1))
    with pytest.raises(RunFailed, match=r"the baseline must have finite loss, got {'loss': nan}"):
        study(Listed([]), Scored(lambda _: {"loss": math.nan}), baseline=base, history=history).run(
            Budget(trials=1)
        )
    again = study(Listed(ask_loss(sampled(2))), baseline=base, history=history)
    again.run(Budget(trials=2))
    assert again.front().baseline.values == {"loss": PROBLEM(base)["loss"]}
    assert sum(t.role == "baseline" for t in again.history.trials) == 3
    again.run(Budget(trials=3))
    assert sum(t.role == "baseline" for t in again.history.trials) == 3


# --- confirmation --------------------------------------------------------------------------------


def confirmable(strategy, history=None, readings=None, **settings):
    """Loss is shared between twins; ms is a clock reading, slower each time unless readings are given."""
    clock = itertools.count() if readings is None else readings

    def score(proposal):
        return {"loss": values_of(proposal)["loss"], "ms": 1.0 + next(clock)}

    evaluator = Scored(score, ("loss", "ms"), functional=("loss",), measured=("ms",))
    objectives = parse_objectives("min loss, min ms")
    return study(
        strategy, Memoized(evaluator, TWINS), objectives, TWINS, history=history, **settings
    ), evaluator


def test_borrowed_members_are_measured_themselves():
    inner = shared(values_of)
    asked = [Proposal(twin("x", 5), ("loss", "params")), Proposal(twin("x", 0), ("loss", "params"))]
    one = study(Listed(asked), Memoized(inner, TWINS), parse_objectives("min loss, min params"), TWINS)
    (member,) = one.run(Budget(trials=2))
    assert member.borrowed == {"loss"}
    (member,) = one.confirm()
    assert member.borrowed == set()
    assert member.candidate == twin("x", 0)
    last = one.history.trials[-1]
    assert (last.number, last.role, last.reused, last.proposal.metrics) == (
        2,
        "confirm",
        False,
        ("loss", "params"),
    )
    assert one.strategy.told == [[0], [1]]
    before = len(inner.calls)
    one.confirm()
    assert len(inner.calls) == before


def test_clock_readings_of_the_front_are_taken_again_and_settle():
    readings = iter([1.0, 5.0, 9.0, 3.0, 2.0, 8.0])
    asked = [Proposal(twin(a, 0), ("loss", "ms")) for a in "zyx"]
    one, _ = confirmable(Listed(asked), readings=readings)
    front = one.run(Budget(trials=3))
    assert [m.values["ms"] for m in front] == [10.0, 6.0, 2.0]  # x, y, z
    front = one.confirm()
    confirms = [t for t in one.history.trials if t.role == "confirm"]
    assert [t.proposal.metrics for t in confirms] == [("ms",)] * 3
    # x now takes 4 ms, y 3 ms and z 9 ms, so that z is beaten.
    assert [(m.candidate["a"], m.values["ms"]) for m in front] == [("x", 4.0), ("y", 3.0)]
    assert all(m.confirmed == {"ms"} for m in front)


def test_confirmation_that_fails_is_not_repeated_for_ever():
    asked = [Proposal(twin("x", 0), ("loss", "ms"))]
    calls = itertools.count()

    def score(proposal):
        if next(calls):
            raise ValueError("no")
        return {"loss": 0.0, "ms": 1.0}

    evaluator = Scored(score, ("loss", "ms"), measured=("ms",))
    one = study(Listed(asked), evaluator, parse_objectives("min loss, min ms"), TWINS)
    one.run(Budget(trials=1))
    assert len(one.confirm()) == 1
    assert len(one.confirm()) == 1
    assert next(calls) == 2


def test_confirming_changes_neither_the_search_nor_its_numbers():
    objectives = parse_objectives("min loss, min ms")

    def recorded():
        return itertools.repeat(0.0)

    straight, _ = confirmable(evolution(TWINS, objectives, population=8), readings=recorded(), batch=4)
    straight.run(Budget(trials=32))
    history = MemoryHistory()
    for trials in (8, 16, 32):
        part, evaluator = confirmable(
            evolution(TWINS, objectives, population=8), history, recorded(), batch=4
        )
        part.run(Budget(trials=trials))
        part.confirm()
    assert any(t.role == "confirm" for t in history.trials)
    assert proposals(part) == proposals(straight)
    assert len({t.number for t in history.trials}) == len(history.trials)
    again, evaluator = confirmable(evolution(TWINS, objectives, population=8), history, recorded(), batch=4)
    again.confirm()  # without running first
    assert evaluator.calls == []
    assert again.spent.trials == 32


# --- observers and logs ---------------------------------------------------------------------------


def test_the_observer_sees_each_trial_once_in_the_order_of_telling():
    seen = []
    base, *rest = sampled(8)
    one = study(Listed(ask_loss(rest)), batch=2, baseline=base, observer=lambda t: seen.append(t.number))
    one.run(Budget(trials=4))
    assert seen == [0, 1, 2, 3, 4]
    again = study(Listed(ask_loss(rest)), batch=2, baseline=base, history=one.history, observer=seen.append)
    again.run(Budget(trials=5))
    assert [t.number for t in seen[5:]] == [5]


def test_each_evaluation_has_its_own_log(tmp_path):
    def score(proposal):
        i = score.i = score.i + 1
        if i == 1:
            sys.stdout.write("printed\n")
            logging.getLogger("nas.elsewhere").info("logged")
        if i == 2:
            raise ValueError("no")
        return {"loss": 1.0}

    score.i = -1
    study(Listed(ask_loss(sampled(3))), Scored(score), logs=tmp_path).run(Budget(trials=3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000001.log", "000002.log"]
    said = log_file(tmp_path, 1).read_text()
    assert "printed\n" in said
    assert "logged\n" in said
    assert "ValueError: no" in log_file(tmp_path, 2).read_text()


# --- interrupts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 5, 8, 11])
@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("anew", [True, False], ids=["in another study", "in the same study"])
def test_an_interrupted_run_goes_on_like_one_that_was_not(at, batch, anew):
    def interrupting(history, calls):
        def score(proposal):
            if next(calls) == at:
                raise KeyboardInterrupt
            return PROBLEM(proposal.candidate)

        objectives = parse_objectives("min near, min cost")
        strategy = evolution(SPACE, objectives, population=4)
        return study(strategy, Scored(score, ("near", "cost")), objectives, history=history, batch=batch)

    straight = interrupting(MemoryHistory(), itertools.count(1000))
    straight.run(Budget(trials=16))
    history, calls = MemoryHistory(), itertools.count()
    one = interrupting(history, calls)
    with pytest.raises(KeyboardInterrupt):
        one.run(Budget(trials=16))
    assert one.ended == "interrupted"
    assert len(history.trials) == at
    one = interrupting(history, calls) if anew else one
    one.run(Budget(trials=16))
    assert proposals(one) == proposals(straight)
    assert [t.number for t in history.trials] == list(range(16))
    assert one.spent.trials == 16
    assert [m.trial for m in one.front()] == [m.trial for m in straight.front()]


class Full(History):
    """A history whose storage is full after some trials."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def _store(self, trials):
        if len(self.trials) + len(trials) > self.room:
            raise StorageError("no space left")


def test_what_ended_and_could_not_be_stored_is_named_as_lost():
    one = study(RandomSearch(SPACE, LOSS), history=Full(5), executor=Places(3))
    with pytest.raises(StorageError, match="no space left"):
        one.run(Budget(trials=12))
    stored = {t.number for t in one.history.trials}
    assert len(stored) == 5
    assert sorted(stored | set(one.lost)) == list(range(8))
    assert not stored & set(one.lost)


def test_several_places_lose_only_what_was_in_flight():
    calls = itertools.count()

    def score(proposal):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return PROBLEM(proposal.candidate)

    one = study(RandomSearch(SPACE, LOSS), Scored(score), executor=Places(3))
    with pytest.raises(KeyboardInterrupt):
        one.run(Budget(trials=12))
    assert len(one.history.trials) == 5
    one.executor = Places(3)
    one.run(Budget(trials=12))
    assert len(one.history.trials) == one.spent.trials == 12
    assert len({t.number for t in one.history.trials}) == 12


# --- resuming from disk -----------------------------------------------------------------------------


@pytest.fixture
def quick_disk(monkeypatch):
    """Durability is tested elsewhere."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class RecordedClock(Evaluator):
    """The shifted problem, worse known at low fidelity, and clock readings as recorded."""

    metrics = frozenset({"loss", "near", "cost", "ms"})
    measured = frozenset({"ms"})
    cheap = frozenset({"cost"})
    multi_fidelity = frozenset({"loss", "near"})

    def __init__(self, space):
        self._problem = Shifted(space, 1)

    def evaluate(self, asked, *, seed):
        return [Measurement({m: self._values(p)[m] for m in p.metrics}, p.fidelity) for p in asked]

    def _values(self, p):
        noise = stream(0, p.candidate.key, p.replicate).random()
        values = self._problem(p.candidate)
        wrong = {m: values[m] + (1 - p.fidelity) * noise for m in ("loss", "near")}
        return {**values, **wrong, "ms": 1 + noise}


def fitting(name, seed=0):
    """A strategy of that name, with a space and objectives that it can search."""
    for space, goal in itertools.product(
        (SPACE, small_space()), ("min near, min ms, min cost <= 5", "min loss")
    ):
        objectives = parse_objectives(goal)
        offers = {"space": space, "objectives": objectives, "known": Known(RecordedClock(space), seed)}
        strategy = registry.create("strategy", {"name": name, **OF_A_POOL.get(name, {})}, offers)
        if check_pair(strategy, name, space, space.sample(stream(0)), objectives) is None:
            return space, objectives, strategy
    raise AssertionError(f"{name} fits no space of this test")


def resumed(name, folder, trials, batch, seed=3):
    """The study of a fresh strategy over whatever the folder holds, run up to so many trials."""
    space, objectives, strategy = fitting(name, seed)
    history = OptunaHistory(folder / "journal.log", space, objectives, files=FolderFiles(folder))
    one = Study(
        space,
        objectives,
        Memoized(RecordedClock(space), space),
        strategy,
        history=history,
        seed=seed,
        batch=batch,
    )
    one.run(Budget(trials=trials))
    return one


def records(one):
    return [(t.number, t.proposal, t.batch, t.position, dict(t.values), t.reused) for t in one.history.trials]


@pytest.mark.parametrize("batch", [None, 8])
@pytest.mark.parametrize("name", [n for n in registry.names("strategy") if n not in OF_PATHS])
def test_every_strategy_resumes_as_if_it_had_never_stopped(name, batch, tmp_path, quick_disk):
    for folder in ("straight", "halved", "cut"):
        (tmp_path / folder).mkdir()
    straight = resumed(name, tmp_path / "straight", 64, batch)
    assert 0 < straight.spent.trials <= 64
    begun = resumed(name, tmp_path / "halved", 20, batch)  # within the third batch of 8
    assert len(begun.history.trials) == begun.spent.trials == min(20, straight.spent.trials)
    assert records(resumed(name, tmp_path / "halved", 64, batch)) == records(straight)
    lines = (tmp_path / "straight" / "journal.log").read_bytes().splitlines(keepends=True)
    head = len(lines) - len(straight.history.trials)
    (tmp_path / "cut" / "journal.log").write_bytes(b"".join(lines[: head + 29]))  # 5 of a batch
    assert records(resumed(name, tmp_path / "cut", 64, batch)) == records(straight)


def test_a_resumed_run_of_another_strategy_is_refused(tmp_path, quick_disk):
    one = resumed("random", tmp_path, 12, 8)
    assert len(one.history.trials) == 12
    journal = tmp_path / "journal.log"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-2]))
    with pytest.raises(RunFailed, match=r"trial 8 must be asked again as it was stored.*start a new run"):
        resumed("random", tmp_path, 16, 8, seed=4)


def test_a_batch_that_was_cut_is_completed_at_its_own_size():
    history = MemoryHistory()
    first = study(RandomSearch(SPACE, LOSS), batch=6, history=history)
    first.run(Budget(trials=6))
    (batch,) = history.batches()
    cut = MemoryHistory()
    cut.append(batch[:4])
    one = study(RandomSearch(SPACE, LOSS), batch=8, history=cut)
    one.run(Budget(trials=20))
    assert [len(b) for b in cut.batches()] == [6, 8]
    assert len(cut.partial(14)) == 6, "what exceeds the budget is left to whoever goes on"
    assert proposals(one)[:6] == proposals(first)


def test_numbers_stay_unique_when_a_cut_batch_is_followed_by_a_confirmation():
    whole = study(RandomSearch(SPACE, LOSS), batch=4)
    whole.run(Budget(trials=8))
    first, second = whole.history.batches()
    cut = MemoryHistory()
    cut.append(
        [*first, *second[:2], replace(first[0], number=8, role="confirm", batch=8, position=0, size=1)]
    )
    one = study(RandomSearch(SPACE, LOSS), batch=4, history=cut)
    one.run(Budget(trials=12))
    assert sorted(t.number for t in cut.trials) == list(range(13))
    assert proposals(one)[:8] == proposals(whole)


# --- snapshots ------------------------------------------------------------------------------------


class Walking(Strategy):
    """A random walk whose state is dear to rebuild; counts what it is told."""

    def __init__(self, space):
        self.space, self.state, self.retold, self.restored = space, np.zeros(3), 0, 0

    def ask(self, n, rng, pending=()):
        return ask_loss(self.space.sample(stream(int(1e6 * abs(self.state.sum())), i)) for i in range(n))

    def tell(self, trials, rng):
        for trial in trials:
            self.retold += 1
            self.state = self.state + rng.normal(size=3) * trial.values.get("loss", 1.0)

    def snapshot(self):
        return {"state": self.state, "n": [int(self.retold)]}

    def restore(self, state):
        self.restored, self.state = state["n"][0], state["state"].copy()


def walk(folder, trials, batch=4):
    history = OptunaHistory(folder / "journal.log", SPACE, LOSS, files=FolderFiles(folder))
    one = study(Walking(SPACE), history=history, batch=batch)
    one.run(Budget(trials=trials))
    return one


@pytest.mark.parametrize("batch", [None, 4])
def test_snapshots_replace_the_telling_before_them(batch, tmp_path, quick_disk, monkeypatch):
    monkeypatch.setattr("nas.study.SAVING", 1e-9)  # only at the end of a run
    for name in ("straight", "parts"):
        (tmp_path / name).mkdir()
    straight = walk(tmp_path / "straight", 32, batch)
    walk(tmp_path / "parts", 8, batch)
    kept = (tmp_path / "parts" / "snapshot.npz").read_bytes()
    assert walk(tmp_path / "parts", 16, batch).strategy.retold == 8  # only what is new
    (tmp_path / "parts" / "snapshot.npz").write_bytes(kept)  # as if killed before the second was saved
    last = walk(tmp_path / "parts", 32, batch)
    assert (last.strategy.restored, last.strategy.retold) == (8, 24)
    assert proposals(last) == proposals(straight)
    np.testing.assert_array_equal(last.strategy.state, straight.strategy.state)


def test_a_baseline_and_confirmations_do_not_shift_what_a_snapshot_covers(quick_disk):
    readings = itertools.repeat(1.0)

    def part(history, trials):
        one, _ = confirmable(Walking2(), history, readings, baseline=twin("z", 0))
        one.run(Budget(trials=trials))
        one.confirm()
        return one

    class Walking2(Walking):
        def __init__(self):
            super().__init__(TWINS)

        def ask(self, n, rng, pending=()):
            return [p.asking(("loss", "ms")) for p in super().ask(n, rng, pending)]

    history = MemoryHistory()
    for trials in (3, 6, 12):
        last = part(history, trials)
    assert last.strategy.restored
    assert proposals(last) == proposals(part(MemoryHistory(), 12))


def test_saving_takes_its_share_of_the_time_at_most(monkeypatch):
    saves = []

    class Slow(Walking):
        def snapshot(self):
            time.sleep(0.01)
            saves.append(self.retold)
            return super().snapshot()

    one = study(Slow(SPACE), Scored(lambda _: {"loss": 0.0}))
    one.run(Budget(trials=50))
    assert saves[0] == 1
    assert saves[-1] == 50  # the end is always saved
    assert len(saves) <= 2 + one.spent.wall_seconds / 0.1


def test_a_snapshot_of_more_than_is_stored_is_refused(tmp_path, quick_disk):
    walk(tmp_path, 8)
    (tmp_path / "journal.log").unlink()
    with pytest.raises(StorageError, match="taken after 8 trials, but only 0 are stored; remove it"):
        walk(tmp_path, 16)


def test_a_script_is_rebuilt_by_telling(tmp_path, quick_disk):
    def halving(rng):
        told = yield ask_loss(SPACE.sample(rng) for _ in range(8))
        while len(told) > 1:
            best = sorted(told, key=lambda t: t.values["loss"])[: len(told) // 2]
            fresh = [SPACE.sample(rng) for _ in range(2)]
            told = yield ask_loss([t.proposal.candidate for t in best] + fresh)
            told = told[: len(best)]

    def part(history, trials):
        one = study(Scripted(halving), history=history)
        one.run(Budget(trials=trials))
        return proposals(one)

    straight = part(MemoryHistory(), 99)
    for cut in range(1, len(straight)):
        history = MemoryHistory()
        part(history, cut)
        assert part(history, 99) == straight


def test_fronts_of_history_and_study_agree():
    one = study(RandomSearch(SPACE, LOSS))
    front = one.run(Budget(trials=20))
    assert list(front) == list(Front(one.history.trials, LOSS))
    assert isinstance(one.history.trials[0].outcome, Measurement | Failure)
