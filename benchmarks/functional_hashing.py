"""Which architectures and programs are one function, and what is saved by knowing it?

Claims: the 15,625 cells of NAS-Bench-201 have exactly 12,751 keys by skip-collapse, 6,466 structural with
zero markers, 4,930 symbolic and 4,540 numeric ones for 1 to 32 mantissa bits; 52 bits split them to about
5,270. All symbolic keys take at most 0.5 s of one core, all numeric ones at most 60 s. Disguised variants of
1,000 random programs keep their keys, and at least 99.9 % of the pairs of different ones differ. Evolution
with the cache sees at least twice the programs for the same number of evaluations.

In 33,000 simulated seconds on NAS-Bench-201 (12-epoch costs; aging evolution, population 100, tournament
10; 30 seeds, a fresh cache each) the functional cache sees at least 1.5 times the candidates that are seen
without a cache and 1.25 times those of an exact one, and the best so far is at no quarter of the budget
worse. A reused answer costs nothing; beside it stands the count where every functional key costs 10 s, as
in the authors' code. Noise on the reward, repeats, and mantissa bits of coarser keys are shown beside the
quality of what is found. This part needs the data folder.

    python benchmarks/functional_hashing.py
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import accumulate, combinations, product
from multiprocessing import get_context
from statistics import median

import numpy as np
from imported import table
from record import record
from scipy.stats import t

from nas import Budget, Memoized, Study, keys, parse_objectives
from nas.estimators.tabular import TabularEvaluator
from nas.keys.symbolic import Symbolic
from nas.program import FUNCTIONS, Program, Statement, constants_of
from nas.registry import create
from nas.rng import stream

SEEDS = range(10)
CELL_KEYS = ("architecture", "skip_collapse", "structural", "symbolic")
BITS = (1, 4, 8, 16, 24, 32, 40, 48, 52)
PROGRAMS = 1_000
EVALUATIONS = 500
TABLE_SEEDS = range(30)
TABLE_KEYS = ("none", "architecture", "structural", "symbolic", "numeric")
SECONDS = (12_000, 33_000, 66_000, 100_000, 200_000)
BUDGET = 33_000
HASH_SECONDS = 10.0
REWARD = "cifar10_hp12_valid_accuracy"
TEST = "cifar10_test_accuracy"
BARS = {"none": 1.5, "architecture": 1.25}
INTERFACES = {"regression": "program_regression", "optimizer": "program_optimizer"}


def main() -> None:
    """All parts, each of which prints its rows; more parts are further functions in this table."""
    parts = {
        "cells": cells,
        "programs": programs,
        "acceptance": acceptance,
        "evolution": evolution,
        "tabular": tabular,
        "quarters": quarters,
        "coarse": coarse,
        "noise": noise,
    }
    figures = {}
    for name, part in parts.items():
        figures[name] = part()
        print(f"\n{name}")
        for row in figures[name]:
            print("  " + "  ".join(f"{k} {shown(v)}" for k, v in row.items()))
    print(record("functional_hashing", {**figures, "bars": BARS}, TABLE_SEEDS))


def shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- cells ------------------------------------------------------------------------------------------------


def cells() -> list[dict[str, object]]:
    """Distinct keys of every cell of NAS-Bench-201, and the seconds that all of them take."""
    space = create("space", "nasbench201")
    every = list(space.enumerate())
    settings = [(name, {}) for name in CELL_KEYS] + [("numeric", {"mantissa_bits": b}) for b in BITS]
    rows = []
    for name, setting in settings:
        key = keys.create(name, space, None, **setting)
        start = time.process_time()
        distinct = len({key(a) for a in every})
        rows.append({"key": name, **setting, "distinct": distinct, "seconds": time.process_time() - start})
    return rows


# --- programs ---------------------------------------------------------------------------------------------


def programs() -> list[dict[str, object]]:
    """How many disguised programs keep their key, and how many pairs of different ones differ."""
    rows = []
    for interface in INTERFACES:
        space = create("space", {"name": "program", "interface": interface, "length": 12})
        rng = stream(0, "benchmark", interface)
        found = [space.program(space.sample(rng)) for _ in range(PROGRAMS)]
        for name, key in program_keys(space).items():
            rows.append(
                {"interface": interface, "key": name, **invariance(key, found), **difference(key, found)}
            )
    return rows


def program_keys(space):
    """Of programs themselves, so that variants need no place in the space."""
    symbolic = Symbolic(space.operators)
    run = keys.numeric.GraphRun(space.operators)
    return {
        "symbolic": lambda p: symbolic(p.graph()),
        "numeric": lambda p: keys.numeric.key_of(lambda repeat: run(p.graph(), repeat)),
    }


def invariance(key, found) -> dict[str, object]:
    """Share of variants with the program's own key, and how many variants were not the program itself."""
    rng = stream(0, "benchmark", "variants")
    out: dict[str, object] = {}
    for name, variant in {"dead_code": dead_code, "renamed": renamed, "reordered": reordered}.items():
        pairs = [(p, variant(p, rng)) for p in found]
        out[f"{name}_equal"] = float(np.mean([key(a) == key(b) for a, b in pairs]))
        out[f"{name}_changed"] = sum(a != b for a, b in pairs)
    return out


