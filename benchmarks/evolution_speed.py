"""How many proposals a second does evolution make, beside pymoo's NSGA-II on the same problem?

Claim: in memory, asked and told in batches of 100 on the space of NAS-Bench-201, aging evolution makes at
least 20,000 proposals a second and NSGA-II, at population 100, at least 10,000; finding each proposal's
functional key included. pymoo's NSGA-II runs with object genotypes (tuples of options, operators in plain
Python as its documentation shows), with its elementwise elimination of duplicates and with one by hashes.

What an evaluation costs is left out for all. Times are of the process (CPU) and of the clock (wall): the
former is the figure on a shared machine. Medians of five repetitions, taken in turns.

    python benchmarks/evolution_speed.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination, ElementwiseDuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling
from pymoo.problems.static import StaticProblem
from record import record

from nas import parse_objectives
from nas.evaluator import FunctionEvaluator
from nas.memo import Memoized
from nas.proposal import Measurement, Trial
from nas.registry import create
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH = 100
PROPOSALS = 5_000
SEEDS = range(5)
EDGES, OPS = 6, 5
WEIGHTS = np.random.default_rng(0).random((2, EDGES, OPS))

Seconds: TypeAlias = tuple[float, float]


class Clock:
    """Seconds of the process and of the wall within ``with`` blocks."""

    def __init__(self) -> None:
        self.total = np.zeros(2)

    def __enter__(self) -> None:
        self._start = np.array([time.process_time(), time.perf_counter()])

    def __exit__(self, *_: object) -> None:
        self.total += np.array([time.process_time(), time.perf_counter()]) - self._start


def costs(options: Sequence[int]) -> tuple[float, float]:
    """Two conflicting costs of six options, each in [0, 6]."""
    edges = range(EDGES)
    return float(WEIGHTS[0, edges, options].sum()), float(WEIGHTS[1, edges, options].sum())


def ours(spec: dict[str, Any], goals: str, keys: str, seed: int) -> Seconds:
    """One of this project's strategies; ``keys`` names those that are found for each proposal."""
    space = create("space", "nasbench201", {})
    objectives = parse_objectives(goals)
    strategy = create("strategy", spec, {"space": space, "objectives": objectives})
    memo = Memoized(FunctionEvaluator(lambda _: 0.0, "a"), space, keys)
    strategy.tell((), stream(seed, "tell", -1))
    clock = Clock()
    for first in range(0, PROPOSALS, BATCH):
        with clock:
            proposals = strategy.ask(BATCH, stream(seed, "ask", first))
            for p in proposals:
                memo.key(p.candidate)
        measured = [_measured(space, p) for p in proposals]
        trials = [
            Trial(first + i, p, m, batch=first)
            for i, (p, m) in enumerate(zip(proposals, measured, strict=True))
        ]
        with clock:
            strategy.tell(trials, stream(seed, "tell", first))
    return float(clock.total[0]), float(clock.total[1])


def _measured(space: Any, proposal: Any) -> Measurement:
    a = proposal.candidate
    values = costs([space.by_name[name].index[op] for name, op in a.items()])
    return Measurement(dict(zip(proposal.metrics, values, strict=False)))


class Cells(Problem):
    """pymoo's side: one variable, a tuple of six options."""

    def __init__(self) -> None:
        super().__init__(n_var=1, n_obj=2, vtype=object)


class Draw(Sampling):
    """Random cells."""

    def _do(self, _problem: Any, n_samples: int, *_: Any, random_state: Any = None, **__: Any) -> Any:
        return _column([tuple(row) for row in random_state.integers(OPS, size=(n_samples, EDGES)).tolist()])


class Mix(Crossover):
    """Uniform crossover of each pair, as ours."""

    def __init__(self) -> None:
        super().__init__(2, 2, prob=0.9)

    def _do(self, _problem: Any, X: Any, *_: Any, random_state: Any = None, **__: Any) -> Any:  # noqa: N803
        out = np.empty_like(X)
        first = random_state.random((X.shape[1], EDGES)) < 0.5
        for k, own in enumerate(first.tolist()):
            a, b = X[0, k, 0], X[1, k, 0]
            out[0, k, 0] = tuple(x if o else y for x, y, o in zip(a, b, own, strict=True))
            out[1, k, 0] = tuple(y if o else x for x, y, o in zip(a, b, own, strict=True))
        return out


