"""Evaluations in processes of this machine, which may die, hang or grow without taking the run with them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import cloudpickle
import psutil

from nas.errors import RunFailed, must
from nas.executor import Executor, Report, Unit
from nas.executors.attempts import Attempts, Work
from nas.executors.worker import MEMORY_CHECK, ONE_THREAD, STILLBORN, packed, serve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.evaluator import Evaluator


@final
class Processes(Executor):
    """Evaluations in worker processes, each with one thread.

    A worker is started by loky when it is first needed, receives the evaluator once, and does one unit at a
    time. Every worker has a connection of its own, so that it is known which evaluation died with it; all
    others go on.

    Args:
        workers: evaluations at once, at least 1; as many as this process may use cores when None.
        retries: how often an evaluation whose worker died is tried again, at least 0, before it counts as a
            failure of kind ``killed``.
        seconds: longest that an evaluation may take, then it is a failure of kind ``timeout``.
        memory_gb: most resident memory (10⁹ bytes) that its worker may have, the interpreter and its
            libraries among it, looked at ten times a second; then it is a failure of kind ``memory``.
        devices: CUDA devices by number or UUID, given to workers in turn, so that each sees one; those that
            this process may use when None. With one device or none, workers see what this process sees.

    Raises:
        BadInput: a setting is out of its range.
    """

    def __init__(
        self,
        workers: int | None = None,
        retries: int = 2,
        seconds: float | None = None,
        memory_gb: float | None = None,
        devices: Sequence[int | str] | None = None,
    ) -> None:
        self.places = _cores() if workers is None else workers
        if self.places < 1:
            raise must("workers", "be at least 1", workers)
        self._attempts = Attempts(retries, seconds, memory_gb)
        self._devices = _devices() if devices is None else _named(devices)
        self._payload = b""
        self._workers: list[_Worker] = []
        self._stillborn = 0

    @property
    def busy(self) -> int:
        """Units that run or wait."""
        return len(self._attempts.waiting) + sum(worker.work is not None for worker in self._workers)

    def check(self, evaluator: Evaluator) -> None:
        """Refuse what trains shared weights, and what cannot be sent to another process."""
        packed(evaluator, 0, None, "processes")

    def open(self, evaluator: Evaluator, seed: int, logs: Path | None) -> None:
        """Pack what workers need; they are started when there is work."""
        self._payload, self._attempts.logs = packed(evaluator, seed, logs, "processes"), logs

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
        """Kill all workers."""
        self.drop()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _assign(self) -> None:
        """Give waiting units to idle workers, new ones if need be; dead idle ones are replaced unasked."""
        for worker in [w for w in self._workers if w.work is None and not w.alive]:
            self._remove(worker)
        idle = [worker for worker in self._workers if worker.work is None]
        waiting = self._attempts.waiting
        for _ in range(min(len(waiting) - len(idle), self.places - len(self._workers))):
            idle.append(self._start())  # all start before the first is waited for
        for worker, _ in zip(idle, list(waiting), strict=False):
            worker.take(waiting.popleft())

    def _start(self) -> _Worker:
        """A new worker in the first free place, which decides on its device."""
        taken = {worker.place for worker in self._workers}
        place = next(i for i in range(self.places) if i not in taken)
        environment = dict(ONE_THREAD)
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[place % len(self._devices)]
        self._workers.append(_Worker(self._payload, place, environment))
        return self._workers[-1]

    def _heard(self) -> list[Report]:
        """What workers said, or died of, until one of them did or a limit has to be looked at."""
        working = {worker.connection: worker for worker in self._workers if worker.work is not None}
        reports: list[Report] = []
        for connection in wait(list(working), self._patience()):
            worker = working[connection]
            try:
                answer = worker.hear()
            except (EOFError, OSError):
                reports += self._died(worker)
                continue
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None:
                work = worker.done()
                reports += [
                    replace(report, attempts=work.attempts, lost_seconds=work.lost_seconds)
                    for report in answer
                ]
            self._stillborn = 0
        return reports

    def _patience(self) -> float | None:
        """Seconds until the next look at a limit."""
        if self._attempts.memory_gb is not None:
            return MEMORY_CHECK
        return self._attempts.patience([(w.work, w.began) for w in self._workers if w.work and w.ready])

    def _overdue(self) -> list[Report]:
        """End what takes too long or too much."""
        reports: list[Report] = []
        most = self._attempts.memory_gb
        for worker in [w for w in self._workers if w.ready]:
            work, began = worker.work, worker.began
            if work is None:
                continue
            if time.time() > self._attempts.due(work, began):
                self._remove(worker)
                reports += self._attempts.too_long(work, began)
            elif most is not None and worker.memory_gb > most:
                self._remove(worker)
                reports += self._attempts.too_large(work, began)
        return reports

    def _died(self, worker: _Worker) -> list[Report]:
        """What becomes of the work of a worker that died."""
        work, reason = worker.done(), worker.cause()
        self._remove(worker)
        if worker.ready:
            return self._attempts.died(work, worker.began, reason)
        self._attempts.waiting.appendleft(work)
        self._stillborn += 1
        if self._stillborn >= STILLBORN:
            raise RunFailed(f"{STILLBORN} workers in a row ended before they were ready: {reason}")
        return []

    def _remove(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.remove(worker)


@final
class _Worker:
    """A process, the way to it, and what it does."""

    def __init__(self, payload: bytes, place: int, environment: Mapping[str, str]) -> None:
        from loky.backend import get_context

        # loky's processes do not import the script that was started, which therefore needs no guard.
        context = get_context("loky")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, os.getpid()), env=environment)
        self._process.start()
        theirs.close()
        self._payload: bytes | None = payload
        self.place = place
        self.work: Work | None = None
        self.ready = False
        self.began = 0.0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return bool(self._process.is_alive())

    @property
    def memory_gb(self) -> float:
        """Resident memory; 0 when it is gone."""
        try:
            return float(psutil.Process(self._process.pid).memory_info().rss) / 1e9
        except psutil.NoSuchProcess:
            return 0.0

    def take(self, work: Work) -> None:
        """Evaluate a unit; its clock starts when the worker is ready."""
        self.work, self.began = work, time.time()
        try:
            if self._payload is not None:
                self.connection.send_bytes(self._payload)
                self._payload = None
            self.connection.send_bytes(cloudpickle.dumps(work.unit))
        except OSError:
            return  # it has just died, which is what will be heard of it

    def hear(self) -> Any:
        """None when it became ready, else what it answers.

        Raises:
            EOFError, OSError: it died.
        """
        answer = cloudpickle.loads(self.connection.recv_bytes())
        if not self.ready and answer is None:
            self.ready, self.began = True, time.time()
        return answer

    def done(self) -> Work:
        """The work, which it has no more."""
        work, self.work = self.work, None
        assert work is not None
        return work

    def cause(self) -> str:
        """How it died."""
        self._process.join(1.0)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"the worker was ended by {signal.Signals(-code).name}"
        return f"the worker ended with exit code {code}"

    def kill(self) -> None:
        """End it and all that it started."""
        from loky.backend.utils import kill_process_tree

        if self.alive:  # else its number may be another process's by now
            kill_process_tree(self._process)
        self._process.join()
        self.connection.close()


def _cores() -> int:
    """Cores that this process may use, by its affinity and its container's quota."""
    from loky import cpu_count

    return int(cpu_count())


def _devices() -> list[str]:
    """The CUDA devices that this process may use, found without loading torch; none unless there are two."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        found = [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
    else:
        found = [name.strip() for name in given.split(",") if name.strip()]
    return found if len(found) > 1 else []


def _named(devices: Sequence[int | str]) -> list[str]:
    if isinstance(devices, str) or not devices or not all(isinstance(d, int | str) for d in devices):
        raise must("devices", "be a list of CUDA devices, numbers or UUIDs", devices)
    return [str(device) for device in devices]