def dead_code(program: Program, rng: np.random.Generator) -> Program:
    """With a statement in a random place whose variable is overwritten or not read after it."""
    place = int(rng.integers(len(program.statements) + 1))
    dead = [v for v in program.signature.variables if not live_after(program, place, v)]
    if not dead:
        return program
    junk = Statement("exp", str(rng.choice(dead)), ("0.5",))
    return replace(program, statements=(*program.statements[:place], junk, *program.statements[place:]))


def live_after(program: Program, place: int, variable: str) -> bool:
    """Whether a statement from ``place`` on reads a variable, or the end does, before it is assigned."""
    for s in program.statements[place:]:
        if variable in s.operands:
            return True
        if s.to == variable:
            return False
    return variable in program.signature.outputs


def renamed(program: Program, rng: np.random.Generator) -> Program:
    """Temporaries under permuted names."""
    names = program.signature.temporaries
    other = dict(zip(names, rng.permutation(names).tolist(), strict=True))

    def of(name):
        return other.get(name, name)

    statements = (Statement(s.function, of(s.to), tuple(map(of, s.operands))) for s in program.statements)
    return replace(program, statements=tuple(statements))


def reordered(program: Program, rng: np.random.Generator) -> Program:
    """Operands of commutative functions swapped, and independent neighbours exchanged."""
    statements = [
        replace(s, operands=s.operands[::-1]) if FUNCTIONS[s.function].commutative else s
        for s in program.statements
    ]
    for i in rng.permutation(max(0, len(statements) - 1)):
        a, b = statements[i : i + 2]
        if a.to not in (*b.operands, b.to) and b.to not in a.operands:
            statements[i : i + 2] = b, a
    return replace(program, statements=tuple(statements))


def difference(key, found) -> dict[str, object]:
    """Of all pairs that differ on fresh inputs, the share with different keys; and the keys in all."""
    groups: dict[str, list[np.ndarray]] = {}
    for p in found:
        groups.setdefault(key(p), []).append(outputs(p))
    together = sum(
        not np.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True)
        for members in groups.values()
        for a, b in combinations(members, 2)
    )
    rounded = [np.round(o, 6) + 0.0 for members in groups.values() for o in members]
    sizes = np.unique(rounded, axis=0, return_counts=True)[1]
    different = PROGRAMS * (PROGRAMS - 1) // 2 - int((sizes * (sizes - 1) // 2).sum())
    return {"keys": len(groups), "functions": len(sizes), "told_apart": 1.0 - together / different}


