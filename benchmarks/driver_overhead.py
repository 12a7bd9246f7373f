"""What does everything but the evaluations cost?

Claims, with a trivial evaluator on the space of NAS-Bench-201 and functional keys:
(a) driver and journal take at most 2 ms a trial, flat to 10,000 trials, with NSGA-II, besides what the disk
    takes to confirm one write; in turns with it, Optuna's own NSGA-II (ask, suggest, tell) with the same kind
    of journal on the same problem and disk;
(b) opening a history of 5,000 trials and telling it to the strategy again takes at most 1 s;
(c) in memory, in batches of 100, evolution makes at least 10,000 proposals a second, through the whole study;
    strategy and key alone are shown beside it;
(d) ``import nas``, ``nas --help`` and ``nas list`` answer in a fraction of a second.

"wall" is the clock's time, "cpu" the process's own, which is the figure on a shared machine; "sync" is the
part of the wall that the disk takes to confirm what was written.

    python benchmarks/driver_overhead.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import optuna
from record import record

from nas import parse_objectives
from nas.budget import Budget
from nas.evaluator import Evaluator
from nas.files import FolderFiles
from nas.history import MemoryHistory, OptunaHistory
from nas.memo import Memoized
from nas.proposal import Measurement, Trial
from nas.registry import create
from nas.rng import stream
from nas.spaces.nasbench201 import OPS, NasBench201Space
from nas.study import Study

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nas.history import History
    from nas.objective import Objective
    from nas.proposal import Outcome, Proposal
    from nas.strategy import Strategy

SEEDS = range(5)
LENGTHS = (100, 1_000, 10_000)
RESUMED = 5_000
IN_MEMORY = 5_000
BATCH = 100
SPACE = NasBench201Space()
BOTH, ONE = parse_objectives("min error, min params"), parse_objectives("min error")
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import nas": [sys.executable, "-c", "import nas"],
    "nas --help": [sys.executable, "-m", "nas", "--help"],
    "nas list": [sys.executable, "-m", "nas", "list"],
}


class Trivial(Evaluator):
    """Two numbers made of the choice, in no time worth mentioning."""

    metrics = frozenset({"error", "params"})
    functional = frozenset({"error"})

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:  # noqa: ARG002
        """In order."""
        return [_measured(p) for p in proposals]


class AtOnce(Trivial):
    """The same in one call a batch."""

    batched = True


def _measured(proposal: Proposal) -> Measurement:
    found = values(proposal.candidate)  # type: ignore[arg-type]
    return Measurement({metric: found[metric] for metric in proposal.metrics})


def values(choices: Mapping[str, str]) -> dict[str, float]:
    """An error between 0 and 1 with one good choice an edge, and a size that pulls the other way."""
    places = [OPS.index(op) for op in choices.values()]
    return {
        "error": sum(abs(place - (3 * i) % 5) for i, place in enumerate(places)) / 24,
        "params": float(sum(2 * place + i * (place > 2) for i, place in enumerate(places))),
    }


class Clock:
    """Seconds of the process and of the wall since it was made or last read."""

    def __init__(self) -> None:
        gc.collect()
        self.read()

    def read(self) -> tuple[float, float]:
        """(cpu, wall), and start anew."""
        now = time.process_time(), time.perf_counter()
        before, self._last = getattr(self, "_last", now), now
        return now[0] - before[0], now[1] - before[1]


class Syncs:
    """Counts and times the calls of ``os.fsync`` inside a ``with`` block."""

    def __enter__(self) -> Syncs:
        self.seconds, self.calls, self._plain = 0.0, 0, os.fsync
        os.fsync = self._timed  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        os.fsync = self._plain

    def _timed(self, descriptor: int) -> None:
        start = time.perf_counter()
        self._plain(descriptor)
        self.seconds += time.perf_counter() - start
        self.calls += 1


def study(
    objectives: Sequence[Objective],
    history: History,
    seed: int,
    batch: int | None = None,
    observer: Callable[[Trial], None] | None = None,
) -> Study:
    evaluator = Memoized(AtOnce() if batch else Trivial(), SPACE)
    return Study(
        SPACE, objectives, evaluator, evolution(objectives),
        history=history, seed=seed, batch=batch, observer=observer,
    )  # fmt: skip


def evolution(objectives: Sequence[Objective]) -> Strategy:
    made: Strategy = create("strategy", "evolution", {"space": SPACE, "objectives": objectives})
    return made


def opened(folder: Path) -> OptunaHistory:
    return OptunaHistory(folder / "journal.log", SPACE, BOTH, files=FolderFiles(folder))


# --- (a) and (b) ---------------------------------------------------------------------------------------


def on_disk(folder: Path, trials: int, seed: int) -> dict[str, float]:
    """Milliseconds a trial of a run, and of its first and last tenth."""
    ticks: list[tuple[float, float, float]] = []
    with Syncs() as syncs:
        clock = (time.process_time(), time.perf_counter())
        one = study(
            BOTH, opened(folder), seed,
            observer=lambda _: ticks.append((time.process_time(), time.perf_counter(), syncs.seconds)),
        )  # fmt: skip
        one.run(Budget(trials=trials))
        cpu, wall = time.process_time() - clock[0], time.perf_counter() - clock[1]
    tenth = trials // 10

    def between(i: int, j: int) -> tuple[float, float]:
        """(cpu, wall without syncs) in ms a trial."""
        (c0, w0, s0), (c1, w1, s1) = ticks[i], ticks[j]
        return 1e3 * (c1 - c0) / (j - i), 1e3 * (w1 - w0 - s1 + s0) / (j - i)

    first, last = between(0, tenth), between(trials - 1 - tenth, trials - 1)
    return {
        "wall_ms": 1e3 * wall / trials,
        "sync_ms": 1e3 * syncs.seconds / trials,
        "wall_without_sync_ms": 1e3 * (wall - syncs.seconds) / trials,
        "syncs": syncs.calls / trials,
        "cpu_ms": 1e3 * cpu / trials,
        "first_tenth_cpu_ms": first[0],
        "last_tenth_cpu_ms": last[0],
        "first_tenth_without_sync_ms": first[1],
        "last_tenth_without_sync_ms": last[1],
        "journal_bytes": (folder / "journal.log").stat().st_size / trials,
    }


def optuna_on_disk(folder: Path, trials: int, seed: int) -> dict[str, float]:
    """The same of Optuna's NSGA-II."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "optuna.log"))
    names = [leaf.name for leaf in SPACE.leaves]
    ticks: list[float] = []
    with Syncs() as syncs:
        clock = (time.process_time(), time.perf_counter())
        one = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            sampler=optuna.samplers.NSGAIISampler(population_size=50, seed=seed),
            directions=["minimize"] * 2,
        )
        for _ in range(trials):
            trial = one.ask()
            found = values({name: trial.suggest_categorical(name, OPS) for name in names})
            one.tell(trial, list(found.values()))
            ticks.append(time.process_time())
        cpu, wall = time.process_time() - clock[0], time.perf_counter() - clock[1]
    tenth = trials // 10
    return {
        "wall_ms": 1e3 * wall / trials,
        "sync_ms": 1e3 * syncs.seconds / trials,
        "wall_without_sync_ms": 1e3 * (wall - syncs.seconds) / trials,
        "syncs": syncs.calls / trials,
        "cpu_ms": 1e3 * cpu / trials,
        "first_tenth_cpu_ms": 1e3 * (ticks[tenth] - ticks[0]) / tenth,
        "last_tenth_cpu_ms": 1e3 * (ticks[-1] - ticks[-1 - tenth]) / tenth,
        "journal_bytes": (folder / "optuna.log").stat().st_size / trials,
    }


