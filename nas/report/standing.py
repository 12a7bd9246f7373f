"""How a search stands: what runs now, how fast it goes, what it used, and whether going on is worth it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

from nas.budget import HOUR, Spent, covered
from nas.front import box, hypervolume
from nas.objective import minimised
from nas.proposal import Failure
from nas.report.curves import candidates
from nas.report.ledger import Ledger, accounted, ledger
from nas.report.markup import counted
from nas.stopping import Gains

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.budget import Budget, Price
    from nas.history import History
    from nas.inflight import Job
    from nas.objective import Objective
    from nas.parts import Parts
    from nas.proposal import Proposal, Trial

RECENT = 50
"""Trials by which the rate is told."""
PAUSE = 30.0
"""Seconds without an evaluation that count as a pause between sessions, not as slowness."""
TENTH = 0.1
SOON = 0.2
"""Share of the budget before which nothing is said of what going on would bring."""
HARDLY, LITTLE = 0.001, 0.01
"""Relative gains over a tenth of the budget below which going on is hardly worth it, and brings little."""


@final
@dataclass(frozen=True)
class Running:
    """A proposal on its way, and the Unix time in seconds since when it is evaluated or, queued, waits."""

    number: int
    since: float
    proposal: Proposal

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"number": self.number, "since": self.since, **self.proposal.to_json()}


@final
@dataclass(frozen=True)
class Tenth:
    """What the last tenth of the budget brought.

    Attributes:
        limit: the one that is nearest to its end.
        used: share of it.
        trials: that the last tenth of it went into.
        before, now: hypervolume in the box of the whole run, in [0, 1].
        seconds: of devices, that these trials took.
    """

    limit: str
    used: float
    trials: int
    before: float
    now: float
    seconds: float

    @property
    def gained(self) -> float:
        """Relative gain, at least 0; infinite where there was nothing before."""
        if self.now <= self.before:
            return 0.0
        return (self.now - self.before) / self.before if self.before else math.inf

    @property
    def advice(self) -> str:
        """Whether to go on, in words."""
        if not self.now:
            return "nothing within the bounds was found yet"
        if self.used < SOON:
            return "too early to say whether to go on"
        if self.gained == 0:
            return "nothing was gained: going on is hardly worth it"
        if math.isinf(self.gained):
            return "something was found at last: worth going on"
        most = f"another tenth would bring at most as much ({percent(self.gained)}), and likely less"
        if self.gained < HARDLY:
            return f"{most}: hardly worth it"
        return f"{most}: go on only where that matters" if self.gained < LITTLE else f"{most}: worth going on"

    def text(self, price: Price | None) -> str:
        """What was gained, for how much, and the advice."""
        cost = "" if price is None else f" for {price.text(self.seconds)}"
        gained = f"{counted(self.trials, 'trial')} gained {percent(self.gained)} of hypervolume"
        return f"{gained}{cost}; {self.advice}"


@final
@dataclass(frozen=True)
class Standing:
    """How a search stands.

    Attributes:
        running, queued: what is being evaluated, and what waits for a place.
        rate: trials an hour, pauses left out; None where it cannot be told.
        recent: trials by which that was told.
        spent, used: of the budget, as amounts and as shares.
        failures: numbers of failures by kind.
        books: seconds and numbers of the whole run.
        last: what the last tenth of the budget brought; None before there are trials.
        gain: by which a rule of stopping judges; None without a rule, or too early.
    """

    running: Sequence[Running]
    queued: Sequence[Running]
    rate: float | None
    recent: int
    spent: Spent
    used: Mapping[str, float]
    failures: Mapping[str, int]
    books: Ledger
    last: Tenth | None
    gain: float | None

    def to_json(self, price: Price | None) -> dict[str, Any]:
        """JSON values."""
        books, last = self.books, self.last
        return {
            "running": [job.to_json() for job in self.running],
            "queued": [job.to_json() for job in self.queued],
            "trials_per_hour": self.rate,
            "spent": asdict(self.spent),
            "used": dict(self.used),
            "reused": {"whole": books.reused, "part": books.partly},
            "failures": dict(self.failures),
            "retried": books.retried,
            **accounted(books, price),
            "last_tenth": last and {**asdict(last), "gained": last.gained, "advice": last.advice},
            "stop_gain": self.gain,
        }


def standing(parts: Parts, history: History, jobs: Sequence[Job], places: int) -> Standing:
    """How a search stands by its trials and by what was noted as in flight."""
    trials = history.trials
    searched = [t for t in trials if t.role == "search"]
    budget, price = parts.search.budget, parts.search.price
    spent = Spent(wall_seconds=covered(searched))
    for trial in searched:
        spent.add(trial, price)
    gains = None if parts.stop is None else Gains(parts.objectives, parts.stop.over)
    for batch in history.batches() if gains is not None else ():
        gains.tell([t for t in batch if t.role != "confirm"])  # type: ignore[union-attr]
    recent = searched[-RECENT:]
    flying = in_flight(jobs, trials)
    return Standing(
        running=flying[:places],
        queued=flying[places:],
        rate=rate(recent),
        recent=len(recent),
        spent=spent,
        used=spent.shares(budget),
        failures=Counter(t.outcome.kind for t in searched if isinstance(t.outcome, Failure)),
        books=ledger(trials),
        last=last_tenth(trials, parts.objectives, budget, price) if searched else None,
        gain=None if gains is None else gains.relative,
    )


def in_flight(jobs: Sequence[Job], trials: Sequence[Trial]) -> list[Running]:
    """Jobs that are not stored yet, in the order in which they get their places.

    One that was asked for together with others began, or begins, when another of these ended.
    """
    done = {t.number for t in trials}
    left = sorted((job for job in jobs if job.number not in done), key=lambda job: job.number)
    ended = {job.batch: job.queued for job in left}
    for trial in trials:
        if trial.batch in ended and trial.size > 1:
            ended[trial.batch] = max(ended[trial.batch], trial.ended)
    return [Running(job.number, max(job.queued, ended[job.batch]), job.proposal) for job in left]


def rate(trials: Sequence[Trial]) -> float | None:
    """Trials an hour, from the first of these to the last, without long pauses."""
    spans = sorted((t.queued or t.started, t.ended) for t in trials)
    total, reached = 0.0, spans[0][0] if spans else 0.0
    for start, end in spans:
        pause = start - reached
        total += max(0.0, end - reached) - (pause if pause > PAUSE else 0.0)
        reached = max(reached, end)
    return HOUR * len(spans) / total if total > 0 else None


def last_tenth(
    trials: Sequence[Trial], objectives: Sequence[Objective], budget: Budget, price: Price | None
) -> Tenth:
    """What the last tenth of the limit that is nearest to its end brought."""
    spent, shares = Spent(), []
    reached = -math.inf
    searched = [t for t in trials if t.role == "search"]
    for trial in searched:
        spent.add(trial, price)
        spent.wall_seconds += max(0.0, trial.ended - max(trial.started, reached))
        reached = max(reached, trial.ended)
        shares.append(spent.shares(budget))
    limit = max(shares[-1], key=lambda name: shares[-1][name])
    used = shares[-1][limit]
    recent = [t for t, share in zip(searched, shares, strict=True) if share[limit] > used - TENTH + 1e-9]
    before, now = _volumes(trials, objectives, {t.number for t in recent})
    seconds = sum(t.ended - t.started + t.lost_seconds for t in recent)
    return Tenth(limit, used, len(recent), before, now, seconds)


def _volumes(
    trials: Sequence[Trial], objectives: Sequence[Objective], recent: set[int]
) -> tuple[float, float]:
    """Hypervolume without the architectures that recent trials measured first, and with them."""
    found = candidates(trials, objectives)
    if not found:
        return 0.0, 0.0
    points = minimised([m.values for m in found], objectives)
    low, high = box(points)
    scaled = (points - low) / (high - low)
    return hypervolume(scaled[[m.trial not in recent for m in found]]), hypervolume(scaled)


def percent(share: float) -> str:
    """A relative gain, for people."""
    if math.isinf(share):
        return "the first"
    return f"{100 * share:.2g} %" if share < 1 else f"{100 * share:,.0f} %"
