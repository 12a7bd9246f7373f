"""What a person sees while a search runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from nas.budget import Budget, Price, Spent, covered
from nas.cli.app import number, say
from nas.front import Front
from nas.objective import Objective, goals
from nas.report.markup import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nas.proposal import Trial

PANEL_SECONDS = 0.25
"""The panel takes in new trials no more often than this."""
LINE_SECONDS = 1.0
"""The same for lines; they get rarer as a search grows longer."""


@final
class Progress:
    """Follows a study's trials.

    Args:
        budget: what is left is shown of each limit.
        price: of a device hour; what was spent is shown where there is one.
    """

    def __init__(self, budget: Budget, price: Price | None = None) -> None:
        self._budget, self._price = budget, price
        self._objectives: tuple[Objective, ...] = ()
        self._trials: list[Trial] = []
        self._front = Front((), ())
        self._spent = self._before = Spent()
        self._clock = self._shown = 0.0
        self._rested: Callable[[], float] = float
        self._confirming = 0
        self._live = False

    @contextmanager
    def following(
        self, objectives: Sequence[Objective], trials: Sequence[Trial], rested: Callable[[], float]
    ) -> Iterator[None]:
        """Show what happens from now on.

        Args:
            objectives: whose best values are shown.
            trials: what an earlier session found.
            rested: gives the seconds that were spent paused from now on.
        """
        self._rested = rested
        self._objectives, self._trials = tuple(objectives), list(trials)
        searched = [trial for trial in trials if trial.role == "search"]
        for trial in searched:
            self._spent.add(trial, self._price)
        self._spent.wall_seconds = covered(searched)
        self._before = replace(self._spent)
        self._front = Front(self._trials, self._objectives)
        self._clock = time.perf_counter()
        # Evaluations print into their logs by replacing sys.stdout; the panel keeps the real one.
        terminal = Console(file=sys.stdout, highlight=False)
        if not terminal.is_terminal or terminal.is_dumb_terminal:
            yield
            return
        self._live = True
        with Live(console=terminal, get_renderable=self._panel, transient=True, redirect_stdout=False):
            yield

    def __call__(self, trial: Trial) -> None:
        """Take in a trial; showing never takes more than a small share of the time."""
        self._trials.append(trial)
        if trial.role == "search":
            self._spent.add(trial, self._price)
        self._confirming += trial.role == "confirm"
        now = time.perf_counter()
        elapsed = now - self._clock
        interval = PANEL_SECONDS if self._live else max(LINE_SECONDS, 0.02 * elapsed)
        if now - self._shown < max(interval, 2e-4 * len(self._trials)):
            return
        self._shown = now
        self._front = Front(self._trials, self._objectives)
        if not self._live:
            say(self._line())

    def _line(self) -> str:
        if self._confirming:
            return f"confirming the front: {self._confirming} measured again"
        best = ", ".join(f"{m} {number(v)}" for m, v in self._best())
        return (
            f"trials {self._spent.trials}{self._of('trials')}, failed {self._spent.failures}, "
            f"reused {self._spent.reused}, best {best or 'none'}, front {len(self._front)}, "
            f"hypervolume {self._front.hypervolume():.3f}, time {duration(self._elapsed())}, {self._left()}"
        )

    def _panel(self) -> Table:
        table = Table.grid(padding=(0, 2))
        if self._confirming:
            table.add_row("confirming", f"{self._confirming} members of the front measured again")
        table.add_row("trials", f"{self._spent.trials}{self._of('trials')}")
        table.add_row("failed, reused", f"{self._spent.failures}, {self._spent.reused}")
        for metric, value in self._best():
            table.add_row(f"best {metric}", number(value))
        found = f"{len(self._front)} architectures, hypervolume {self._front.hypervolume():.3f}"
        table.add_row("front", found)
        if self._price is not None:
            table.add_row("spent", self._price.text(self._spent.device_seconds))
        table.add_row("time", f"{duration(self._elapsed())}, {self._left()}")
        return table

    def _best(self) -> list[tuple[str, float]]:
        if not self._front:
            return []
        return [(o.metric, self._front.best(o.metric).values[o.metric]) for o in goals(self._objectives)]

    def _of(self, limit: str) -> str:
        given = getattr(self._budget, limit)
        return "" if given is None else f"/{number(given)}"

    def _elapsed(self) -> float:
        """Seconds of this session, without its pauses."""
        return time.perf_counter() - self._clock - self._rested()

    def _left(self) -> str:
        """Time until the first limit is reached at this session's rate."""
        elapsed = self._elapsed()
        now = replace(self._spent, wall_seconds=self._before.wall_seconds + elapsed)
        left = []
        for name in (f.name for f in fields(Budget)):
            limit, spent = getattr(self._budget, name), getattr(now, name)
            rate = (spent - getattr(self._before, name)) / max(elapsed, 1e-9)
            if limit is not None and rate > 0:
                left.append(max(0.0, limit - spent) / rate)
        return f"about {duration(min(left))} left" if left else "time left unknown"