class Step(Mutation):
    """One option of each changes, as ours."""

    def _do(self, _problem: Any, X: Any, *_: Any, random_state: Any = None, **__: Any) -> Any:  # noqa: N803
        edges = random_state.integers(EDGES, size=len(X)).tolist()
        shifts = random_state.integers(1, OPS, size=len(X)).tolist()
        moved = []
        for a, i, shift in zip(X[:, 0], edges, shifts, strict=True):
            moved.append((*a[:i], (a[i] + shift) % OPS, *a[i + 1 :]))
        return _column(moved)


class SameCell(ElementwiseDuplicateElimination):
    """Compares each with each, as the documentation shows."""

    def is_equal(self, a: Any, b: Any) -> bool:
        """Whether two cells are one."""
        return a.X[0] == b.X[0]


class SameHash(DuplicateElimination):
    """Looks cells up in a set."""

    def _do(self, pop: Any, other: Any, is_duplicate: Any) -> Any:
        seen = set() if other is None else {b.X[0] for b in other}
        for i, a in enumerate(pop):
            is_duplicate[i] |= a.X[0] in seen
            if other is None:
                seen.add(a.X[0])
        return is_duplicate


def _column(cells: list[tuple[int, ...]]) -> np.ndarray:
    out = np.empty((len(cells), 1), dtype=object)
    out[:, 0] = cells
    return out


def pymoos(duplicates: Callable[[], DuplicateElimination], seed: int) -> Seconds:
    """Ask and tell pymoo's NSGA-II."""
    algorithm = NSGA2(
        pop_size=BATCH,
        sampling=Draw(),
        crossover=Mix(),
        mutation=Step(prob=1.0),
        eliminate_duplicates=duplicates(),
    )
    algorithm.setup(Cells(), termination=("n_gen", 10**6), seed=seed, verbose=False)
    clock, made = Clock(), 0
    while made < PROPOSALS:
        with clock:
            asked = algorithm.ask()
        static = StaticProblem(algorithm.problem, F=np.array([costs(x[0]) for x in asked.get("X")]))
        algorithm.evaluator.eval(static, asked)
        with clock:
            algorithm.tell(infills=asked)
        made += len(asked)
    return float(clock.total[0]) * PROPOSALS / made, float(clock.total[1]) * PROPOSALS / made


CASES: dict[str, Callable[[int], Seconds]] = {
    "aging_evolution": partial(ours, {"name": "aging_evolution", "population": 100}, "min a", "architecture"),
    "aging_evolution, functional keys": partial(
        ours, {"name": "aging_evolution", "population": 100}, "min a", "functional"
    ),
    "nsga2": partial(ours, {"name": "nsga2", "population": 100}, "min a, min b", "architecture"),
    "nsga2, functional keys": partial(
        ours, {"name": "nsga2", "population": 100}, "min a, min b", "functional"
    ),
    "nsga3": partial(ours, {"name": "nsga3", "population": 100}, "min a, min b", "architecture"),
    "plus_evolution": partial(ours, {"name": "plus_evolution"}, "min a", "architecture"),
    "pymoo NSGA-II, elementwise": partial(pymoos, SameCell),
    "pymoo NSGA-II, hashes": partial(pymoos, SameHash),
}


def main() -> None:
    """Time all in turns, print proposals a second, and keep them."""
    taken: dict[str, list[Seconds]] = {name: [] for name in CASES}
    for seed in SEEDS:
        for name, case in CASES.items():
            taken[name].append(case(seed))
    rows = [
        {
            "case": name,
            "proposals_per_cpu_second": PROPOSALS / median(cpu for cpu, _ in seconds),
            "proposals_per_wall_second": PROPOSALS / median(wall for _, wall in seconds),
        }
        for name, seconds in taken.items()
    ]
    print(f"{'case':<36}{'per CPU second':>16}{'per wall second':>17}")
    for row in rows:
        print(
            f"{row['case']:<36}{row['proposals_per_cpu_second']:16,.0f}{row['proposals_per_wall_second']:17,.0f}"
        )
    print(record("evolution_speed", {"proposals": PROPOSALS, "batch": BATCH, "rows": rows}, SEEDS))


if __name__ == "__main__":
    main()
