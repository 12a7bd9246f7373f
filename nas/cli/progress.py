"""What a person sees while a search runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, final

from rich.live import Live
from rich.table import Table

from nas.cli.app import console, duration, number, say
from nas.front import Front
from nas.objective import Objective, goals
from nas.study import Budget, Spent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.proposal import Trial


@final
class Progress:
    """Follows a study's trials.

    Args:
        objectives: whose best values are shown.
        budget: what is left is shown of each limit.
    """

    def __init__(self, objectives: Sequence[Objective], budget: Budget) -> None:
        self._objectives, self._budget = tuple(objectives), budget
        self._trials: list[Trial] = []
        self._spent = Spent()
        self._clock = time.perf_counter()
        self._shown = 0.0
        self._confirming = 0
        self._live: Live | None = None
        self._earlier = 0

    def __enter__(self) -> Progress:
        if console.is_terminal:
            self._live = Live(console=console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def resumed(self, trials: Sequence[Trial]) -> None:
        """Take over what an earlier session found."""
        self._trials = list(trials)
        for trial in trials:
            if trial.role == "search":
                self._spent.add(trial)
        self._earlier = self._spent.trials

    def __call__(self, trial: Trial) -> None:
        """Show a trial; at most one line a second off a terminal, and a refresh within the time it takes."""
        self._trials.append(trial)
        if trial.role == "search":
            self._spent.add(trial)
        self._confirming += trial.role == "confirm"
        now = time.perf_counter()
        self._spent.wall_seconds = now - self._clock
        interval = 0.25 if self._live is not None else 1.0
        if now - self._shown < max(interval, 2e-4 * len(self._trials)):
            return
        self._shown = now
        front = Front(self._trials, self._objectives)
        if self._live is not None:
            self._live.update(self._panel(front))
        else:
            say(self._line(front))

    def _line(self, front: Front) -> str:
        if self._confirming:
            return f"confirming the front: {self._confirming} measured again"
        best = ", ".join(f"{m} {number(v)}" for m, v in self._best(front))
        return (
            f"trials {self._spent.trials}{self._of('trials')}, failed {self._spent.failures}, "
            f"reused {self._spent.reused}, best {best or 'none'}, front {len(front)}, "
            f"hypervolume {front.hypervolume():.3f}, left {self._left()}"
        )

    def _panel(self, front: Front) -> Table:
        table = Table.grid(padding=(0, 2))
        if self._confirming:
            table.add_row("confirming", f"{self._confirming} measurements of the front again")
        table.add_row("trials", f"{self._spent.trials}{self._of('trials')}")
        table.add_row("failed, reused", f"{self._spent.failures}, {self._spent.reused}")
        for metric, value in self._best(front):
            table.add_row(f"best {metric}", number(value))
        table.add_row("front", f"{len(front)} architectures, hypervolume {front.hypervolume():.3f}")
        table.add_row("time", f"{duration(self._spent.wall_seconds)}, left {self._left()}")
        return table

    def _best(self, front: Front) -> list[tuple[str, float]]:
        return (
            [(o.metric, front.best(o.metric).values[o.metric]) for o in goals(self._objectives)]
            if front
            else []
        )

    def _of(self, limit: str) -> str:
        given = getattr(self._budget, limit)
        return "" if given is None else f"/{number(given)}"

    def _left(self) -> str:
        """Time until the first limit at the present rate."""
        elapsed = time.perf_counter() - self._clock
        shares = []
        for name in ("trials", "evaluations", "seconds", "wall_seconds", "device_seconds"):
            limit = getattr(self._budget, name)
            if limit is not None:
                start = self._earlier if name == "trials" else 0
                shares.append((getattr(self._spent, name) - start) / max(limit - start, 1e-9))
        share = max(shares, default=0.0)
        return duration(max(0.0, elapsed * (1 - share) / share)) if share > 0 else "unknown"
