"""The one loop: ask, evaluate, append, tell."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, final

from nas.errors import RunFailed, must, unknown_metric
from nas.executor import Executor, Here, Report
from nas.front import Front, Member
from nas.history import History, MemoryHistory
from nas.proposal import Failure, Measurement, Proposal, Role, Trial
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nas.architecture import Architecture, Fixed
    from nas.evaluator import Evaluator, Recall
    from nas.objective import Objective
    from nas.space import Space
    from nas.strategy import Strategy

EXHAUSTED = 1_000
"""Answers in a row that were all known before a space counts as exhausted."""
FIRST_FAILURES = 10
"""Evaluations that, all failing at the start, end a run."""

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Budget:
    """When to stop; the first limit that is reached ends the search.

    Args:
        trials: answers told to the strategy, reused and failed ones among them.
        evaluations: fresh evaluations, in full-fidelity equivalents.
        seconds: what evaluations report to have taken (simulated for tables).
        wall_seconds: of this and earlier sessions' searching.
        device_seconds: during which a place was busy.

    Raises:
        BadInput: no limit is set, or one is not positive.
    """

    trials: int | None = None
    evaluations: float | None = None
    seconds: float | None = None
    wall_seconds: float | None = None
    device_seconds: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if not given:
            raise must("budget", "set a limit", None, "such as budget: {trials: 100}")
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise must(f"budget.{name}", "be a positive number", value)


@dataclass
class Spent:
    """What a study has used of its budget; the fields of `Budget`, and counts for progress."""

    trials: int = 0
    evaluations: float = 0.0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    failures: int = 0
    reused: int = 0

    def add(self, trial: Trial) -> None:
        """Count a told trial."""
        self.trials += 1
        self.seconds += trial.outcome.seconds
        self.device_seconds += trial.ended - trial.started
        self.failures += trial.failed
        self.reused += trial.reused
        if not trial.reused:
            self.evaluations += trial.proposal.fidelity

    def reached(self, budget: Budget) -> str | None:
        """Name of the first limit that is reached."""
        for f in fields(Budget):
            limit = getattr(budget, f.name)
            if limit is not None and getattr(self, f.name) >= limit:
                return f.name
        return None


@dataclass(slots=True)
class _Job:
    """A proposal on its way."""

    number: int
    proposal: Proposal
    role: Role
    batch: int
    position: int
    size: int
    queued: float
    recall: Recall | None = None


@final
class Study:
    """A search: what it searches, who proposes, who measures, and what was found so far.

    Args:
        space: of the architectures.
        objectives: what is wanted; every one must be among the evaluator's metrics.
        evaluator: measures; wrap it in `Memoized` to share answers.
        strategy: proposes.
        history: where trials are kept; in memory when None.
        executor: where evaluations run; here when None.
        seed: rules everything that is random.
        baseline: measured first as trial 0, the reference of relative bounds.
        batch: trials told together, whatever the number of places; None tells each as it ends.
        logs: folder of the evaluations' logs; None for none.
        observer: called with each told trial and those measured around the search.

    Raises:
        UnknownMetric: an objective that the evaluator does not measure.
        BadInput: a bound is relative and there is no baseline.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        evaluator: Evaluator,
        strategy: Strategy,
        *,
        history: History | None = None,
        executor: Executor | None = None,
        seed: int = 0,
        baseline: Architecture | Fixed | None = None,
        batch: int | None = None,
        logs: Path | None = None,
        observer: Callable[[Trial], None] | None = None,
    ) -> None:
        self.space, self.objectives, self.evaluator = space, tuple(objectives), evaluator
        self.strategy, self.seed, self.baseline = strategy, seed, baseline
        self.history = MemoryHistory() if history is None else history
        self.executor = Here() if executor is None else executor
        self.batch, self.observer = batch, observer
        self._check()
        self.spent = Spent()
        self.ended = "not started"
        self._logs = logs
        self._next = 0
        self._told = 0
        self._reused_in_a_row = 0
        self._asked_dry = False
        self._flying: dict[int, _Job] = {}
        self._deferred: list[_Job] = []
        self._claims: dict[str, int] = {}
        self._gathering: dict[int, dict[int, Trial]] = {}
        self._first_failures: list[Failure] | None = []
        self._started = False

    def _check(self) -> None:
        for o in self.objectives:
            if o.metric not in self.evaluator.metrics:
                raise unknown_metric(o.metric, self.evaluator.metrics).at("objectives")
            if o.bound is not None and o.bound.relative and self.baseline is None:
                raise must(f"objectives.{o.metric}.bound", "have a baseline", str(o.bound), "set baseline:")
        if self.batch is not None and self.batch < 1:
            raise must("batch", "be at least 1", self.batch)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that objectives name."""
        return tuple(o.metric for o in self.objectives)

    def front(self) -> Front:
        """The front of everything measured so far."""
        return Front(self.history.trials, self.objectives)

    # --- the loop -------------------------------------------------------------------------------------

    def run(self, budget: Budget) -> Front:
        """Search until the budget, the strategy or the space ends; may be called again with a larger budget.

        Raises:
            RunFailed: the first ten evaluations all failed.
            StorageError: a trial could not be kept.
        """
        clock = time.perf_counter()
        before = self.spent.wall_seconds
        self.executor.open(self.evaluator.worker, self.seed, self._logs)
        try:
            self._start()
            before = max(before, self.spent.wall_seconds)
            while True:
                self.spent.wall_seconds = before + time.perf_counter() - clock
                self._fill(budget)
                if not self._flying:
                    break
                for report in self.executor.wait():
                    self._report(report)
        except KeyboardInterrupt:
            self.ended = "interrupted"
            raise
        finally:
            self.executor.close()
            self.spent.wall_seconds = before + time.perf_counter() - clock
        return self.front()

    def confirm(self) -> Front:
        """Measure again what a front member only borrowed, and every clock reading, with the machine alone.

        A member whose accuracy came from an architecture that computes the same function is trained itself,
        so that the front that is reported is the one that can be exported.
        """
        self.executor.open(self.evaluator.worker, self.seed, self._logs)
        try:
            while proposals := self._unconfirmed():
                for proposal in proposals:
                    number = self._take()
                    job = _Job(number, proposal, "confirm", number, 0, 1, time.time())
                    self._submit([job])
                    while self._flying:
                        for report in self.executor.wait():
                            self._report(report)
        finally:
            self.executor.close()
        return self.front()

    def _unconfirmed(self) -> list[Proposal]:
        tried = {t.proposal for t in self.history.trials if t.role == "confirm"}
        found = [self._confirmation(member) for member in self.front()]
        return [p for p in found if p is not None and p not in tried]

    def _confirmation(self, member: Member) -> Proposal | None:
        if member.borrowed & set(self.metrics):
            return Proposal(member.candidate, self.metrics)
        timed = [m for m in self.metrics if m in self.evaluator.measured and m not in member.confirmed]
        return Proposal(member.candidate, tuple(timed)) if timed else None

    # --- beginning and resuming -------------------------------------------------------------------------

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        resumed = self.history.open_batch()
        for trial in self.history.trials:
            self.evaluator.remember(trial)
            self._next = max(self._next, trial.number + 1)
        self._next = self._next if resumed is None else resumed
        self.strategy.tell((), stream(self.seed, "tell", -1))
        saved = self.history.saved()
        skip = 0
        if saved is not None:
            self.strategy.restore(saved[0])
            skip = saved[1]
        for batch in self.history.batches():
            if batch[0].role != "confirm":
                skip = self._retell(batch, skip)
        self.spent.wall_seconds = self.spent.device_seconds
        if self.baseline is not None and not any(t.role == "baseline" for t in self.history.trials):
            self._measure_baseline(self.baseline)

    def _retell(self, batch: Sequence[Trial], skip: int) -> int:
        if skip <= 0:
            self.strategy.tell(batch, stream(self.seed, "tell", batch[0].batch))
        self._told += len(batch)
        for trial in batch:
            self._count(trial)
        return skip - len(batch)

    def _measure_baseline(self, baseline: Architecture | Fixed) -> None:
        number = self._take()
        self._submit([_Job(number, Proposal(baseline, self.metrics), "baseline", number, 0, 1, time.time())])
        for report in self.executor.wait():
            self._report(report)
        trial = self.history.trials[-1]
        if isinstance(trial.outcome, Failure):
            raise RunFailed(f"the baseline could not be measured: {trial.outcome.reason}")

    # --- asking -----------------------------------------------------------------------------------------

    def _fill(self, budget: Budget) -> None:
        while (n := self._wanted(budget)) > 0:
            first = self._next
            pending = [job.proposal for job in self._flying.values()]
            proposals = self.strategy.ask(n, stream(self.seed, "ask", first), pending)
            if not proposals:
                self.ended = "the strategy has nothing more to propose"
                return
            self._launch(proposals[:n])

    def _wanted(self, budget: Budget) -> int:
        """How many proposals to ask for now."""
        if self._reused_in_a_row >= EXHAUSTED:
            self.ended = f"space exhausted: {EXHAUSTED:,} answers in a row were known"
            return 0
        reached = self.spent.reached(budget)
        if reached is not None:
            self.ended = f"budget reached: {reached}"
            return 0
        room = math.inf if budget.trials is None else budget.trials - self.spent.trials - len(self._flying)
        if self.batch is not None:
            return 0 if self._flying else int(min(self.batch, room))
        group = self.strategy.group
        free = self.executor.places * group - len(self._flying)
        return int(min(free, room)) if free >= group else 0

    def _launch(self, proposals: Sequence[Proposal]) -> None:
        """Number proposals and send them off; those that a resumed batch holds already are not repeated."""
        batch = self._next
        size = len(proposals) if self.batch is not None else 1
        now = time.time()
        done = self.history.partial(batch) if self.batch is not None else {}
        jobs = []
        for position, proposal in enumerate(proposals):
            number = self._take()
            own = batch if self.batch is not None else number
            job = _Job(number, proposal, "search", own, position if size > 1 else 0, size, now)
            if job.position not in done:
                jobs.append(job)
            elif done[job.position].proposal != proposal:
                raise RunFailed(
                    f"trial {number} must be asked again as it was stored, got {proposal}; "
                    "the strategy or its settings changed, so start a new run"
                )
            else:
                self._gather(done[job.position])
        self._submit(jobs)

    def _submit(self, jobs: Sequence[_Job]) -> None:
        """Answer what is known, hold back what an evaluation in flight will answer, send off the rest."""
        fresh: list[_Job] = []
        for job in jobs:
            self._flying[job.number] = job
            if job.role == "search":
                job.recall = self.evaluator.recall(job.proposal)
                if job.recall.remaining is None:
                    self._report(
                        Report(job.number, job.recall.complete(None), "", "", time.time(), time.time())
                    )
                    continue
                if any(claim in self._claims for claim in job.recall.claims):
                    self._deferred.append(job)
                    continue
                self._claims.update(dict.fromkeys(job.recall.claims, job.number))
            fresh.append(job)
        for unit in self._units(fresh):
            self.executor.submit(unit)

    def _units(self, jobs: Sequence[_Job]) -> list[list[tuple[int, Proposal]]]:
        numbered = [(j.number, _asked(j)) for j in jobs]
        step = max(1, len(jobs)) if self.evaluator.worker.batched else self.strategy.group
        return [numbered[i : i + step] for i in range(0, len(numbered), step)]

    def _take(self) -> int:
        self._next += 1
        return self._next - 1

    # --- hearing back -------------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        job = self._flying.pop(report.number)
        evaluated = job.recall is None or job.recall.remaining is not None
        outcome = job.recall.complete(report.outcome) if job.recall and evaluated else report.outcome
        trial = Trial(
            number=job.number,
            proposal=job.proposal,
            outcome=outcome,
            role=job.role,
            batch=job.batch,
            position=job.position,
            size=job.size,
            host=report.host,
            device=report.device,
            queued=job.queued,
            started=report.started,
            ended=report.ended,
            attempts=report.attempts,
            lost_seconds=report.lost_seconds,
        )
        self.history.append([trial])
        self.evaluator.remember(trial)
        if job.recall is not None:
            for claim in job.recall.claims:
                self._claims.pop(claim, None)
        self._gather(trial)
        if job.recall is not None and job.recall.claims and self._deferred:
            waiting, self._deferred = self._deferred, []
            self._submit(waiting)

    def _gather(self, trial: Trial) -> None:
        """Tell a batch when its last trial is there."""
        if trial.role == "confirm":
            self._observe(trial)
            return
        gathered = self._gathering.setdefault(trial.batch, {})
        gathered[trial.position] = trial
        if len(gathered) < trial.size:
            return
        batch = [gathered[position] for position in sorted(gathered)]
        del self._gathering[trial.batch]
        self.strategy.tell(batch, stream(self.seed, "tell", trial.batch))
        self._told += len(batch)
        state = self.strategy.snapshot()
        if state is not None:
            self.history.save(state, self._told)
        for told in batch:
            self._count(told)
            self._observe(told)

    def _count(self, trial: Trial) -> None:
        if trial.role == "search":
            self.spent.add(trial)
        self._reused_in_a_row = self._reused_in_a_row + 1 if trial.reused else 0
        if self._first_failures is None or trial.reused:
            return
        if isinstance(trial.outcome, Measurement):
            self._first_failures = None
            return
        self._first_failures.append(trial.outcome)
        if len(self._first_failures) == FIRST_FAILURES:
            self.ended = "the first evaluations all failed"
            raise RunFailed(
                f"the first {FIRST_FAILURES} evaluations all failed, the first one because: "
                f"{self._first_failures[0].reason}"
            )

    def _observe(self, trial: Trial) -> None:
        log.info("trial %d: %s", trial.number, summary(trial))
        if self.observer is not None:
            self.observer(trial)


def _asked(job: _Job) -> Proposal:
    if job.recall is None or job.recall.remaining is None:
        return job.proposal
    return job.recall.remaining


def summary(trial: Trial) -> str:
    """One line about an outcome."""
    if isinstance(trial.outcome, Failure):
        return f"failed ({trial.outcome.kind}): {trial.outcome.reason}"
    values = ", ".join(f"{m} {v:.5g}" for m, v in trial.values.items())
    return f"{values}{' (reused)' if trial.reused else ''}"
