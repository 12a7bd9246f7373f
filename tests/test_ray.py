"""Evaluations on a Ray cluster of two nodes: the same answers, and workers and nodes that go away."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scripted import SPACE, UNIT, Script, evaluated, kinds

from nas import registry
from nas.budget import Budget
from nas.errors import BadInput, RunFailed
from nas.executor import log_file
from nas.executors import create
from nas.executors.ray import _Remote
from nas.history import trial_to_json
from nas.objective import parse_objectives
from nas.parts import Parts, Search
from nas.run import Run
from nas.study import Study
from nas.testing.problems import Shifted

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'nas-toolkit[ray]'")

# Ray leaves sockets and pipes to the garbage collector, also long after a test of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
]


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of a core and a pretended GPU each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.shutdown()  # another test may have left one open
        node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=node)
        made.add_node(**{k: v for k, v in node.items() if k != "include_dashboard"})
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def run(cluster):
    """Evaluate units on an executor that is closed afterwards; reports by number."""
    opened = []

    def on_a_new_one(evaluator, units, logs=None, **settings):
        opened.append(create({"name": "ray", "address": cluster.address, **settings}))
        return evaluated(opened[-1], evaluator, units, logs)

    yield on_a_new_one
    for executor in opened:
        executor.close()


def test_units_are_evaluated_on_two_nodes_with_a_device_each(run, tmp_path):
    def act(number, attempt):
        sys.stdout.write(f"I am {number}\n")
        if number == 11:
            raise ValueError("no\nsecond line")
        (tmp_path / f"{os.getpid()}.pid").touch()
        while len(list(tmp_path.glob("*.pid"))) < 2:
            time.sleep(0.05)

    logs = tmp_path / "logs"
    logs.mkdir()
    reports = run(Script(tmp_path, act), [[one] for one in UNIT], logs, gpus=1)
    assert kinds(reports) == {**dict.fromkeys(range(10, 16)), 11: "error"}
    assert reports[11].outcome.reason == "ValueError: no"
    notes = [r.outcome.notes for n, r in reports.items() if n != 11]
    assert len({n["pid"] for n in notes}) == 2
    assert all(n["main"] and n["gpu"] == "0" for n in notes)
    assert log_file(logs, 10).read_text() == "I am 10\n"
    assert "Traceback" in log_file(logs, 11).read_text()


def test_a_worker_that_dies_is_replaced_and_what_always_dies_is_a_failure(run, tmp_path):
    def act(number, attempt):
        if number == 11 and attempt == 1:
            time.sleep(0.1)
            os._exit(3)
        if number == 12:
            os.kill(os.getpid(), signal.SIGKILL)

    script, logs = Script(tmp_path, act), tmp_path / "logs"
    logs.mkdir()
    reports = run(script, [[one] for one in UNIT[:4]], logs, retries=1)
    assert kinds(reports) == {10: None, 11: None, 12: "killed", 13: None}
    assert {n: r.attempts for n, r in reports.items()} == {10: 1, 11: 2, 12: 2, 13: 1}
    assert 0.1 <= reports[11].lost_seconds < 30
    assert "the worker on " in reports[12].outcome.reason
    assert reports[12].outcome.reason.endswith("the last of 2 attempts")
    assert script.attempts(12) == 2
    assert log_file(logs, 12).read_text().count("killed: the worker on") == 2


def test_what_takes_too_long_or_too_much_is_ended_and_the_run_goes_on(run, tmp_path):
    def act(number, attempt):
        if number == 10:
            time.sleep(600)
        if number == 11:
            hoard = np.ones(100_000_000)
            time.sleep(hoard[0] * 600)

    script = Script(tmp_path, act)
    reports = run(script, [[one] for one in UNIT[:4]], seconds=2, memory_gb=0.7)
    assert kinds(reports) == {10: "timeout", 11: "memory", 12: None, 13: None}
    assert reports[10].outcome.reason == "took longer than 2 s"
    assert 2 <= reports[10].outcome.seconds < 30
    assert reports[11].outcome.reason == "needed more than 0.7 GB"
    assert script.attempts(10) == script.attempts(11) == 1


def test_logs_come_back_from_where_the_drivers_folder_is_not(run, tmp_path, monkeypatch):
    def act(number, attempt):
        sys.stdout.write("far away\n")

    logs = tmp_path / "logs"
    logs.mkdir()
    prepare = _Remote.prepare
    monkeypatch.setattr(_Remote, "prepare", lambda self, payload, _: prepare(self, payload, tmp_path))
    reports = run(Script(tmp_path, act), [UNIT[:1]], logs)
    assert kinds(reports) == {10: None}
    assert log_file(logs, 10).read_text() == "far away\n"


def test_what_a_preempted_node_took_with_it_does_not_count(cluster, run, tmp_path):
    spot = cluster.add_node(num_cpus=1, resources={"spot": 1}, object_store_memory=80_000_000)

    def act(number, attempt):
        (tmp_path / f"{attempt}.pid").write_text(str(os.getpid()))
        if attempt == 1:
            time.sleep(60)

    def preempt():
        while not (tmp_path / "1.pid").is_file():
            time.sleep(0.05)
        drained(cluster.address, spot.node_id)
        time.sleep(1.5)
        cluster.remove_node(spot)

    preempting = threading.Thread(target=preempt)
    preempting.start()
    logs = tmp_path / "logs"
    logs.mkdir()
    reports = run(Script(tmp_path, act), [UNIT[:1]], logs, retries=0, gpus=0, cpus=1)
    preempting.join()
    assert kinds(reports) == {10: None}
    assert reports[10].attempts == 2
    assert log_file(logs, 10).read_text().startswith("lost: ")


def drained(address, node):
    """Tell the cluster that a node is about to be preempted."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    GcsClient(address=address).drain_node(node, reason, "as planned", int(1000 * time.time()) + 1000)


