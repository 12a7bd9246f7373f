"""Does one driver keep 16, 256 and 1,000 places busy, and what does not waiting for the slowest gain?

Claims, with evaluations whose seconds are lognormal (σ 1.5, mean 10): (a) at 1,000 places, with a journal on
disk and what is in flight kept in a file, at least 95 % of the places evaluate at any time; (b) at equal wall
time, asynchronous aging evolution is never worse than the same in synchronous batches of as many trials as
there are places.

Only the evaluations are simulated: the driver is the real one (study, strategy, history, files), and the
seconds that it takes between two waits are charged to the simulated clock, on which evaluations end. A place
is busy from the moment in which its evaluation was sent off until it ends; what ended while the driver worked
waits for it. `driver_ms` is what was charged for a trial; the driver cannot keep more than
10 s / `driver_ms` places busy, whatever their number.

Quality is the regret of the best validation accuracy (CIFAR-10, the 12th epoch) among the evaluations that
ended, in per cent points, against the best of NAS-Bench-201's 15,625 cells; of the shipped synthetic table
where the data folder is absent. Intervals are 95 % t intervals of the mean over seeds, and of the paired
difference. About 9 minutes on two cores.

    python benchmarks/async_simulation.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import heapq
import math
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from record import record
from scipy.stats import t as student

from nas import Budget, Study, parse_objectives
from nas.errors import BadInput
from nas.estimators.tabular import TabularEvaluator
from nas.executor import Executor, Report, Unit, evaluate_unit
from nas.files import FolderFiles
from nas.history import MemoryHistory, OptunaHistory
from nas.inflight import InFlight
from nas.registry import create

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nas.evaluator import Evaluator
    from nas.table import Table

MEAN, SIGMA = 10.0, 1.5
SEEDS = range(10)
HORIZONS = {16: 1_000.0, 256: 200.0, 1_000: 100.0}
"""Simulated seconds, by places."""
LOOKS = (0.1, 0.2, 0.5, 1.0)
"""Shares of them after which the best is compared."""
BUSY = 0.95


class Simulated(Executor):
    """Places whose evaluations end on a simulated clock, to which the driver's real time is charged.

    Args:
        places: evaluations at once.
        horizon: seconds after which nothing is counted.
        seed: of how long evaluations take, by the number of their trial.
    """

    def __init__(self, places: int, horizon: float, seed: int) -> None:
        self.places, self.horizon, self.now = places, horizon, 0.0
        self.charged = self.occupied = 0.0
        self._running: list[tuple[float, int, float, Unit]] = []
        longest = math.ceil(2 * horizon / MEAN + 20) * places
        rng = np.random.default_rng(seed)
        self._seconds = rng.lognormal(math.log(MEAN) - SIGMA**2 / 2, SIGMA, longest)

    @property
    def busy(self) -> int:
        """Evaluations that have not ended."""
        return len(self._running)

    def open(self, evaluator: Evaluator, seed: int, logs: Path | None) -> None:
        """The driver's time counts from here."""
        self._evaluator, self._seed, self._logs = evaluator, seed, logs
        self._since = time.perf_counter()

    def submit(self, unit: Unit) -> None:
        """Each proposal takes a place of its own, from now on."""
        start = self.now + time.perf_counter() - self._since
        for number, proposal in unit:
            end = start + float(self._seconds[number])
            heapq.heappush(self._running, (end, number, start, [(number, proposal)]))
            self.occupied += max(0.0, min(end, self.horizon) - start)
        assert len(self._running) <= self.places

    def wait(self) -> list[Report]:
        """Whatever ended while the driver was at work, or else what ends next."""
        worked = time.perf_counter() - self._since
        self.charged += worked
        self.now = max(self.now + worked, self._running[0][0])
        reports = []
        while self._running and self._running[0][0] <= self.now:
            end, _, start, unit = heapq.heappop(self._running)
            (report,) = evaluate_unit(self._evaluator, unit, self._seed, self._logs)
            reports.append(replace(report, started=start, ended=end))
        self._since = time.perf_counter()
        return reports

    def drop(self) -> None:
        """The end: nothing more is waited for."""
        self._running.clear()

    def close(self) -> None:
        """As `drop`."""
        self.drop()