def resumed(folder: Path, seed: int) -> dict[str, float]:
    """Seconds until a stored run of 5,000 trials is where it was, its front included."""
    lines = (folder / "journal.log").read_bytes().splitlines(keepends=True)
    head = len(lines) - LENGTHS[-1]
    with TemporaryDirectory(dir=folder) as place:
        (Path(place) / "journal.log").write_bytes(b"".join(lines[: head + RESUMED]))
        clock = Clock()
        history = opened(Path(place))
        read = clock.read()
        one = study(BOTH, history, seed)
        one.run(Budget(trials=RESUMED))
        told = clock.read()
    assert one.spent.trials == RESUMED
    return {
        "open_cpu_s": read[0],
        "tell_cpu_s": told[0],
        "cpu_s": read[0] + told[0],
        "wall_s": read[1] + told[1],
    }


# --- (c) ------------------------------------------------------------------------------------------------


def through_the_study(objectives: Sequence[Objective], seed: int) -> tuple[float, float]:
    """(cpu, wall) proposals a second, from the first asking to the front."""
    one = study(objectives, MemoryHistory(), seed, BATCH)
    clock = Clock()
    one.run(Budget(trials=IN_MEMORY))
    cpu, wall = clock.read()
    assert one.spent.trials == IN_MEMORY
    return IN_MEMORY / cpu, IN_MEMORY / wall


