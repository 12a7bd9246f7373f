"""Do two worker processes evaluate at least 1.8 times as fast as one?

    python benchmarks/processes_speed.py

The same random search of 40 evaluations, each of 0.5 s of processor time, with one worker and with two, in
turn, five times (one seed each); all is counted from the start of the search to its end, the start of the
workers among it. ``speedup`` compares evaluations per second, which needs two cores that nobody else uses.
``speedup_of_places`` does not: it compares, with one worker and with two, how many places were evaluating at
a time, whatever share of a core each of them was given meanwhile; ``cores_given`` is that share.

``driver_cpu_ms_per_trial`` is the driver's own processor time for asking, sending, storing in a journal and
telling one of 1,000 trials that evaluate nothing, with what is in flight kept in a file; ``in_flight_cpu_ms``
is the part of that for keeping it, by the number of evaluations in flight.

``overhead`` compares executors on the same 1,000 trials in memory, with two places: seconds until the first
is evaluated, starting of workers and of a local Ray among it, and then milliseconds of wall and of the
driver's processor a trial. ``same_front`` says whether an evolution in batches of 8 had the same trials and
the same front on each of them. About 5 minutes on two cores.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from record import record

from nas import Categorical, Space, Study, parse_objectives
from nas.budget import Budget
from nas.evaluator import FunctionEvaluator
from nas.executors import create
from nas.executors.processes import Processes
from nas.files import FolderFiles
from nas.history import OptunaHistory
from nas.inflight import InFlight, Job
from nas.proposal import Proposal
from nas.rng import stream
from nas.strategies.evolution import evolution
from nas.strategies.random_search import RandomSearch

EVALUATIONS = 40
CPU_SECONDS = 0.5
SEEDS = range(5)


class Any16(Space):
    """Something to choose from."""

    decisions = tuple(Categorical(f"d{i}", (0, 1)) for i in range(16))

    def build(self, architecture: Any) -> Any:
        """Never asked for."""
        raise NotImplementedError("nothing here is trained")


def work(architecture: Any) -> float:
    """Half a second of processor time."""
    began = time.thread_time()
    total = 0
    while time.thread_time() - began < CPU_SECONDS:
        total += sum(range(1000))
    return float(architecture["d0"])


def measured(workers: int, seed: int) -> dict[str, float]:
    """Evaluations per second, and places that evaluated at a time, of one search."""
    space, objectives = Any16(), parse_objectives("min loss")
    study = Study(
        space,
        objectives,
        FunctionEvaluator(work, "loss"),
        RandomSearch(space, objectives),
        executor=Processes(workers=workers),
        seed=seed,
    )
    clock = time.perf_counter()
    study.run(Budget(trials=EVALUATIONS))
    seconds = time.perf_counter() - clock
    busy = sum(t.ended - t.started for t in study.history.trials)
    assert not any(t.failed or t.attempts > 1 for t in study.history.trials)
    return {
        "per_second": EVALUATIONS / seconds,
        "busy_places": busy / seconds,
        "cores_given": EVALUATIONS * CPU_SECONDS / busy,
    }


def driver_cpu_ms(trials: int = 1000) -> float:
    """The driver's processor time for one trial, in ms."""
    space, objectives = Any16(), parse_objectives("min loss")
    with TemporaryDirectory() as place:
        study = Study(
            space,
            objectives,
            FunctionEvaluator(lambda architecture: float(architecture["d0"]), "loss"),
            RandomSearch(space, objectives),
            executor=Processes(workers=2),
            history=OptunaHistory(Path(place) / "journal.log", space, objectives),
            in_flight=InFlight(FolderFiles(Path(place)), space),
        )
        study.run(Budget(trials=1))
        began = time.process_time()
        study.run(Budget(trials=trials + 1))
        return 1e3 * (time.process_time() - began) / trials


def in_flight_cpu_ms(places: int, times: int = 300) -> float:
    """Processor time for naming what is in flight once more when one of so many was replaced, in ms."""
    space = Any16()
    with TemporaryDirectory() as place:
        kept = InFlight(FolderFiles(Path(place)), space)
        proposals = [Proposal(space.sample(stream(i)), ("loss",)) for i in range(places + times)]
        jobs = [Job(i, p, "search", i, 0, 1, 0.0) for i, p in enumerate(proposals)]
        kept.write(jobs[:places])
        began = time.process_time()
        for i in range(1, times + 1):
            kept.write(jobs[i : i + places])
        return 1e3 * (time.process_time() - began) / times


OVERHEAD: dict[str, Any] = {
    "here": "here",
    "processes": {"name": "processes", "workers": 2},
    "ray": {"name": "ray", "max_in_flight": 2},
}


def overhead(spec: Any, trials: int = 1000) -> dict[str, float]:
    """What an executor costs around evaluations that take no time."""
    space, objectives = Any16(), parse_objectives("min loss")
    executor = create(spec)
    study = Study(
        space,
        objectives,
        FunctionEvaluator(lambda architecture: float(architecture["d0"]), "loss"),
        RandomSearch(space, objectives),
        executor=executor,
    )
    ends: list[tuple[float, float]] = []
    study.observer = lambda _: ends.append((time.perf_counter(), time.process_time()))
    began = time.perf_counter()
    study.run(Budget(trials=trials))
    settled = len(ends) // 10  # by then all workers have started
    wall, cpu = (b - a for a, b in zip(ends[settled], ends[-1], strict=True))
    left = len(ends) - 1 - settled
    return {"first_s": ends[0][0] - began, "wall_ms": 1e3 * wall / left, "driver_cpu_ms": 1e3 * cpu / left}


def told(spec: Any) -> list[Any]:
    """Trials by number, then the front, of a search in batches."""
    space, objectives = Any16(), parse_objectives("min zeros, min ends")

    def both(architecture: Any) -> dict[str, float]:
        bits = [int(v) for v in architecture.values()]
        return {"zeros": float(bits.count(0)), "ends": float(sum(i * b for i, b in enumerate(bits)))}

    study = Study(
        space,
        objectives,
        FunctionEvaluator(both, ("zeros", "ends")),
        evolution(space, objectives),
        executor=create(spec),
        batch=8,
    )
    front = study.run(Budget(trials=200))
    trials = sorted((t.number, t.proposal.candidate.key, *t.values.values()) for t in study.history.trials)
    return [*trials, *((m.candidate.key, *m.values.values()) for m in front)]


def main() -> None:
    found = {1: [], 2: []}  # type: dict[int, list[dict[str, float]]]
    for seed in SEEDS:
        for workers in found:
            found[workers].append(measured(workers, seed))
            print(workers, seed, found[workers][-1], flush=True)
    one, two = ({name: median(r[name] for r in rows) for name in rows[0]} for rows in found.values())
    figures = {
        "evaluations": EVALUATIONS,
        "cpu_seconds_each": CPU_SECONDS,
        "one_worker": one,
        "two_workers": two,
        "speedup": two["per_second"] / one["per_second"],
        "speedup_of_places": two["busy_places"] / one["busy_places"],
        "driver_cpu_ms_per_trial": driver_cpu_ms(),
        "in_flight_cpu_ms": {places: in_flight_cpu_ms(places) for places in (2, 16, 256, 1000)},
        "overhead": {name: overhead(spec) for name, spec in OVERHEAD.items()},
        "same_front": {name: told(spec) == told("here") for name, spec in OVERHEAD.items()},
        "load_average": os.getloadavg(),
    }
    print(figures)
    record("processes_speed", figures, seeds=SEEDS)


if __name__ == "__main__":
    main()