def outputs(program: Program) -> np.ndarray:
    """What a program gives for inputs that no key has seen."""
    rng, signature = stream(1, "benchmark", "fresh"), program.signature
    inputs = {name: rng.standard_normal((24, *shape)) for name, shape in signature.inputs.items()}
    with np.errstate(all="ignore"):
        found = program.run(np, inputs, constants_of(signature))
    return np.concatenate(
        [np.broadcast_to(found[name], (24, *shape)).ravel() for name, shape in signature.outputs.items()]
    )


def acceptance() -> list[dict[str, object]]:
    """Share of random programs, and of mutants before any is refused, that execute on shapes."""
    rows = []
    for interface in INTERFACES:
        space = create("space", {"name": "program", "interface": interface, "length": 12})
        rng = stream(0, "benchmark", "acceptance", interface)
        random = [space.feasible(space.complete({}, rng)) for _ in range(5_000)]
        mutants = []
        for _ in range(200):
            parent = space.sample(rng)
            for name in parent:
                value = space.by_name[name].mutate(parent[name], rng)
                mutants.append(space.feasible(space.complete({**parent, name: value}, rng)))
        rows.append(
            {"interface": interface, "random": float(np.mean(random)), "mutants": float(np.mean(mutants))}
        )
    return rows


# --- evolution --------------------------------------------------------------------------------------------


def evolution() -> list[dict[str, object]]:
    """Programs seen and best loss, at equal numbers of evaluations; medians over the seeds."""
    rows = []
    for interface in INTERFACES:
        space = create("space", {"name": "program", "interface": interface, "length": 12})
        for name in ("none", "architecture", "symbolic", "numeric"):
            runs = [search(space, interface, name, seed) for seed in SEEDS]
            rows.append(
                {
                    "interface": interface,
                    "key": name,
                    "evaluations": EVALUATIONS,
                    "candidates": float(median(r["candidates"] for r in runs)),
                    "fewest_candidates": min(r["candidates"] for r in runs),
                    "hit_rate": float(median(r["hit_rate"] for r in runs)),
                    "best_loss": float(median(r["best"] for r in runs)),
                    "wall_seconds": float(median(r["seconds"] for r in runs)),
                }
            )
    return rows


def search(space, interface, name, seed):
    objectives = parse_objectives("min loss")
    evaluator = create("evaluator", INTERFACES[interface], {"space": space})
    if name != "none":
        evaluator = Memoized(evaluator, space, keys.create(name, space))
    strategy = create(
        "strategy", {"name": "aging_evolution", "population": 50}, {"space": space, "objectives": objectives}
    )
    study = Study(space, objectives, evaluator, strategy, seed=seed)
    start = time.perf_counter()
    study.run(Budget(evaluations=EVALUATIONS))
    trials = study.history.trials
    return {
        "candidates": len(trials),
        "hit_rate": sum(t.reused for t in trials) / len(trials),
        "best": min(t.values["loss"] for t in trials if not t.failed),
        "seconds": time.perf_counter() - start,
    }


# --- a table of real trainings ----------------------------------------------------------------------------


def tabular() -> list[dict[str, object]]:
    """Candidates seen within each budget and the share of them that was known; medians over the seeds.

    Ratios are medians of those paired by seed, with the 95 % interval of their mean. ``exhausted`` is the
    share of runs in which 1,000 answers in a row were known before the budget was spent.
    """
    rows = []
    for seconds, name in product(SECONDS, TABLE_KEYS):
        seen = np.array([run.seen(seconds) for run in runs(name)])
        row = {
            "simulated_seconds": seconds,
            "key": name,
            "candidates": float(np.median(seen)),
            "candidates_if_a_key_takes_10_s": float(
                np.median([run.seen(seconds, run.hash_seconds) for run in runs(name)])
            ),
            "hit_rate": float(np.median([run.hit_rate(seconds) for run in runs(name)])),
            "best": float(np.mean([run.best(seconds) for run in runs(name)])),
            "test_accuracy": float(np.mean([run.test(seconds) for run in runs(name)])),
            "exhausted": float(np.mean([run.total < seconds for run in runs(name)])),
        }
        for other in BARS:
            ratio = seen / np.array([run.seen(seconds) for run in runs(other)])
            row |= {f"times_{other}": float(np.median(ratio)), f"times_{other}_95": interval(ratio)}
        rows.append(row)
    return rows