class Problem:
    """Where quality is known: a table, its space, and its best value."""

    def __init__(self) -> None:
        try:
            from imported import table

            self.name, self.metric, settings = "nasbench201", "cifar10_hp12_valid_accuracy", {}
            self.table: Table = table(self.name)
        except BadInput:
            self.name, self.metric, settings = "synthetic", "valid_accuracy", {"nodes": 3}
            self.table = synthetic()
        self.space = create("space", {"name": "nasbench201", **settings})
        self.objectives = parse_objectives("max accuracy")
        self.best = float(np.nanmax(self.table.values(self.metric)))

    def study(self, executor: Simulated, seed: int, batch: int | None, place: Path | None) -> Study:
        """Aging evolution on the table, with files in a folder or in memory."""
        history: Any = MemoryHistory()
        in_flight = None
        if place is not None:
            history = OptunaHistory(place / "journal.log", self.space, self.objectives)
            in_flight = InFlight(FolderFiles(place), self.space)
        made = {"space": self.space, "objectives": self.objectives}
        return Study(
            self.space,
            self.objectives,
            TabularEvaluator(self.space, self.table, metrics={"accuracy": self.metric}),
            create("strategy", "aging_evolution", made),
            history=history,
            executor=executor,
            seed=seed,
            batch=batch,
            in_flight=in_flight,
        )


def synthetic() -> Table:
    """The invented table that comes with the toolkit."""
    from nas.table import SUFFIX, Table
    from nas.tables.synthetic import load

    with TemporaryDirectory() as place:
        file = Path(place) / f"synthetic{SUFFIX}"
        load().write(file)
        return Table.open(file)


def searched(
    problem: Problem, places: int, seed: int, batch: int | None, place: Path | None
) -> dict[str, Any]:
    """One search until the horizon: share of busy places, the driver's time, and regrets."""
    executor = Simulated(places, HORIZONS[places], seed)
    study = problem.study(executor, seed, batch, place)
    study.observer = ending(study, executor)
    study.run(Budget(seconds=math.inf))
    trials = [t for t in study.history.trials if t.ended <= executor.horizon]
    ends = np.array([t.ended for t in trials])
    values = np.array([t.values["accuracy"] for t in trials])
    looks = [executor.horizon * share for share in LOOKS]
    return {
        "busy": executor.occupied / (places * executor.horizon),
        "trials": len(trials),
        "driver_ms": 1e3 * executor.charged / len(study.history.trials),
        "regret": [100 * (problem.best - values[ends <= look].max(initial=0.0)) for look in looks],
    }


def ending(study: Study, executor: Simulated) -> Callable[[Any], None]:
    """Stops the study when the horizon is reached."""

    def observe(_: Any) -> None:
        if executor.now >= executor.horizon:
            study.stop("the horizon is reached")

    return observe


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean, and half the width of its 95 % t interval."""
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return {"mean": round(float(np.mean(values)), 4), "half_width": round(float(half), 4)}


def compared(problem: Problem, places: int) -> dict[str, Any]:
    """Asynchronous against synchronous, seed by seed, in memory; and with files for the first two seeds."""
    plain = [searched(problem, places, seed, None, None) for seed in SEEDS]
    batched = [searched(problem, places, seed, places, None) for seed in SEEDS]
    kept = []
    for seed in SEEDS[:2]:
        with TemporaryDirectory(dir=Path(__file__).parent) as place:
            kept.append(searched(problem, places, seed, None, Path(place)))
    rows = {"asynchronous": plain, "batches": batched, "asynchronous, journal": kept}
    figures: dict[str, Any] = {"horizon_s": HORIZONS[places]}
    for name, runs in rows.items():
        figures[name] = {key: interval([run[key] for run in runs]) for key in ("busy", "trials", "driver_ms")}
        print(f"{places:>5} places, {name}: {figures[name]}", flush=True)
    figures["regret"] = {
        f"{HORIZONS[places] * share:g} s": {
            "asynchronous": interval([run["regret"][i] for run in plain]),
            "batches": interval([run["regret"][i] for run in batched]),
            "gain": interval([b["regret"][i] - a["regret"][i] for a, b in zip(plain, batched, strict=True)]),
        }
        for i, share in enumerate(LOOKS)
    }
    for at, row in figures["regret"].items():
        print(f"{places:>5} places, after {at}: {row}", flush=True)
    return figures


def main() -> None:
    problem = Problem()
    figures: dict[str, Any] = {
        "problem": problem.name,
        "mean_s": MEAN,
        "sigma": SIGMA,
        "load": os.getloadavg(),
    }
    figures["places"] = {places: compared(problem, places) for places in HORIZONS}
    busiest = figures["places"][1_000]["asynchronous, journal"]["busy"]["mean"]
    verdict = "met" if busiest >= BUSY else "MISSED"
    print(f"1,000 places with files: {busiest:.1%} busy (bar: {BUSY:.0%}) {verdict}")
    record("async_simulation", figures, list(SEEDS))


if __name__ == "__main__":
    main()