def strategy_alone(objectives: Sequence[Objective], seed: int) -> tuple[float, float]:
    """(cpu, wall) proposals a second of asking, finding the key, and telling."""
    strategy, memo = evolution(objectives), Memoized(Trivial(), SPACE)
    strategy.tell((), stream(seed, "tell", -1))
    total = [0.0, 0.0]
    for k in range(0, IN_MEMORY, BATCH):
        clock = Clock()
        proposals = strategy.ask(BATCH, stream(seed, "ask", k))
        for proposal in proposals:
            memo.key(proposal.candidate)  # type: ignore[arg-type]
        asked = clock.read()
        outcomes = memo.worker.evaluate(proposals, seed=seed)
        trials = [Trial(k + i, p, o) for i, (p, o) in enumerate(zip(proposals, outcomes, strict=True))]
        clock.read()
        strategy.tell(trials, stream(seed, "tell", k))
        told = clock.read()
        total = [t + a + b for t, a, b in zip(total, asked, told, strict=True)]
    return IN_MEMORY / total[0], IN_MEMORY / total[1]


# --- (d) and everything ------------------------------------------------------------------------------------


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(median(row[name] for row in rows), 4) for name in rows[0]}


def say(label: str, value: float, bar: float | None, unit: str, *, least: bool = False) -> None:
    verdict = "" if bar is None else "  met" if (value >= bar) == least or value == bar else "  MISSED"
    limit = "" if bar is None else f"  (bar: {'at least' if least else 'at most'} {bar:,g})"
    print(f"{label:<66}{value:>12,.3f} {unit}{limit}{verdict}", flush=True)


def disk_figures(folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {"nas": {}, "optuna": {}}
    for trials in LENGTHS:
        rows: dict[str, list[dict[str, float]]] = {"nas": [], "optuna": []}
        for seed in SEEDS if trials < LENGTHS[-1] else SEEDS[:1]:
            for name, run in (("nas", on_disk), ("optuna", optuna_on_disk)):
                place = folder / f"{name}-{trials}-{seed}"
                place.mkdir()
                rows[name].append(run(place, trials, seed))
        for name in rows:
            figures[name][trials] = found = medians(rows[name])
            for key, value in found.items():
                bounded = name == "nas" and key in ("wall_without_sync_ms", "last_tenth_without_sync_ms")
                say(f"(a) {name}, {trials:,} trials: {key} a trial", value, 2.0 if bounded else None, "")
    place = folder / f"nas-{LENGTHS[-1]}-{SEEDS[0]}"
    figures["resume"] = medians([resumed(place, SEEDS[0]) for _ in SEEDS])
    for key, value in figures["resume"].items():
        say(
            f"(b) resuming {RESUMED:,} trials: {key}", value, 1.0 if key in ("cpu_s", "wall_s") else None, "s"
        )
    return figures


def memory_figures() -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, objectives in (("one objective", ONE), ("NSGA-II", BOTH)):
        for label, run in (
            ("strategy and key alone", strategy_alone),
            ("through the study", through_the_study),
        ):
            rates = [run(objectives, seed) for seed in SEEDS]
            found = {"cpu_per_s": median(r[0] for r in rates), "wall_per_s": median(r[1] for r in rates)}
            figures[f"{name}, {label}"] = {key: round(value) for key, value in found.items()}
            for key, value in found.items():
                say(f"(c) {name}, {label}: {key}", value, 1e4, "proposals/s", least=True)
    return figures


def main() -> None:
    figures: dict[str, Any] = {"load": os.getloadavg()}
    figures["in_memory"] = memory_figures()
    with TemporaryDirectory(dir=Path(__file__).parent) as folder:
        figures |= disk_figures(Path(folder))
    figures["startup_s"] = {}
    for name, command in COMMANDS.items():
        figures["startup_s"][name] = round(median(seconds_of(command) for _ in SEEDS), 3)
        say(f"(d) {name}", figures["startup_s"][name], None if name == "python" else 0.5, "s")
    record("driver_overhead", figures, list(SEEDS))


if __name__ == "__main__":
    main()