def test_a_search_in_batches_is_the_same_here_in_processes_and_on_ray(cluster):
    problem = Shifted(SPACE, 0)

    def both(architecture):
        return problem(architecture)

    both.metrics = ("near", "cost")
    found = []
    for executor in (
        "here",
        {"name": "processes", "workers": 2},
        {"name": "ray", "address": cluster.address},
    ):
        search = Search(
            space=SPACE,
            objectives="min near, min cost",
            evaluators=[both],
            strategy={"name": "evolution", "population": 8},
            budget=Budget(trials=40),
            batch=8,
            executor=executor,
            seed=3,
        )
        run = Run(search)
        try:
            front = run.search()
        finally:
            run.close()
        found.append((trials_of(run), [(m.trial, m.candidate.key, dict(m.values)) for m in front]))
    assert len(found[0][0]) == 40
    assert found[1] == found[0]
    assert found[2] == found[0]


def trials_of(run):
    """Everything but clock readings, by number."""
    clocks = {"host": "", "queued": 0.0, "started": 0.0, "ended": 0.0}
    trials = [trial_to_json(replace(t, **clocks)) for t in run.history.trials]
    for trial in trials:
        trial["measurement"].update(seconds=0)
    return sorted(trials, key=lambda trial: trial["number"])


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


def test_user_files_and_registrations_are_there_where_the_file_is_not(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {kind: {} for kind in registry.KINDS})
    monkeypatch.setattr(registry, "_files", {})
    (tmp_path / "own.py").write_text(OWN)
    search = Search(
        space=SPACE,
        objectives="min loss",
        evaluators=[{"factory": "./own.py:Own"}],
        strategy="random",
        task={"name": "digits", "limit": 20},
        executor={"name": "ray", "address": cluster.address, "max_in_flight": 1},
        folder=tmp_path,
    )
    study = Parts(search).study()
    put = ray.put
    monkeypatch.setattr(ray, "put", lambda payload: _without(tmp_path / "own.py", put(payload)))
    study.run(Budget(trials=2))
    assert [dict(t.values) for t in study.history.trials] == [{"loss": 2.0}] * 2


def _without(file, answer):
    file.unlink()
    return answer


def test_what_the_cluster_cannot_run_is_refused(cluster, tmp_path):
    class Training(Script):
        pure = False

    def study(evaluator, **settings):
        executor = create({"name": "ray", "address": cluster.address, **settings})
        return Study(SPACE, parse_objectives("min loss"), evaluator, None, executor=executor)

    with pytest.raises(BadInput, match="executor must be here for an evaluator that trains weights shared"):
        study(Training(tmp_path))
    with pytest.raises(BadInput, match=r"executor must fit into a node of the cluster \(3 CPU, 1 GPU\)"):
        study(Script(tmp_path), cpus=3, gpus=1)
    with pytest.raises(BadInput, match=r"cannot be sent .*lock"):
        study(Script(tmp_path, threading.Lock()))
    assert study(Script(tmp_path)).executor.places == 2
    assert study(Script(tmp_path), cpus=0.5).executor.places == 4
    assert study(Script(tmp_path), cpus=0.25, gpus=0.5).executor.places == 4


def test_what_cannot_be_rebuilt_in_a_worker_ends_the_run_with_the_reason(run, tmp_path):
    class Picky(Script):
        def __setstate__(self, state):
            raise OSError("no such device")

    with pytest.raises(RunFailed, match="a worker cannot rebuild the evaluator: OSError: no such device"):
        run(Picky(tmp_path), [UNIT[:1]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cpus": -1}, "cpus must be a fraction of one or a whole number"),
        ({"gpus": 1.5}, "gpus must be a fraction of one or a whole number"),
        ({"cpus": 0}, "cpus must be positive where gpus is 0"),
        ({"max_in_flight": 0}, "max_in_flight must be at least 1"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"seconds": 0}, "seconds must be a positive number"),
        ({"workers": 2}, "unknown setting of ray 'workers'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(BadInput, match=message):
        create({"name": "ray", **settings})


def test_without_ray_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"install it with: pip install 'nas-toolkit\[ray\]'"):
        create("ray")
    assert create("processes")
