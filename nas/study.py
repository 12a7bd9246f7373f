"""The one loop: ask, evaluate, append, tell."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, final

from nas.budget import Spent, covered
from nas.errors import RunFailed, StorageError, must, unknown_metric
from nas.executor import Executor, Report
from nas.executors.alone import Alone
from nas.executors.here import Here
from nas.front import Front, Member
from nas.history import History, MemoryHistory
from nas.inflight import Job
from nas.proposal import Failure, Proposal, Role, Trial
from nas.rng import stream
from nas.stopping import Gains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nas.architecture import Architecture, Fixed
    from nas.budget import Budget, Price
    from nas.evaluator import Evaluator
    from nas.inflight import InFlight
    from nas.objective import Objective
    from nas.space import Space
    from nas.stopping import Stop
    from nas.strategy import Strategy

EXHAUSTED = 1_000
"""Answers in a row that were all known before a space counts as exhausted."""
FIRST_FAILURES = 10
"""Evaluations that, all failing at the start, end a run."""
SAVING = 0.1
"""Largest share of the time that goes into a strategy's snapshots; what lies between is told again."""
REST = 0.2
"""Seconds between two looks of a paused search at whether it may go on."""

log = logging.getLogger(__name__)


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
        in_flight: keeps the names of what is being evaluated, for whoever looks on, and for whoever goes on
            after a kill where asking again would give others; None keeps none.
        observer: called with each trial as it is stored.
        stop: ends the search when the front hardly grows any more; None never does.
        price: of a device hour, for what is spent.

    The generators of asking and telling are named by how many trials were asked for and told before, so that
    measurements around the search cannot change it.

    Raises:
        UnknownMetric: an objective that the evaluator does not measure.
        BadInput: a bound is relative and there is no baseline, or the executor cannot run the evaluator.
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
        in_flight: InFlight | None = None,
        observer: Callable[[Trial], None] | None = None,
        stop: Stop | None = None,
        price: Price | None = None,
    ) -> None:
        self.space, self.objectives, self.evaluator = space, tuple(objectives), evaluator
        self.strategy, self.seed, self.baseline = strategy, seed, baseline
        self.history = MemoryHistory() if history is None else history
        self.executor = Here() if executor is None else executor
        self.batch, self.observer = batch, observer
        self._check()
        self.spent = Spent()
        self._stop, self._price = stop, price
        self._gains = None if stop is None else Gains(self.objectives, stop.over)
        self.ended = "not started"
        self.stopped = self.paused = False
        self._rested = 0.0
        self._resting: float | None = None
        self.lost: tuple[int, ...] = ()
        self._logs, self._in_flight = logs, in_flight
        self._running = self.executor
        self._abandoned = self._waiting = False
        self._started = False
        self._next = 0
        self._remembered = 0
        self._told = 0
        self._reopened: tuple[int, int] | None = None
        self._known_in_a_row = 0
        self._first_failures: list[Failure] | None = []
        self._saved, self._save_from = 0, 0.0
        self._flying: dict[int, Job] = {}
        self._claims: dict[str, list[Job]] = {}  # whoever waits for the answer
        self._gathering: dict[int, dict[int, Trial]] = {}

    def _check(self) -> None:
        for o in self.objectives:
            if o.metric not in self.evaluator.metrics:
                raise unknown_metric(o.metric, self.evaluator.metrics).at("objectives")
            if o.bound is not None and o.bound.relative and self.baseline is None:
                raise must(f"objectives.{o.metric}.bound", "have a baseline", str(o.bound), "set baseline:")
        if self.batch is not None and self.batch < 1:
            raise must("batch", "be at least 1", self.batch)
        self.executor.check(self.evaluator.worker)

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

        An interrupted search may be called again, too: what was in flight is asked for once more.

        Raises:
            RunFailed: the first ten evaluations all failed.
            StorageError: a trial could not be kept.
        """
        clock = time.perf_counter()
        before = self.spent.wall_seconds
        self._rested = 0.0
        try:
            with self._opened():
                before = max(before, self.spent.wall_seconds)
                self._go_on(budget)
                while True:
                    self.spent.wall_seconds = before + time.perf_counter() - clock - self._rested
                    self._rest()
                    self._fill(budget)
                    if not self._more():
                        break
                    self._hear()
                self._save()
                if self._in_flight is not None and not self.owed():
                    self._in_flight.write([])
        except KeyboardInterrupt:
            self.ended = self.ended if self.stopped else "interrupted"
            raise
        finally:
            self.spent.wall_seconds = before + time.perf_counter() - clock - self._rested
        return self.front()

    def stop(self, reason: str = "interrupted") -> None:
        """Let what is evaluated now end, and begin nothing more; for signal handlers and other threads."""
        self.stopped, self.ended = True, reason

    def pause(self) -> None:
        """Let what is evaluated now end, and begin nothing new until told to; for other threads."""
        self.paused = True

    def go_on(self) -> None:
        """End a pause."""
        self.paused = False

    @property
    def rested(self) -> float:
        """Seconds that this session was paused so far."""
        resting = 0.0 if self._resting is None else time.perf_counter() - self._resting
        return self._rested + resting

    def abandon(self, reason: str = "interrupted") -> None:
        """End at once with a `KeyboardInterrupt`, but not while a trial is stored or told.

        What is in flight is lost; `lost` names it. For signal handlers of the thread that searches.
        """
        self.stop(reason)
        self._abandoned = True
        if self._waiting:
            raise KeyboardInterrupt

    def confirm(self, lost: Callable[[Member], bool] = lambda _: False) -> Front:
        """Measure again what a front member only borrowed, and every clock reading, with the machine alone.

        A member whose accuracy came from an architecture that computes the same function is trained itself,
        so that the front that is reported is the one that can be exported.

        Args:
            lost: whether a member's weights are gone; it is then trained again, to the same weights. Members
                that were dominated come back to the front when a reading gets worse that had dominated them.
        """
        if self.stopped:
            return self.front()
        with self._opened():
            before = len(self.history.trials)
            while not self.stopped and (proposals := self._unconfirmed(lost, before)):
                for proposal in proposals:
                    self._rest()
                    if not self.stopped:
                        self._measure(proposal, "confirm")
        return self.front()

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Ready to evaluate and at the history's end; afterwards nothing is in flight."""
        worker = self.evaluator.worker
        several = self.executor.places > 1
        self._running = Alone(self.executor, worker.timed) if several and worker.timed else self.executor
        self._running.open(worker, self.seed, self._logs)
        try:
            self._catch_up()
            yield
        finally:
            self._running.close()
            self.lost = tuple(sorted(self._flying))
            self._flying.clear()
            self._claims.clear()
            self._gathering.clear()

    def _unconfirmed(self, lost: Callable[[Member], bool], before: int) -> list[Proposal]:
        """What is left to confirm; what failed is not tried again, but what was lost since then is."""
        trials = self.history.trials
        tried, now = ({t.proposal for t in some if t.role == "confirm"} for some in (trials, trials[before:]))
        found = [(member, lost(member)) for member in self.front()]
        wanted = [(self._confirmation(member, lost=gone), gone) for member, gone in found]
        return [p for p, gone in wanted if p is not None and p not in (now if gone else tried)]

    def _confirmation(self, member: Member, *, lost: bool) -> Proposal | None:
        if member.borrowed & set(self.metrics) or lost:
            return Proposal(member.candidate, self.metrics)
        timed = [m for m in self.metrics if m in self.evaluator.measured and m not in member.confirmed]
        return Proposal(member.candidate, tuple(timed)) if timed else None

    # --- beginning and resuming -------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Tell what the history holds beyond what was told, and find where to go on."""
        restored = 0 if self._started else self._begin()
        earlier = [t for t in self.history.trials[self._remembered :] if t.role == "search"]
        self.spent.wall_seconds += covered(earlier)
        seen = forgotten = int(self.history.forgotten.get("trials", 0))
        for batch in self.history.batches():
            if batch[0].role == "confirm":
                continue
            seen += len(batch)
            if seen > self._told:
                self._tell(batch, known=seen <= restored)
        if restored > seen:
            raise StorageError(
                f"the strategy's snapshot was taken after {restored} trials, but only {seen} are stored; "
                "remove it so that the strategy is told them again"
            )
        for trial in self.history.trials[self._remembered :]:
            self._remember(trial)
        owed = self.owed()
        numbered: list[Trial | Job] = [*self.history.trials, *owed]
        self._next = 1 + max((t.number + t.size - 1 - t.position for t in numbered), default=forgotten - 1)
        self._reopened = None if owed else self._unfinished()
        if self.baseline is not None and not any(
            t.role == "baseline" and t.complete for t in self.history.trials
        ):
            self._measure_baseline(self.baseline)

    def owed(self) -> list[Job]:
        """What was in flight when an earlier session was cut, and is evaluated before anything else."""
        if self._in_flight is None or self.batch is not None:
            return []
        done = {trial.number for trial in self.history.trials}
        return [job for job in self._in_flight.read() if job.number not in done]

    def _go_on(self, budget: Budget) -> None:
        """Send off again what was in flight."""
        owed = self.owed()
        if not owed or self.spent.reached(budget) is not None:
            return
        log.info("evaluating again what was in flight: %s", ", ".join(str(job.number) for job in owed))
        for first in sorted({job.batch for job in owed}):
            for trial in self.history.partial(first).values():
                self._gather(trial)
        self._submit(owed)

    def _begin(self) -> int:
        """Start the strategy, from its snapshot if there is one; gives the trials that it knows by that."""
        self._started = True
        self.strategy.tell((), stream(self.seed, "tell", -1))
        saved = self.history.saved()
        if saved is None:
            return 0
        self.strategy.restore(saved[0])
        self._saved = saved[1]
        if forgotten := self.history.forgotten:
            self.spent = Spent(**forgotten)  # type: ignore[arg-type]
            self._told, self._first_failures = self.spent.trials, None
        return saved[1]

    def _unfinished(self) -> tuple[int, int] | None:
        """First number and size of a batch that was cut and is asked for again.

        Where several units run at once, what was told meanwhile would change the question: its trials stay
        in the history, untold.
        """
        last = self.history.open_batch()
        if last is None or (self.batch is None and self.executor.places > 1):
            return None
        newest = max(t.number for t in self.history.trials if t.role == "search")
        return last if newest < sum(last) else None

    def _remember(self, trial: Trial) -> None:
        """Take note of a stored trial, whether or not it is told."""
        self.evaluator.remember(trial)
        if trial.role == "search":
            self.spent.add(trial, self._price)
        self._remembered += 1

    def _measure_baseline(self, baseline: Architecture | Fixed) -> None:
        self._measure(Proposal(baseline, self.metrics), "baseline")
        trial = self.history.trials[-1]
        if isinstance(trial.outcome, Failure):
            raise RunFailed(f"the baseline could not be measured: {trial.outcome.reason}")
        if not trial.complete:
            raise RunFailed(
                f"the baseline must have finite {', '.join(self.metrics)}, got {dict(trial.values)}"
            )

    def _measure(self, proposal: Proposal, role: Role) -> None:
        """Measure one proposal around the search, with the machine alone."""
        number = self._take()
        self._submit([Job(number, proposal, role, number, 0, 1, time.time())])
        while self._flying:
            self._hear()

    # --- asking -----------------------------------------------------------------------------------------

    def _fill(self, budget: Budget) -> None:
        while (n := self._wanted(budget)) > 0:
            pending = [job.proposal for job in self._flying.values()]
            proposals = self.strategy.ask(n, stream(self.seed, "ask", self._told + len(pending)), pending)
            if not proposals:
                self.ended = "the strategy has nothing more to propose"
                return
            self._launch(proposals[:n], budget)

    def _wanted(self, budget: Budget) -> int:
        """How many proposals to ask for now, in whole batches and groups, even where the last is too much."""
        if self.stopped:
            return 0
        if self._known_in_a_row >= EXHAUSTED:
            self.ended = f"space exhausted: {EXHAUSTED:,} answers in a row were known"
            return 0
        reached = self.spent.reached(budget)
        if reached is not None:
            self.ended = f"budget reached: {reached}"
            return 0
        enough = None if self._stop is None or self._gains is None else self._stop.reached(self._gains)
        if enough is not None:
            self.ended = f"stopped by rule: {enough}"
            return 0
        if self._reopened is not None:
            return self._reopened[1]
        group, flying = self.strategy.group, len(self._flying)
        if self.batch is not None:
            return 0 if flying else group * (max(self.batch, group) // group)
        free = self.executor.places * group - flying
        room = free if budget.trials is None else budget.trials - self.spent.trials - flying
        return group * min(free // group, -(-room // group))

    def _launch(self, proposals: Sequence[Proposal], budget: Budget) -> None:
        """Number proposals and send them off, in batches that are told together.

        A batch that exceeds the budget is asked for as a whole and launched in part, so that a search that is
        given more goes on with exactly the rest of it.
        """
        whole = self.batch is not None or self._reopened is not None
        size = len(proposals) if whole else self.strategy.group
        jobs: list[Job] = []
        for start in range(0, len(proposals), size):
            jobs += self._batch(proposals[start : start + size])
        if whole and budget.trials is not None:
            jobs = self._within(jobs, budget.trials - self.spent.trials)
        if self._in_flight is not None:
            self._in_flight.write([*self._flying.values(), *jobs])
        self._submit(jobs)

    def _within(self, jobs: list[Job], room: int) -> list[Job]:
        """As many jobs of a batch as there is room for; a group is not split."""
        if room >= len(jobs):
            return jobs
        last = jobs[room - 1].position // self.strategy.group
        return [job for job in jobs if job.position // self.strategy.group <= last]

    def _batch(self, proposals: Sequence[Proposal]) -> list[Job]:
        """The jobs of a batch; those that a resumed one holds already are not repeated."""
        first, size = self._reopened or (self._next, len(proposals))
        done = self.history.partial(first) if self._reopened else {}
        self._next = max(self._next, first + size)
        self._reopened = None
        asked = dict(enumerate(proposals))
        for position in range(size):
            proposal, trial = asked.get(position), done.get(position)
            if proposal is None or (trial is not None and trial.proposal != proposal):
                raise RunFailed(
                    f"trial {first + position} must be asked again as it was stored, got {proposal}; "
                    "the strategy or its settings changed, so start a new run"
                )
            if trial is not None:
                self._gather(trial)
        now = time.time()
        return [
            Job(first + position, proposal, "search", first, position, size, now)
            for position, proposal in asked.items()
            if position not in done
        ]

    def _submit(self, jobs: Sequence[Job]) -> None:
        """Answer what is known, hold back what an evaluation in flight will answer, send off the rest."""
        fresh: list[Job] = []
        for job in jobs:
            self._flying[job.number] = job
            if job.role == "search":
                job.recall = self.evaluator.recall(job.proposal)
                if job.recall.remaining is None:
                    now = time.time()
                    self._report([Report(job.number, job.recall.complete(None), "", "", now, now)])
                    continue
                taken = job.recall.claims & self._claims.keys()
                if taken:
                    self._claims[min(taken)].append(job)
                    continue
                self._claims.update((claim, []) for claim in job.recall.claims)
            fresh.append(job)
        for unit in self._units(fresh):
            self._running.submit(unit)

    def _units(self, jobs: Sequence[Job]) -> list[list[tuple[int, Proposal]]]:
        """What is evaluated together: everything where that is cheaper, else each group."""
        group, together = self.strategy.group, self.evaluator.worker.batched

        def unit(job: Job) -> object:
            return None if together else (job.batch, job.position // group)

        return [[(j.number, j.asked) for j in found] for _, found in groupby(jobs, unit)]

    def _take(self) -> int:
        self._next += 1
        return self._next - 1

    # --- hearing back -------------------------------------------------------------------------------------

    def _more(self) -> bool:
        """Whether anything is left to hear; after a stop that is only what runs."""
        if self.stopped:
            self._running.drop()
            return self._running.busy > 0
        return bool(self._flying)

    def _hear(self) -> None:
        with self._interruptible():
            reports = self._running.wait()
        self._report(reports)

    def _rest(self) -> None:
        """While paused, hear what runs, then wait; afterwards send off again what had not begun."""
        if not self.paused or self.stopped:
            return
        self._running.drop()
        while self._running.busy:
            self._hear()
            self._running.drop()
        self._save()
        log.warning("paused after %d trials; nas resume goes on", len(self.history.trials))
        self._resting = time.perf_counter()
        try:
            with self._interruptible():
                while self.paused and not self.stopped:
                    time.sleep(REST)
        finally:
            self._rested, self._resting = self.rested, None
        again = sorted(self._flying.values(), key=lambda job: job.number)
        if not self.stopped:
            log.warning("going on")
            self._claims.clear()
            self._submit(again)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """A time in which nothing is stored or told, so that a search may be abandoned."""
        try:
            self._waiting = True
            if self._abandoned:
                raise KeyboardInterrupt
            yield
        except KeyboardInterrupt:
            self._save()  # nothing is being told, so the strategy's state is whole
            raise
        finally:
            self._waiting = False

    def _report(self, reports: Sequence[Report]) -> None:
        """Store what ended, all at once, then take note of it and tell it, one by one."""
        jobs = [self._flying[report.number] for report in reports]
        trials = [_trial(job, report) for job, report in zip(jobs, reports, strict=True)]
        self.history.append(trials)
        for job in jobs:  # not before they are stored: what is left in flight is named as lost
            del self._flying[job.number]
        for job, trial in zip(jobs, trials, strict=True):
            self._remember(trial)
            self._observe(trial)
            self._gather(trial)
            waiting = [other for claim in job.claims for other in self._claims.pop(claim)]
            if waiting and not self.stopped:
                self._submit(sorted(waiting, key=lambda other: other.number))

    def _gather(self, trial: Trial) -> None:
        """Tell a batch when its last trial is there."""
        if trial.role == "confirm":
            return
        gathered = self._gathering.setdefault(trial.batch, {})
        gathered[trial.position] = trial
        if len(gathered) < trial.size:
            return
        del self._gathering[trial.batch]
        batch = [gathered[position] for position in sorted(gathered)]
        self._tell(batch)
        if time.perf_counter() >= self._save_from:
            self._save()
        self._check_failures(batch)

    def _tell(self, batch: Sequence[Trial], *, known: bool = False) -> None:
        """Tell a batch, unless the strategy knows it from its snapshot, and take note of what it brought."""
        if not known:
            self.strategy.tell(batch, stream(self.seed, "tell", self._told))
        self._told += len(batch)
        if self._gains is not None:
            self._gains.tell(batch)
        for trial in batch:
            self._known_in_a_row = self._known_in_a_row + 1 if trial.known else 0
            if trial.role == "search" and not trial.failed and not trial.known:
                self._first_failures = None

    def _save(self) -> None:
        """Keep the strategy's state; the next time when that takes no more than its share of the time."""
        if self._saved == self._told:
            return
        clock = time.perf_counter()
        state = self.strategy.snapshot()
        if state is not None:
            self.history.save(state, self._told)
            self._saved = self._told
        now = time.perf_counter()
        self._save_from = now + (now - clock) / SAVING

    def _check_failures(self, batch: Sequence[Trial]) -> None:
        """End a run that does nothing but fail."""
        if self._first_failures is None:
            return
        self._first_failures += [
            t.outcome for t in batch if t.role == "search" and isinstance(t.outcome, Failure)
        ]
        if len(self._first_failures) >= FIRST_FAILURES:
            self.ended = "the first evaluations all failed"
            first = self._first_failures[0].reason
            self._first_failures = []
            raise RunFailed(
                f"the first {FIRST_FAILURES} evaluations all failed, the first one because: {first}"
            )

    def _observe(self, trial: Trial) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info("trial %d: %s", trial.number, summary(trial))
        if self.observer is not None:
            self.observer(trial)


def _trial(job: Job, report: Report) -> Trial:
    """What became of a job."""
    evaluated = job.recall is not None and job.recall.remaining is not None
    return Trial(
        number=job.number,
        proposal=job.proposal,
        outcome=job.recall.complete(report.outcome) if job.recall and evaluated else report.outcome,
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


def summary(trial: Trial) -> str:
    """One line about an outcome."""
    if isinstance(trial.outcome, Failure):
        return f"failed ({trial.outcome.kind}): {trial.outcome.reason}"
    values = ", ".join(f"{m} {v:.5g}" for m, v in trial.values.items())
    return f"{values}{' (reused)' if trial.reused else ''}"
