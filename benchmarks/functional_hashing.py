"""Which architectures and programs are one function, and what is saved by knowing it?

Claims: the 15,625 cells of NAS-Bench-201 have exactly 12,751 keys by skip-collapse, 6,466 structural with
zero markers, 4,930 symbolic and 4,540 numeric ones for 1 to 32 mantissa bits; 52 bits split them to about
5,270. All symbolic keys take at most 0.5 s of one core, all numeric ones at most 60 s. Disguised variants of
1,000 random programs keep their keys, and at least 99.9 % of the pairs of different ones differ. Evolution
with the cache sees at least twice the programs for the same number of evaluations.

    python benchmarks/functional_hashing.py
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations
from statistics import median

import numpy as np
from record import record

from nas import Budget, Memoized, Study, keys, parse_objectives
from nas.keys.symbolic import Symbolic
from nas.program import FUNCTIONS, Program, Statement, constants_of
from nas.registry import create
from nas.rng import stream

SEEDS = range(10)
CELL_KEYS = ("architecture", "skip_collapse", "structural", "symbolic")
BITS = (1, 4, 8, 16, 24, 32, 40, 48, 52)
PROGRAMS = 1_000
EVALUATIONS = 500
INTERFACES = {"regression": "program_regression", "optimizer": "program_optimizer"}


def main() -> None:
    """All parts, each of which prints its rows; more parts are further functions in this table."""
    parts = {"cells": cells, "programs": programs, "acceptance": acceptance, "evolution": evolution}
    figures = {}
    for name, part in parts.items():
        figures[name] = part()
        print(f"\n{name}")
        for row in figures[name]:
            print("  " + "  ".join(f"{k} {shown(v)}" for k, v in row.items()))
    print(record("functional_hashing", figures, SEEDS))


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


if __name__ == "__main__":
    main()
