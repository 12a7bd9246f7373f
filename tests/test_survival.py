"""Searches that are stopped, terminated or killed, and go on: signals, what was in flight, and kill -9."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import count

import pytest
from test_study import LOSS, PROBLEM, SPACE, Listed, Places, Scored, ask_loss, sampled, study
from toys import plain_space

from nas.budget import Budget
from nas.cli.signals import obeyed
from nas.executors.processes import Processes
from nas.files import FolderFiles
from nas.history import MemoryHistory
from nas.inflight import InFlight, Job
from nas.proposal import Proposal
from nas.strategies.evolution import evolution
from nas.strategies.random_search import RandomSearch
from nas.strategy import Strategy

# --- what was in flight --------------------------------------------------------------------------------


def test_jobs_are_read_as_they_were_written(tmp_path):
    kept = InFlight(FolderFiles(tmp_path), SPACE)
    jobs = [
        Job(3 + i, Proposal(a, ("loss",), fidelity=0.5, continues=1), "search", 3, i, 2, 12.5)
        for i, a in enumerate(sampled(2))
    ]
    assert kept.read() == []
    kept.write(jobs)
    kept.write(jobs)
    assert InFlight(FolderFiles(tmp_path), SPACE).read() == jobs
    kept.write(jobs[1:])
    assert [job.number for job in kept.read()] == [4]
    kept.write([])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "[{", "[1]", '[{"number": 1}]', '[{"proposal": {"metrics": ["loss"]}}]']
)
def test_a_damaged_file_is_named_and_nothing_worse(tmp_path, text, caplog):
    (tmp_path / "inflight.json").write_text(text)
    assert InFlight(FolderFiles(tmp_path), SPACE).read() == []
    assert "is damaged" in caplog.text


def interrupted_at(at, history, kept, strategy):
    """An asynchronous search on three places that is interrupted in its evaluation number ``at``."""
    calls = count()

    def score(proposal):
        if next(calls) == at:
            raise KeyboardInterrupt
        return PROBLEM(proposal.candidate)

    one = study(strategy, Scored(score), executor=Places(3), history=history, in_flight=kept)
    with pytest.raises(KeyboardInterrupt):
        one.run(Budget(trials=30))
    return one


@pytest.mark.parametrize("at", [0, 5, 17])
def test_what_was_in_flight_is_evaluated_first_and_under_its_number(tmp_path, at, caplog):
    caplog.set_level(logging.INFO, logger="nas.study")
    history, kept = MemoryHistory(), InFlight(FolderFiles(tmp_path), SPACE)
    first = interrupted_at(at, history, kept, evolution(SPACE, LOSS, population=4))
    flying = {job.number: job.proposal for job in kept.read() if job.number in first.lost}
    assert len(flying) == len(first.lost) == 3
    assert len(history.trials) == at
    again = study(evolution(SPACE, LOSS, population=4), executor=Places(3), history=history, in_flight=kept)
    assert {job.number: job.proposal for job in again.owed()} == flying
    again.run(Budget(trials=30))
    assert f"evaluating again what was in flight: {', '.join(map(str, first.lost))}" in caplog.text
    found = {t.number: t.proposal for t in history.trials}
    assert found.items() >= flying.items()
    assert sorted(found) == list(range(30))
    assert again.spent.trials == 30
    assert not (tmp_path / "inflight.json").exists()


def test_a_group_that_was_cut_is_told_whole(tmp_path):
    history, kept = MemoryHistory(), InFlight(FolderFiles(tmp_path), SPACE)
    asked = ask_loss(sampled(12))
    one = study(Listed(asked, group=2), executor=Places(2), history=history, in_flight=kept)
    one._hear = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # both groups are on their way
    with pytest.raises(KeyboardInterrupt):
        one.run(Budget(trials=12))
    assert one.lost == (0, 1, 2, 3)
    again = study(Listed(asked, group=2), executor=Places(2), history=history, in_flight=kept)
    again.run(Budget(trials=12))
    assert sorted(again.strategy.told) == [[i, i + 1] for i in range(0, 12, 2)]
    assert {t.number: t.proposal for t in history.trials} == dict(enumerate(asked))


def test_what_was_in_flight_waits_for_a_larger_budget(tmp_path):
    history, kept = MemoryHistory(), InFlight(FolderFiles(tmp_path), SPACE)
    interrupted_at(5, history, kept, RandomSearch(SPACE, LOSS))
    settings = {"executor": Places(3), "history": history, "in_flight": kept}
    study(RandomSearch(SPACE, LOSS), **settings).run(Budget(trials=5))
    assert len(history.trials) == 5
    again = study(RandomSearch(SPACE, LOSS), **settings)
    assert len(again.owed()) == 3
    again.run(Budget(trials=8))
    assert len(history.trials) == 8
    assert again.owed() == []


@pytest.mark.parametrize(("batch", "places"), [(4, 3), (4, 1), (None, 1), (None, 3)])
def test_what_is_in_flight_is_named_wherever_it_runs(tmp_path, batch, places):
    in_flight, written = InFlight(FolderFiles(tmp_path), SPACE), []
    in_flight.write = lambda jobs: written.append([job.number for job in jobs])
    one = study(RandomSearch(SPACE, LOSS), in_flight=in_flight, batch=batch, executor=Places(places))
    one.run(Budget(trials=8))
    assert max(map(len, written)) == max(batch or 1, places)
    assert set().union(*written) == set(range(8))
    assert written[-1] == []


def test_a_batch_that_was_cut_owes_nothing_since_asking_again_gives_the_same(tmp_path):
    in_flight = InFlight(FolderFiles(tmp_path), SPACE)
    settings = {"history": MemoryHistory(), "in_flight": in_flight, "batch": 4}
    one = study(RandomSearch(SPACE, LOSS), **settings)
    in_flight.write([Job(0, ask_loss(sampled(1))[0], "search", 0, 0, 4, 1.0)])
    assert one.owed() == []
    one.run(Budget(trials=4))
    assert in_flight.read() == []


# --- signals -------------------------------------------------------------------------------------------


class Signalling(Scored):
    """Sends this process signals during one evaluation, as a person or a scheduler would."""

    def __init__(self, at, *signals):
        super().__init__(lambda p: PROBLEM(p.candidate))
        self.at, self.signals, self.ended = at, signals, 0

    def evaluate(self, proposals, *, seed):
        if len(self.calls) == self.at:
            for number in self.signals:
                os.kill(os.getpid(), number)
                time.sleep(0.01)
        found = super().evaluate(proposals, seed=seed)
        self.ended += 1
        return found


@pytest.mark.parametrize("batch", [None, 4])
def test_one_interrupt_lets_the_running_evaluation_end(batch, capfd):
    one = study(RandomSearch(SPACE, LOSS), Signalling(5, signal.SIGINT), batch=batch)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with obeyed(one):
        one.run(Budget(trials=20))
        one.confirm()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert (len(one.history.trials), one.evaluator.ended) == (6, 6)
    assert one.stopped
    assert (one.ended, one.lost) == ("interrupted", () if batch is None else (6, 7))
    assert "once more to end at once" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("signals", "ended"),
    [((signal.SIGINT, signal.SIGINT), "interrupted"), ((signal.SIGTERM,), "terminated")],
)
def test_a_second_interrupt_and_a_termination_end_at_once(signals, ended):
    one = study(RandomSearch(SPACE, LOSS), Signalling(5, *signals))
    with obeyed(one), pytest.raises(KeyboardInterrupt):
        one.run(Budget(trials=20))
    assert (len(one.history.trials), one.evaluator.ended) == (5, 5)
    assert (one.ended, one.lost) == (ended, (5,))


def test_stopped_searches_go_on_as_if_they_had_not_been():
    straight = study(evolution(SPACE, LOSS, population=4), batch=4)
    straight.run(Budget(trials=16))
    history = MemoryHistory()
    for signals in ((signal.SIGINT,), (signal.SIGTERM,), ()):
        one = study(evolution(SPACE, LOSS, population=4), Signalling(2, *signals), batch=4, history=history)
        with obeyed(one):
            try:
                one.run(Budget(trials=16))
            except KeyboardInterrupt:
                assert one.ended == "terminated"
    assert len(history.trials) == 16
    assert [t.proposal for t in history.trials] == [t.proposal for t in straight.history.trials]


class Counting(Strategy):
    """Counts what it was told, in two steps between which a signal comes; keeps snapshots."""

    def __init__(self):
        self.begun = self.done = 0

    def ask(self, n, rng, pending=()):
        return ask_loss([SPACE.sample(rng) for _ in range(n)])

    def tell(self, trials, rng):
        self.begun += len(trials)
        if self.begun == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        self.done += len(trials)

    def snapshot(self):
        return {"begun": self.begun, "done": self.done}

    def restore(self, state):
        self.begun, self.done = state["begun"], state["done"]


def test_a_termination_tears_no_telling_and_saves_the_strategy():
    one = study(Counting(), batch=2)
    with obeyed(one):
        one.run(Budget(trials=20))
    assert (one.ended, one.lost, len(one.history.trials)) == ("terminated", (), 4)
    assert one.history.saved() == ({"begun": 4, "done": 4}, 4)


def test_an_interrupt_lets_all_workers_end():
    def score(proposal):
        time.sleep(0.5)
        return PROBLEM(proposal.candidate)

    one = study(RandomSearch(SPACE, LOSS), Scored(score), executor=Processes(workers=2), batch=6)
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    with obeyed(one):
        timer.start()
        one.run(Budget(trials=60))
    timer.join()
    numbers = [t.number for t in one.history.trials]
    assert 2 <= len(numbers) < 12
    assert not any(t.failed or t.attempts > 1 for t in one.history.trials)
    assert set(numbers).isdisjoint(one.lost)


OWN = """
import os, time
import nas
from nas.testing.problems import plain_space

