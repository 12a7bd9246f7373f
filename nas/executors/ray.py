"""Evaluations on a Ray cluster: on this machine or on many, whose nodes may come and go."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import threading
import time
from dataclasses import replace
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, final

import cloudpickle

from nas.errors import RunFailed, must
from nas.executor import Executor, Report, Unit
from nas.executors.attempts import Attempts, Work
from nas.executors.ray_worker import Notes, Worker
from nas.executors.worker import ONE_THREAD, STILLBORN, packed

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from nas.evaluator import Evaluator

    _Answers = SimpleQueue[tuple["_Remote", Future[Any]]]

INSTALL = "pip install 'nas-toolkit[ray]'"
SLOW_START = 60.0
"""Seconds without any worker after which the log says what is waited for."""

log = logging.getLogger(__name__)


@final
class Ray(Executor):
    """Evaluations by workers of a Ray cluster, each an actor with its share of a node, and one thread.

    A worker is started when there is work, receives the evaluator once, and does one unit at a time; Ray
    decides on which node, and which GPUs it sees. When a worker dies its work is tried again on another one.
    What died with a node that was drained or preempted does not count as an attempt, nor does what a network
    fault cut off.

    A Ray that this process is connected to already is used as it is. One that is started here ends with the
    process and uses neither the dashboard nor usage statistics.

    Args:
        address: of a running cluster, as Ray takes it; ``auto`` for the one of this machine. None starts
            one on this machine.
        cpus, gpus: of a node for each evaluation; fractions share a core or a device. Not both 0.
        max_in_flight: evaluations at once, at least 1, for which a Ray that is started here has the cores
            and for which a cluster may have to grow; as many as the nodes have room for when None.
        retries: how often an evaluation whose worker died is tried again, at least 0, before it counts as a
            failure of kind ``killed``.
        seconds: longest that an evaluation may take, then it is a failure of kind ``timeout``.
        memory_gb: most resident memory (10⁹ bytes) that its worker may have, the interpreter and its
            libraries among it, looked at ten times a second; then it is a failure of kind ``memory``.

    Raises:
        BadInput: a setting is out of its range, or Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        max_in_flight: int | None = None,
        retries: int = 2,
        seconds: float | None = None,
        memory_gb: float | None = None,
    ) -> None:
        for name, share in (("cpus", cpus), ("gpus", gpus)):
            if not (0 <= share <= 1 or (share > 1 and float(share).is_integer())):
                raise must(name, "be a fraction of one or a whole number", share)
        if not cpus and not gpus:
            raise must("cpus", "be positive where gpus is 0", cpus)
        if max_in_flight is not None and max_in_flight < 1:
            raise must("max_in_flight", "be at least 1", max_in_flight)
        self._ray = _ray()
        self._address, self._max, self._needs = address, max_in_flight, {"CPU": cpus, "GPU": gpus}
        self._attempts = Attempts(retries, seconds, memory_gb)
        self._answers: _Answers = SimpleQueue()
        self._workers: list[_Remote] = []
        self._names = count()
        self._notes: Any = None
        self._payload: Any = None
        self._stillborn = 0
        self._waited = time.monotonic()

    @property
    def busy(self) -> int:
        """Units that run or wait."""
        return len(self._attempts.waiting) + sum(worker.work is not None for worker in self._workers)

    def check(self, evaluator: Evaluator) -> None:
        """Refuse what cannot be sent to another process, and a cluster without room; sets `places`."""
        packed(evaluator, 0, None, "ray")
        self._connect()

    def _connect(self) -> None:
        """Find the cluster, or start one, and see how much it holds.

        Raises:
            BadInput: there is none at that address, or no node has what one evaluation needs.
        """
        if not self._ray.is_initialized():
            _started(self._ray, self._address, math.ceil((self._max or 0) * self._needs["CPU"]))
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        room = sum(self._room(resources) for resources in nodes)
        if not room and self._max is None:
            raise must("executor", f"fit into a node of the cluster ({self._asked})", nodes)
        self.places = self._max or room

    def _room(self, resources: dict[str, float]) -> int:
        """Workers that fit into a node."""
        return min(int(resources.get(name, 0.0) / need + 1e-9) for name, need in self._needs.items() if need)

    @property
    def _asked(self) -> str:
        return ", ".join(f"{need:g} {name}" for name, need in self._needs.items() if need)

    def open(self, evaluator: Evaluator, seed: int, logs: Path | None) -> None:
        """Put what workers need into the cluster; they are started when there is work."""
        payload = packed(evaluator, seed, logs, "ray")
        self._connect()
        self._payload, self._attempts.logs = self._ray.put(payload), logs
        self._waited = time.monotonic()
        if self._attempts.memory_gb is not None:
            self._notes = self._ray.remote(Notes).options(num_cpus=0).remote()

    def submit(self, unit: Unit) -> None:
        """Queue a unit."""
        self._attempts.waiting.append(Work(unit))

    def wait(self) -> list[Report]:
        """Keep workers busy until something has ended."""
        while True:
            self._assign()
            reports = [*self._heard(), *self._overdue()]
            if reports:
                return reports

    def drop(self) -> None:
        """Forget what waits; what runs goes on."""
        self._attempts.waiting.clear()

    def close(self) -> None:
        """Kill all workers; the cluster stays."""
        self.drop()
        for worker in [*self._workers]:
            self._remove(worker)
        if self._notes is not None:
            self._ray.kill(self._notes)
        self._notes = self._payload = None

    def _assign(self) -> None:
        """Give waiting units to idle workers, and start more for the others.

        Work is not bound to a worker that starts, since that may have to wait for a node.
        """
        waiting = self._attempts.waiting
        for worker in self._workers:
            if worker.idle and waiting:
                worker.take(waiting.popleft())
        starting = sum(not worker.ready for worker in self._workers)
        for _ in range(min(len(waiting) - starting, self.places - len(self._workers))):
            self._workers.append(self._start())

    def _start(self) -> _Remote:
        actor = self._ray.remote(Worker).options(
            num_cpus=self._needs["CPU"], num_gpus=self._needs["GPU"], runtime_env={"env_vars": ONE_THREAD}
        )
        remote = _Remote(
            actor.remote(self._attempts.memory_gb, self._notes), next(self._names), self._answers
        )
        remote.prepare(self._payload, self._attempts.logs)
        return remote

    def _heard(self) -> list[Report]:
        """What workers said, or died of, until one of them did or a limit has to be looked at."""
        running = [(w.work, w.began) for w in self._workers if w.work is not None]
        patience = self._attempts.patience(running)
        try:
            found = [self._answers.get(timeout=SLOW_START if patience is None else min(patience, SLOW_START))]
        except Empty:
            self._say_what_is_waited_for()
            return []
        while not self._answers.empty():
            found.append(self._answers.get())
        return [report for worker, answer in found for report in self._answer(worker, answer)]

    def _answer(self, worker: _Remote, future: Future[Any]) -> list[Report]:
        """One answer; those of workers that were ended meanwhile are forgotten."""
        if worker not in self._workers:
            return []
        error = future.exception()
        if error is not None:
            return self._died(worker, error)
        self._stillborn, self._waited = 0, time.monotonic()
        if not worker.ready:
            _unpickled(future.result())
            worker.ready = True
            return []
        answer, texts = future.result()
        reports = _unpickled(answer)
        for name, text in texts.items():
            assert self._attempts.logs is not None
            with (self._attempts.logs / name).open("a", encoding="utf-8") as file:
                file.write(text)
        work = worker.done()
        return [replace(r, attempts=work.attempts, lost_seconds=work.lost_seconds) for r in reports]

    def _overdue(self) -> list[Report]:
        """End what takes too long."""
        reports: list[Report] = []
        now = time.time()
        if self._attempts.seconds is None:
            return reports
        for worker in [w for w in self._workers if w.work is not None]:
            work, began = worker.work, worker.began
            if work is not None and now > self._attempts.due(work, began):
                self._remove(worker)
                reports += self._attempts.too_long(work, began)
        return reports

    def _died(self, worker: _Remote, error: BaseException) -> list[Report]:
        """What becomes of the work of a worker that is gone."""
        errors = self._ray.exceptions
        own = self._noted(worker)
        self._remove(worker)
        reason = _reason(error)
        if isinstance(error, errors.RayTaskError | errors.LocalRayletDiedError | errors.RaySystemError):
            raise RunFailed(f"a worker cannot start or be reached: {reason}")
        innocent = isinstance(error, errors.ActorUnavailableError | errors.ObjectLostError) or (
            isinstance(error, errors.RayActorError) and error.preempted
        )
        work = worker.work
        if work is None:
            self._stillborn += not innocent
            if self._stillborn >= STILLBORN:
                raise RunFailed(f"{STILLBORN} workers in a row ended before they were ready: {reason}")
        elif own:
            return self._attempts.too_large(work, worker.began)
        elif innocent:
            self._attempts.taken(work, worker.began, reason)
        else:
            return self._attempts.died(work, worker.began, reason)
        return []

    def _noted(self, worker: _Remote) -> bool:
        """Whether the worker ended itself, since it needed too much memory."""
        if self._notes is None:
            return False
        try:
            return bool(self._ray.get(self._notes.holds.remote(worker.name), timeout=SLOW_START))
        except self._ray.exceptions.RayError:
            return False  # the notes went with their node; it counts as killed

    def _say_what_is_waited_for(self) -> None:
        if not any(worker.ready for worker in self._workers) and time.monotonic() - self._waited > SLOW_START:
            log.warning("waiting for a node of the cluster with room for %s", self._asked)

    def _remove(self, worker: _Remote) -> None:
        self._workers.remove(worker)
        self._ray.kill(worker.actor)


