"""Evaluations in worker processes: the same answers, and workers that die, hang or grow."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
from scripted import SPACE, UNIT, Script, evaluated, kinds
from toys import plain_space

import nas
from nas import registry
from nas.budget import Budget
from nas.errors import BadInput, RunFailed
from nas.evaluator import Combined, Evaluator, FunctionEvaluator
from nas.executor import log_file
from nas.executors import create
from nas.executors.processes import Processes
from nas.history import trial_to_json
from nas.objective import parse_objectives
from nas.parts import Parts, Search
from nas.proposal import Measurement
from nas.run import Run
from nas.strategies.evolution import evolution
from nas.study import Study
from nas.testing.problems import Shifted


@pytest.fixture
def run():
    """Evaluate units on an executor that is closed afterwards; reports by number."""
    opened = []

    def on_a_new_one(evaluator, units, logs=None, **settings):
        opened.append(Processes(**settings))
        return evaluated(opened[-1], evaluator, units, logs)

    yield on_a_new_one
    for executor in opened:
        executor.close()


# --- the same answers ----------------------------------------------------------------------------------


def asked_here_and_there(**settings):
    found = []
    for executor in ("here", {"name": "processes", "workers": 2}):
        run = Run(Search(executor=executor, seed=3, **settings))
        try:
            front = run.search()
        finally:
            run.close()
        clocks = {"host": "", "queued": 0.0, "started": 0.0, "ended": 0.0}
        trials = sorted((trial_to_json(replace(t, **clocks)) for t in run.history.trials), key=by_number)
        for trial in trials:
            trial["measurement"].update(seconds=0, weights=None)
        found.append((trials, [(m.trial, m.candidate.key, dict(m.values)) for m in front]))
    return found


def by_number(trial):
    return trial["number"]


def test_a_search_in_batches_is_the_same_trial_by_trial():
    problem = Shifted(SPACE, 0)

    def both(architecture):
        return problem(architecture)

    both.metrics = ("near", "cost")
    here, there = asked_here_and_there(
        space=SPACE,
        objectives="min near, min cost",
        evaluators=[both],
        strategy={"name": "evolution", "population": 8},
        budget=Budget(trials=40),
        batch=8,
    )
    assert len(here[0]) == 40
    assert there == here


def test_trainings_are_the_same_too():
    here, there = asked_here_and_there(
        space="mlp",
        task={"name": "digits", "limit": 100},
        objectives="max accuracy, min params",
        evaluators=[{"name": "training", "epochs": 1}],
        strategy="random",
        budget=Budget(trials=4),
        batch=4,
    )
    assert here[1]
    assert there == here


def test_workers_have_one_thread_and_get_the_evaluator_once(run, tmp_path):
    class Counted(Script):
        def __setstate__(self, state):
            self.__dict__ = state
            with (self.folder / "unpacked").open("a") as file:
                file.write(os.environ["OMP_NUM_THREADS"])

    reports = run(Counted(tmp_path), [[one] for one in UNIT], workers=2)
    assert [reports[n].outcome.values["loss"] for n, _ in UNIT] == [float(n) for n, _ in UNIT]
    assert all(r.attempts == 1 and r.lost_seconds == 0 for r in reports.values())
    assert len({r.outcome.notes["pid"] for r in reports.values()} | {os.getpid()}) == 3
    assert (tmp_path / "unpacked").read_text() == "11"


def test_an_architecture_is_found_in_a_set_of_another_process(run):
    class Looked(Evaluator):
        def evaluate(self, proposals, *, seed):
            own = {plain_space().architecture(p.candidate.to_json()) for p in proposals}
            return [Measurement({"loss": float(p.candidate in own)}) for p in proposals]

    assert len({p.candidate for _, p in UNIT}) == 6  # hashed here, where texts hash otherwise
    reports = run(Looked(), [UNIT], workers=1)
    assert {r.outcome.values["loss"] for r in reports.values()} == {1.0}


# --- workers that die ----------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_and_its_evaluation_tried_again(run, tmp_path):
    def act(number, attempt):
        if number == 11 and attempt <= 2:
            time.sleep(0.1)
            os._exit(3)

    script = Script(tmp_path, act)
    logs = tmp_path / "logs"
    logs.mkdir()
    reports = run(script, [[one] for one in UNIT], logs, workers=2, retries=2)
    assert kinds(reports) == dict.fromkeys(range(10, 16))
    assert {n: r.attempts for n, r in reports.items()} == {10: 1, 11: 3, 12: 1, 13: 1, 14: 1, 15: 1}
    assert 0.2 <= reports[11].lost_seconds < 60
    assert log_file(logs, 11).read_text().splitlines() == [
        "killed: the worker ended with exit code 3, attempt 1",
        "killed: the worker ended with exit code 3, attempt 2",
    ]


def test_an_evaluation_that_always_dies_is_a_failure_of_its_own(run, tmp_path):
    def act(number, attempt):
        if number == 12:
            os.kill(os.getpid(), signal.SIGKILL)

    script = Script(tmp_path, act)
    reports = run(script, [[one] for one in UNIT], workers=2, retries=1)
    assert kinds(reports) == {**dict.fromkeys(range(10, 16)), 12: "killed"}
    assert reports[12].outcome.reason == "the worker was ended by SIGKILL, the last of 2 attempts"
    assert reports[12].attempts == script.attempts(12) == 2
    assert all(script.attempts(n) == 1 for n in (10, 11, 13, 14, 15))


def test_whoever_runs_beside_a_killed_one_goes_on(run, tmp_path):
    def act(number, attempt):
        if attempt == 1:
            (tmp_path / f"{number}.pid").write_text(str(os.getpid()))
            time.sleep(1.5)

    def kill():
        while not (tmp_path / "11.pid").is_file() or not (tmp_path / "10.pid").is_file():
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(int((tmp_path / "11.pid").read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    reports = run(Script(tmp_path, act), [UNIT[:1], UNIT[1:2]], workers=2)
    killer.join()
    assert {n: r.attempts for n, r in reports.items()} == {10: 1, 11: 2}
    assert kinds(reports) == {10: None, 11: None}


def test_of_several_evaluated_together_only_the_deadly_one_fails(run, tmp_path):
    def act(number, attempt):
        if number == 11:
            os._exit(1)

    reports = run(Script(tmp_path, act), [UNIT[:3]], workers=1, retries=1)
    assert kinds(reports) == {10: None, 11: "killed", 12: None}
    assert {n: r.attempts for n, r in reports.items()} == {10: 2, 11: 2, 12: 2}


def test_an_idle_worker_that_died_costs_nobody_an_attempt(tmp_path):
    executor = Processes(workers=1)
    executor.open(Script(tmp_path), 0, None)
    try:
        executor.submit(UNIT[:1])
        (first,) = executor.wait()
        worker = psutil.Process(first.outcome.notes["pid"])
        worker.kill()
        while executor._workers[0].alive:  # a process ends after its main thread
            time.sleep(0.01)
        executor.submit(UNIT[1:2])
        (second,) = executor.wait()
    finally:
        executor.close()
    assert (second.outcome.values, second.attempts) == ({"loss": 11.0}, 1)


# --- limits --------------------------------------------------------------------------------------------


def test_what_takes_too_long_is_ended_and_the_run_goes_on(run, tmp_path):
    def act(number, attempt):
        if number == 10:
            time.sleep(600)

    script, logs = Script(tmp_path, act), tmp_path / "logs"
    logs.mkdir()
    reports = run(script, [[one] for one in UNIT[:4]], logs, workers=2, seconds=3)
    assert kinds(reports) == {10: "timeout", 11: None, 12: None, 13: None}
    assert reports[10].outcome.reason == "took longer than 3 s"
    assert 3 <= reports[10].outcome.seconds < 30
    assert script.attempts(10) == 1
    assert log_file(logs, 10).read_text() == "timeout: took longer than 3 s, attempt 1\n"


def test_what_takes_too_much_memory_is_ended_and_the_run_goes_on(run, tmp_path):
    def act(number, attempt):
        if number == 11:
            hoard = np.ones(100_000_000)
            time.sleep(hoard[0] * 600)

    script = Script(tmp_path, act)
    reports = run(script, [[one] for one in UNIT[:4]], workers=2, memory_gb=0.7)
    assert kinds(reports) == {10: None, 11: "memory", 12: None, 13: None}
    assert reports[11].outcome.reason == "needed more than 0.7 GB"
    assert script.attempts(11) == 1


# --- logs, errors, refusals ----------------------------------------------------------------------------


def test_failures_and_what_is_printed_are_as_they_are_here(run, tmp_path):
    def act(number, attempt):
        sys.stdout.write(f"I am {number}\n")
        if number == 11:
            raise ValueError("no\nsecond line")

    logs = tmp_path / "logs"
    logs.mkdir()
    reports = run(Script(tmp_path, act), [UNIT[:2]], logs, workers=1)
    assert kinds(reports) == {10: None, 11: "error"}
    assert reports[11].outcome.reason == "ValueError: no"
    assert "I am 10\n" in log_file(logs, 10).read_text()
    assert "Traceback" in log_file(logs, 11).read_text()


def test_an_evaluator_that_breaks_its_contract_ends_the_run(run):
    class Forgetful(Evaluator):
        def evaluate(self, proposals, *, seed):
            return []

    with pytest.raises(BadInput, match=r"Forgetful\.evaluate must give 1 outcomes, got 0"):
        run(Forgetful(), [UNIT[:1]], workers=1)


def test_an_outcome_that_cannot_be_sent_back_is_told(run):
    class Locked(Evaluator):
        def evaluate(self, proposals, *, seed):
            return [Measurement({"loss": 1.0}, notes={"lock": threading.Lock()})]

    with pytest.raises(RunFailed, match=r"an outcome cannot be sent back from a worker: .*lock"):
        run(Locked(), [UNIT[:1]], workers=1)


def test_what_cannot_be_sent_is_refused_before_a_folder_is_made(tmp_path):
    lock = threading.Lock()

    def guarded(architecture):
        with lock:
            return 1.0

    with pytest.raises(BadInput, match=r"cannot be sent .*lock.*give it as a factory \(module:name\)"):
        nas.search(
            space=SPACE,
            objectives="min loss",
            evaluator=guarded,
            trials=2,
            executor="processes",
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_what_trains_shared_weights_runs_only_here(tmp_path):
    class Training(Script):
        pure = False

    with pytest.raises(BadInput, match="executor must be here for an evaluator that trains weights shared"):
        Study(SPACE, parse_objectives("min loss"), Training(tmp_path), None, executor=Processes(workers=1))


def test_what_cannot_be_rebuilt_in_a_worker_ends_the_run_with_the_reason(run, tmp_path):
    class Picky(Script):
        def __setstate__(self, state):
            raise OSError("no such device")

    with pytest.raises(RunFailed, match="a worker cannot rebuild the evaluator: OSError: no such device"):
        run(Picky(tmp_path), [UNIT[:1]], workers=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"workers": "two"}, "workers must be a whole number"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"seconds": 0}, "seconds must be a positive number"),
        ({"memory_gb": -1.0}, "memory_gb must be a positive number"),
        ({"devices": "01"}, "devices must be a list of CUDA devices"),
        ({"worker": 2}, "unknown setting of processes 'worker'; did you mean 'workers'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(BadInput, match=message):
        create({"name": "processes", **settings})


class Sighted(Evaluator):
    """Tells which CUDA devices it sees, when two workers are there."""

    metrics = frozenset({"loss"})

    def __init__(self, folder):
        self.folder = folder

    def evaluate(self, proposals, *, seed):
        (self.folder / str(os.getpid())).touch()
        while len(list(self.folder.iterdir())) < 2:
            time.sleep(0.02)
        seen = {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "torch": "torch" in sys.modules}
        return [Measurement({"loss": 0.0}, notes=seen) for _ in proposals]


def test_each_worker_sees_a_device_of_its_own_from_its_first_moment(run, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_files", {})  # those that other tests loaded may import torch
    reports = run(Sighted(tmp_path), [[one] for one in UNIT[:2]], workers=2, devices=[1, "GPU-8f"])
    notes = [r.outcome.notes for r in reports.values()]
    assert {n["gpu"] for n in notes} == {"1", "GPU-8f"}
    assert not any(n["torch"] for n in notes)


@pytest.mark.parametrize(("visible", "dealt"), [("0,3", ["0", "3"]), ("2", []), ("", [])])
def test_devices_that_this_process_may_use_are_dealt_where_there_are_several(monkeypatch, visible, dealt):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Processes(workers=2)._devices == dealt


def test_as_many_places_as_there_are_cores():
    assert 1 <= create("processes").places <= len(os.sched_getaffinity(0))


OWN = """
import nas