SPACE = plain_space()

def loss(architecture):
    with open("begun", "a") as file:
        file.write(architecture.key + "\\n")
    if os.path.exists("hang"):
        time.sleep(600)
    return 1.0

def space():
    return SPACE
"""
CONFIG = """
seed: 0
space: {factory: "./own.py:space"}
objectives: min loss
evaluators: [{factory: "./own.py:loss"}]
task: {name: digits, limit: 20}
strategy: random
executor: {name: processes, workers: 2}
budget: {trials: 12}
"""


def begun(folder):
    return (folder / "begun").read_text().split() if (folder / "begun").is_file() else []


def command(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "nas", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_terminated_run_says_what_it_lost_and_goes_on_with_exactly_that(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "hang").touch()
    process = command(tmp_path, "search", "run.yaml", "--out", "run")
    try:
        deadline = time.time() + 120
        while len(begun(tmp_path)) < 2 and time.time() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        clock = time.time()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert time.time() - clock < 30  # and not the ten minutes of an evaluation
    assert process.returncode == 1
    assert err == (
        "error: terminated; 2 in flight will be evaluated again: 0, 1; all finished trials are safe. "
        "Continue with: nas resume run\n"
    )
    lost = begun(tmp_path)
    owed = json.loads((tmp_path / "run" / "inflight.json").read_text())
    assert {plain_space().architecture(j["proposal"]["architecture"]).key for j in owed} == set(lost)
    (tmp_path / "hang").unlink()
    process = command(tmp_path, "resume", "run")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "evaluating again what was in flight: 0, 1\n" in out
    # A worker that starts late may begin after another one's third, so the order says nothing.
    assert [begun(tmp_path).count(key) for key in lost] == [2, 2]
    assert "12 trials" in out


# --- kill -9 -------------------------------------------------------------------------------------------


SIZE = 48


@pytest.mark.parametrize("batch", [8, None])
def test_nothing_is_lost_or_repeated_when_a_driver_or_a_worker_is_killed(survival, batch):
    straight = survival.uninterrupted(batch, SIZE)
    for victim in ("driver", "worker"):
        killed = survival.kill_once(1, batch, victim, straight, SIZE)
        assert killed.survived, killed.why
        assert killed.lost <= 2


def test_what_a_kill_could_break_would_be_seen(survival, tmp_path):
    one = survival.Place(tmp_path / "one" / "run")
    assert survival.started(one, None, 12).wait(60) == 0
    stored = survival.trials(one)
    straight = survival.front(one)
    key = next(iter(survival.keys(stored[:1])))
    other = {**stored[3], "attempts": 9}
    wrong = next(t["proposal"] for t in stored if t["number"] == 4)
    job = {"number": 5, "proposal": wrong}

    def why(before=(), fresh=(), flying=(), code=0, batch=None, straight=straight, size=12):
        return survival.faults(one, list(before), set(fresh), list(flying), code, batch, straight, size)

    assert (
        why(stored, {"else"}, [{"number": t["number"], "proposal": t["proposal"]} for t in stored], batch=4)
        == ""
    )
    assert why(code=1) == "ended with code 1"
    assert why(size=13) == "trials are missing"
    assert why([other]) == "an appended trial changed"
    assert why(stored[:1], {key}) == "an appended trial was evaluated again"
    assert why(flying=[job]) == "what was in flight was not evaluated under its number"
    assert why(straight=straight[1:], batch=4) == "the front differs"