@final
class _Remote:
    """A worker of the cluster, and what it does."""

    def __init__(self, actor: Any, name: int, answers: _Answers) -> None:
        self.actor, self.name, self._answers = actor, name, answers
        self.ready = False
        self.work: Work | None = None
        self.began = 0.0

    def prepare(self, payload: Any, logs: Path | None) -> None:
        """Send what it needs; it is ready when that is answered."""
        folder = None if logs is None else logs.stat().st_ino
        self._ask(self.actor.take_over.remote(payload, self.name, folder))

    @property
    def idle(self) -> bool:
        """Whether it can take work."""
        return self.ready and self.work is None

    def take(self, work: Work) -> None:
        """Evaluate a unit."""
        self.work, self.began = work, time.time()
        self._ask(self.actor.evaluate.remote(cloudpickle.dumps(work.unit)))

    def done(self) -> Work:
        """The work, which it has no more."""
        work, self.work = self.work, None
        assert work is not None
        return work

    def _ask(self, answer: Any) -> None:
        answer.future().add_done_callback(lambda future: self._answers.put((self, future)))


def _unpickled(answer: bytes) -> Any:
    """What a worker answers, unless that is an error."""
    found = cloudpickle.loads(answer)
    if isinstance(found, BaseException):
        raise found
    return found


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise must("executor", "be one that is installed", "ray", f"install it with: {INSTALL}") from error
    return ray


def _started(ray: Any, address: str | None, cores: int) -> None:
    """Connect to a cluster or start one, which leaves the process's signals to their handlers."""
    here: dict[str, Any] = {}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        here = {"include_dashboard": False}
        if cores > len(os.sched_getaffinity(0)):
            here["num_cpus"] = cores
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", log_to_driver=False, configure_logging=False, **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise must("executor", "have a Ray cluster at its address", address, str(error)) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _reason(error: BaseException) -> str:
    """What a long message of Ray's says of what happened, with the machine's address."""
    lines = [line.strip() for line in str(error).splitlines()]
    where = next((f" on {line[4:]}" for line in lines if line.startswith("ip: ")), "")
    told = [x for x in lines if x and not re.match(r"The actor died unexpectedly before|\w+: \S+$", x)]
    text = (told or [type(error).__name__])[0]
    text = text.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0]
    return f"the worker{where} died: {text.rstrip('.')}"
