"""Evaluations in processes of this machine, which may die, hang or grow without taking the run with them."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, final

import cloudpickle
import psutil

from nas.errors import RunFailed, must
from nas.executor import Executor, Report, Unit, failed, log_file
from nas.executors.worker import packed, serve

if TYPE_CHECKING:
    from pathlib import Path

    from nas.evaluator import Evaluator
    from nas.proposal import FailureKind

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment of a worker; an evaluator may still ask torch for more."""
MEMORY_CHECK = 0.1
"""Seconds between looks at the memory of workers."""
STILLBORN = 3
"""Workers in a row that die before they are ready and end a run."""


@dataclass(slots=True)
class _Work:
    """A unit on its way, and what was lost on it."""

    unit: Unit
    attempts: int = 1
    lost_seconds: float = 0.0


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

    Raises:
        BadInput: a setting is out of its range.
    """

    def __init__(
        self,
        workers: int | None = None,
        retries: int = 2,
        seconds: float | None = None,
        memory_gb: float | None = None,
    ) -> None:
        self.places = _cores() if workers is None else workers
        if self.places < 1:
            raise must("workers", "be at least 1", workers)
        if retries < 0:
            raise must("retries", "be at least 0", retries)
        for name, limit in (("seconds", seconds), ("memory_gb", memory_gb)):
            if limit is not None and not limit > 0:
                raise must(name, "be a positive number", limit)
        self._retries, self._seconds, self._memory_gb = retries, seconds, memory_gb
        self._payload = b""
        self._logs: Path | None = None
        self._queue: deque[_Work] = deque()
        self._workers: list[_Worker] = []
        self._stillborn = 0

    @property
    def busy(self) -> int:
        """Units that run or wait."""
        return len(self._queue) + sum(worker.work is not None for worker in self._workers)

    def check(self, evaluator: Evaluator) -> None:
        """Refuse what trains shared weights, and what cannot be sent to another process."""
        if not evaluator.pure:
            raise must("executor", "be here for an evaluator that trains weights shared by all", "processes")
        self._packed(evaluator, 0, None)

    def _packed(self, evaluator: Evaluator, seed: int, logs: Path | None) -> bytes:
        try:
            return packed(evaluator, seed, logs)
        except Exception as error:  # any part may refuse in its own way
            raise must(
                "executor", "be here for an evaluator that cannot be sent to another process", "processes",
                f"{type(error).__name__}: {error}; put it into a module or file, give it as a factory "
                "(module:name), and open what cannot be sent when it is first called",
            ) from error  # fmt: skip

    def open(self, evaluator: Evaluator, seed: int, logs: Path | None) -> None:
        """Pack what workers need; they are started when there is work."""
        self._payload, self._logs = self._packed(evaluator, seed, logs), logs

    def submit(self, unit: Unit) -> None:
        """Queue a unit."""
        self._queue.append(_Work(unit))

    def wait(self) -> list[Report]:
        """Keep workers busy until something has ended."""
        while True:
            self._assign()
            reports = [*self._heard(), *self._overdue()]
            if reports:
                return reports

    def drop(self) -> None:
        """Forget what waits; what runs goes on."""
        self._queue.clear()

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
        wanted = min(len(self._queue) - len(idle), self.places - len(self._workers))
        idle += [_Worker(self._payload) for _ in range(wanted)]  # all start before the first is waited for
        self._workers += idle[len(idle) - max(0, wanted) :]
        for worker, _ in zip(idle, list(self._queue), strict=False):
            worker.take(self._queue.popleft())

    def _heard(self) -> list[Report]:
        """What workers said, or died of, until one of them did or a limit has to be looked at."""
        working = {worker.connection: worker for worker in self._workers if worker.work is not None}
        reports: list[Report] = []
        for connection in wait(list(working), self._patience()):
            worker = working[connection]
            try:
                answer = worker.hear()
            except (EOFError, OSError):
                reports += self._ended(worker, "killed", worker.cause())
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
        if self._memory_gb is not None:
            return MEMORY_CHECK
        if self._seconds is None:
            return None
        left = [worker.began + self._limit(worker) for worker in self._workers if worker.runs]
        return max(0.0, min(left) - time.time()) if left else None

    def _limit(self, worker: _Worker) -> float:
        """Seconds that what a worker does may take: units of several proposals have the time of all."""
        assert self._seconds is not None
        assert worker.work is not None
        return self._seconds * len(worker.work.unit)

    def _overdue(self) -> list[Report]:
        """End what takes too long or too much."""
        reports: list[Report] = []
        for worker in [w for w in self._workers if w.runs]:
            if self._seconds is not None and time.time() - worker.began > self._limit(worker):
                reports += self._ended(worker, "timeout", f"took longer than {self._seconds:g} s")
            elif self._memory_gb is not None and worker.memory_gb > self._memory_gb:
                reports += self._ended(worker, "memory", f"needed more than {self._memory_gb:g} GB")
        return reports

    def _ended(self, worker: _Worker, kind: FailureKind, reason: str) -> list[Report]:
        """What becomes of the work of a worker that died or was ended.

        Of several proposals evaluated together each is tried on its own. An evaluation that broke a limit
        would break it again and fails at once.
        """
        self._remove(worker)
        work = worker.work
        assert work is not None
        if not worker.ready:
            self._queue.appendleft(work)
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise RunFailed(f"{STILLBORN} workers in a row ended before they were ready: {reason}")
            return []
        lost = time.time() - worker.began
        self._note(work, f"{kind}: {reason}, attempt {work.attempts}")
        if len(work.unit) > 1:
            share = (work.lost_seconds + lost) / len(work.unit)
            self._queue.extendleft(_Work([one], work.attempts + 1, share) for one in reversed(work.unit))
            return []
        if kind == "killed" and work.attempts <= self._retries:
            self._queue.appendleft(_Work(work.unit, work.attempts + 1, work.lost_seconds + lost))
            return []
        if kind == "killed":
            reason = f"{reason}, the last of {work.attempts} attempts"
        ((number, _),) = work.unit
        return [failed(number, kind, reason, worker.began, work.attempts, work.lost_seconds)]

    def _note(self, work: _Work, text: str) -> None:
        """Add a line to the logs of evaluations that left no traceback."""
        if self._logs is not None:
            for number, _ in work.unit:
                with log_file(self._logs, number).open("a", encoding="utf-8") as file:
                    file.write(text + "\n")

    def _remove(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.remove(worker)


@final
class _Worker:
    """A process, the way to it, and what it does."""

    def __init__(self, payload: bytes) -> None:
        from loky.backend import get_context

        # loky's processes do not import the script that was started, which therefore needs no guard.
        context = get_context("loky")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, os.getpid()), env=ONE_THREAD)
        self._process.start()
        theirs.close()
        self._payload: bytes | None = payload
        self.work: _Work | None = None
        self.ready = False
        self.began = 0.0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return bool(self._process.is_alive())

    @property
    def runs(self) -> bool:
        """Whether it evaluates now."""
        return self.ready and self.work is not None

    @property
    def memory_gb(self) -> float:
        """Resident memory; 0 when it is gone."""
        try:
            return float(psutil.Process(self._process.pid).memory_info().rss) / 1e9
        except psutil.NoSuchProcess:
            return 0.0

    def take(self, work: _Work) -> None:
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

    def done(self) -> _Work:
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