def quarters() -> list[dict[str, object]]:
    """Best validation accuracy so far at each quarter of 33,000 s, less that without functional keys."""
    rows = []
    for key, other, quarter in product(TABLE_KEYS[2:], BARS, (0.25, 0.5, 0.75, 1.0)):
        at = BUDGET * quarter
        pairs = zip(runs(key), runs(other), strict=True)
        gains = np.array([own.best(at) - others.best(at) for own, others in pairs])
        rows.append(
            {
                "key": key,
                "against": other,
                "simulated_seconds": at,
                "gain": float(gains.mean()),
                "gain_95": interval(gains),
                "worse_seeds": int((gains < 0).sum()),
            }
        )
    return rows


def interval(values: np.ndarray) -> list[float]:
    """95 % t interval of the mean."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean() - half), float(values.mean() + half)]


@cache
def runs(name: str) -> list[Run]:
    """The searches with a key under every seed, made once."""
    warm(table_key(name))
    return pooled(partial(Run, name))


class Run:
    """One search of the table, up to the largest budget: what was seen when.

    What a strategy proposes does not depend on the clock, so smaller budgets are read off the same run.
    """

    def __init__(self, name: str, seed: int) -> None:
        study = search_table(table_key(name), seed, max(SECONDS))
        trials = study.history.trials
        self.hash_seconds = 0.0 if name in BARS else HASH_SECONDS
        self.ends = np.cumsum([trial.outcome.seconds for trial in trials])
        self.total = float(self.ends[-1])
        self.reused = np.cumsum([trial.reused for trial in trials])
        values = [trial.values["accuracy"] for trial in trials]
        leaders = list(accumulate(range(len(values)), lambda a, b: b if values[b] > values[a] else a))
        self.bests = np.array(values)[leaders]
        rows = table("nasbench201").rows([trial.proposal.candidate for trial in trials])
        self.tests = table("nasbench201").values(TEST)[rows][leaders]

    def seen(self, seconds: float, hash_seconds: float = 0.0) -> int:
        """Candidates that were answered within the budget."""
        ends = self.ends + hash_seconds * np.arange(1, len(self.ends) + 1)
        return int(np.searchsorted(ends, seconds, side="right"))

    def hit_rate(self, seconds: float) -> float:
        """Share of them that was known."""
        n = self.seen(seconds)
        return float(self.reused[n - 1] / n)

    def best(self, seconds: float) -> float:
        """Best validation accuracy among them, as told."""
        return float(self.bests[self.seen(seconds) - 1])

    def test(self, seconds: float) -> float:
        """Mean test accuracy after 200 epochs of the best so far."""
        return float(self.tests[self.seen(seconds) - 1])


def search_table(key, seed: int, seconds: float, deviation: float = 0.0, repeats: int = 1) -> Study:
    """Aging evolution on NAS-Bench-201 with the reward after 12 epochs, and a fresh cache."""
    space, objectives = create("space", "nasbench201"), parse_objectives("max accuracy")
    evaluator = TabularEvaluator(space, table("nasbench201"), metrics={"accuracy": REWARD}, noise=deviation)
    if key is not None:
        evaluator = Memoized(evaluator, space, key, repeats=repeats)
    strategy = create(
        "strategy",
        {"name": "aging_evolution", "population": 100, "tournament": 10},
        {"space": space, "objectives": objectives},
    )
    study = Study(space, objectives, evaluator, strategy, seed=seed)
    study.run(Budget(seconds=seconds))
    return study


def pooled(function) -> list:
    """Results of all seeds, in two processes that know the keys that this one has computed."""
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        return list(pool.map(function, TABLE_SEEDS))


def warm(key) -> None:
    """Compute a key of every cell."""
    if key is not None:
        for a in create("space", "nasbench201").enumerate():
            key(a)


@cache
def table_key(name: str, bits: int | None = None):
    """A key of cells that computes each but once in a process; ``coarse`` hashes a single number."""
    if name == "none":
        return None
    space = create("space", "nasbench201")
    if name == "coarse":
        run = keys.numeric.GraphRun(keys.operators_of(space))
        return cache(
            lambda a: keys.numeric.key_of(
                lambda repeat: [run(space.graph(a), repeat)[0].sum(keepdims=True)], mantissa_bits=bits
            )
        )
    return cache(keys.create(name, space, None, **({} if bits is None else {"mantissa_bits": bits})))


# --- collisions and noise ---------------------------------------------------------------------------------

COARSE = (("coarse", 1), ("coarse", 3), ("coarse", 5), ("coarse", 7), ("coarse", 24), ("coarse", 52))
FINE = (("numeric", 1), ("numeric", 24), ("numeric", 52), ("symbolic", None), ("structural", None))


def coarse() -> list[dict[str, object]]:
    """What collisions cost: keys of one number with few bits, beside those of all numbers.

    ``spread`` is the standard deviation of the reward among the cells of one key, all of them pooled: that
    of equal functions is the noise of training, 12 epochs of one seed.
    """
    rows = []
    for name, bits in (*COARSE, *FINE):
        row = {"key": name, "mantissa_bits": bits, **classes(table_key(name, bits))}
        rows.append({**row, **found(name, bits)})
    return rows


def classes(key) -> dict[str, object]:
    """How a key divides all cells."""
    space = create("space", "nasbench201")
    every = list(space.enumerate())
    labels = np.unique([key(a) for a in every], return_inverse=True)[1]
    reward = table("nasbench201").values(REWARD)[table("nasbench201").rows(every)]
    counts = np.bincount(labels)
    means = np.bincount(labels, reward) / counts
    free = len(every) - len(counts)
    exact = Counter(zip(labels.tolist(), [table_key("numeric")(a) for a in every], strict=True))
    most = Counter()
    for (label, _), n in exact.items():
        most[label] = max(most[label], n)
    return {
        "distinct": len(counts),
        "cells_in_collision": len(every) - sum(most.values()),
        "spread": float(np.sqrt(((reward - means[labels]) ** 2).sum() / free)),
    }


def noise() -> list[dict[str, object]]:
    """Gaussian noise on the reward, by repeats of a key and by mantissa bits."""
    settings = (("none", None), ("symbolic", None), ("numeric", 52), ("coarse", 7))
    rows = []
    for deviation, (name, bits), repeats in product((0.0, 0.005, 0.02), settings, (1, 2, 4)):
        if name != "none" or repeats == 1:
            row = {"noise": deviation, "key": name, "mantissa_bits": bits, "repeats": repeats}
            rows.append({**row, **found(name, bits, deviation, repeats)})
    return rows


def found(name: str, bits: int | None, deviation: float = 0.0, repeats: int = 1) -> dict[str, object]:
    """What 33,000 s find: true rewards of what looked best, means over the seeds."""
    warm(table_key(name, bits))
    candidates, rewards, tests = zip(*pooled(partial(true_best, name, bits, deviation, repeats)), strict=True)
    return {
        "candidates": float(np.median(candidates)),
        "reward": float(np.mean(rewards)),
        "reward_95": interval(np.array(rewards)),
        "test_accuracy": float(np.mean(tests)),
    }


def true_best(
    name: str, bits: int | None, deviation: float, repeats: int, seed: int
) -> tuple[int, float, float]:
    """Candidates, and the reward without noise and the test accuracy of the one that was told to be best."""
    trials = search_table(table_key(name, bits), seed, BUDGET, deviation, repeats).history.trials
    best = max(trials, key=lambda trial: trial.values["accuracy"])
    row = table("nasbench201").rows([best.proposal.candidate])
    return len(trials), *(float(table("nasbench201").values(m)[row][0]) for m in (REWARD, TEST))


if __name__ == "__main__":
    main()