@nas.register_evaluator("own")
class Own(nas.Evaluator):
    metrics = frozenset({"loss"})

    def evaluate(self, proposals, *, seed):
        from nas.registry import load
        assert load("evaluator", "own") is Own
        return [nas.Measurement({"loss": 2.0}) for _ in proposals]
"""


def test_user_files_and_registrations_are_there_in_a_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {kind: {} for kind in registry.KINDS})
    monkeypatch.setattr(registry, "_files", {})
    (tmp_path / "own.py").write_text(OWN)
    search = Search(
        space=SPACE,
        objectives="min loss",
        evaluators=[{"factory": "./own.py:Own"}],
        strategy="random",
        task={"name": "digits", "limit": 20},
        executor={"name": "processes", "workers": 1},
        folder=tmp_path,
    )
    study = Parts(search).study()
    (tmp_path / "own.py").write_text("raise RuntimeError('it was changed since it was loaded')")
    study.run(Budget(trials=1))
    (tmp_path / "own.py").unlink()
    study.run(Budget(trials=2))
    assert [dict(t.values) for t in study.history.trials] == [{"loss": 2.0}] * 2


# --- clock readings ------------------------------------------------------------------------------------


class Stamped(Evaluator):
    """Writes down when each evaluation began and ended."""

    def __init__(self, metric, folder, measured=()):
        self.metrics, self.measured = frozenset({metric}), frozenset(measured)
        self.metric, self.folder = metric, folder

    def evaluate(self, proposals, *, seed):
        return [self._one() for _ in proposals]

    def _one(self):
        began = time.monotonic()
        time.sleep(0.05)
        with (self.folder / "stamps").open("a") as file:
            file.write(json.dumps([self.metric, began, time.monotonic()]) + "\n")
        return Measurement({self.metric: began})


def test_what_is_found_with_a_reading_is_timed_with_it(tmp_path):
    beside, clock = Stamped("loss", tmp_path), FunctionEvaluator(len, ["ms", "mj"], measured=["ms"])
    assert beside.timed == frozenset()
    assert clock.timed == {"ms", "mj"}
    assert Combined([beside, clock]).timed == {"ms", "mj"}


@pytest.mark.parametrize("batch", [None, 4])
def test_clock_readings_have_the_machine_alone_and_all_else_runs_together(tmp_path, batch):
    evaluator = Combined([Stamped("loss", tmp_path), Stamped("ms", tmp_path, ["ms"])])
    objectives = parse_objectives("min loss, min ms")
    one = Study(
        SPACE,
        objectives,
        evaluator,
        evolution(SPACE, objectives, population=4),
        executor=Processes(workers=2),
        batch=batch,
    )
    one.run(Budget(trials=12))
    stamps = [json.loads(line) for line in (tmp_path / "stamps").read_text().splitlines()]
    assert sorted(metric for metric, *_ in stamps) == ["loss"] * 12 + ["ms"] * 12
    beside = [
        (a[0], b[0]) for i, a in enumerate(stamps) for b in stamps[i + 1 :] if a[1] < b[2] and b[1] < a[2]
    ]
    assert len(beside) >= 3
    assert set(beside) == {("loss", "loss")}
    assert all(set(t.values) == {"loss", "ms"} for t in one.history.trials)
    assert all(t.ended - t.started >= 0.1 for t in one.history.trials)
