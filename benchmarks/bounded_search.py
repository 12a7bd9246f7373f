"""Does every model that is reported keep the bound on its latency?

    python benchmarks/bounded_search.py

``host``: an evolution of 60 perceptrons for as many parameters and as little measured latency as can be,
under a bound on the latency that three of ten random ones keep, on the host's CPU with one thread; five
seeds. Each member of the confirmed front is measured five times again: ``kept`` is the share whose median
keeps the bound.

``table``: NAS-Bench-201 under a bound on the Silver 4210R's latency that one cell in 1,000 keeps: the share
of all proposals, and of the front, that keep it. ``asked_for_a_draw`` says how many latencies a draw asks
for; 1,000 would be needed by drawing until one keeps it. ``even`` compares 10,000 draws with the feasible
cells, one in 100: the share of them that were drawn, and the total variation distance from even draws beside
what even draws of that number have by luck.

About 1 minute on one core.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
from imported import table
from record import record

from nas import Proposal, Target, parse_objectives
from nas.budget import Budget
from nas.estimators.cost import CostEvaluator
from nas.estimators.latency_measured import LatencyMeasured
from nas.estimators.tabular import TabularEvaluator
from nas.evaluator import Known
from nas.feasible import Within
from nas.parts import Parts, Search
from nas.registry import create
from nas.rng import stream

SEEDS = range(5)
TRIALS = 60
REPEATS = 5
DEVICE = "cifar10_silver_4210r_latency_ms"
SHARE = 1e-3
DRAWS = 10_000


def host(seed: int) -> dict[str, float]:
    """One search on this machine."""
    task = create("task", {"name": "digits"})
    space = create("space", {"name": "mlp", "layers": 4, "widths": [64, 256, 1024, 2048]}, {"task": task})
    clock, target = LatencyMeasured(space, task, Target(batch_size=64)), Target(batch_size=64)
    rng = stream(seed, "bound")
    drawn = [clock_ms(clock, space.sample(rng), seed) for _ in range(20)]
    bound = float(np.quantile(drawn, 0.3))
    search = Search(
        space,
        f"max params, min latency_ms <= {bound}",
        task=task,
        target=target,
        evaluators=[CostEvaluator(space, task), clock],
        strategy={"name": "nsga2", "population": 12},
        seed=seed,
    )
    study = Parts(search).study()
    study.run(Budget(trials=TRIALS))
    front = study.confirm()
    again = [
        float(np.median([clock_ms(clock, member.architecture, seed) for _ in range(REPEATS)]))
        for member in front
    ]
    kept = [ms <= bound for ms in again]
    return {
        "bound_ms": bound,
        "members": len(front),
        "kept": float(np.mean(kept)) if kept else float("nan"),
        "largest_share_of_bound": max(again, default=float("nan")) / bound,
    }


def clock_ms(clock: LatencyMeasured, architecture: Any, seed: int) -> float:
    (outcome,) = clock.evaluate([Proposal(architecture, ("latency_ms",))], seed=seed)
    return float(outcome.values["latency_ms"])


def tabular(seed: int, strategy: str) -> dict[str, float]:
    """One search of NAS-Bench-201 under a bound that hardly any cell keeps."""
    answers = table("nasbench201")
    latency = answers.values(DEVICE)
    bound = float(np.quantile(latency, SHARE))
    space = create("space", "nasbench201")
    metric = "cifar10_hp12_valid_accuracy"
    search = Search(
        space,
        f"max {metric}, min {DEVICE} <= {bound}",
        task="digits",
        evaluators=[TabularEvaluator(space, answers)],
        strategy=strategy,
        memo="off",
        seed=seed,
    )
    study = Parts(search).study()
    study.run(Budget(trials=100))
    front = study.confirm()
    rows = answers.rows([t.proposal.candidate for t in study.history.trials])
    final = answers.rows([m.architecture for m in front])
    return {
        "proposals_within": float((latency[rows] <= bound).mean()),
        "members": len(front),
        "kept": float((latency[final] <= bound).mean()),
    }


def even() -> dict[str, float]:
    """How draws by walking spread over what is feasible."""
    answers = table("nasbench201")
    latency = answers.values(DEVICE)
    bound = float(np.quantile(latency, 10 * SHARE))
    space = create("space", "nasbench201")
    known = Known(TabularEvaluator(space, answers), 0)
    objectives = parse_objectives(f"max accuracy, limit {DEVICE} <= {bound}")
    rng = stream(0, "even")
    within = Within(space, objectives, known)
    drawn = Counter(within.redrawn(rng).key for _ in range(DRAWS))
    feasible = int((latency <= bound).sum())
    lucky = np.bincount(rng.integers(feasible, size=DRAWS), minlength=feasible) / DRAWS
    shares = np.array([*drawn.values(), *[0] * (feasible - len(drawn))]) / DRAWS
    return {
        "feasible": feasible,
        "drawn_at_all": len(drawn) / feasible,
        "distance": float(np.abs(shares - 1 / feasible).sum() / 2),
        "distance_by_luck": float(np.abs(lucky - 1 / feasible).sum() / 2),
    }


def asked_for_a_draw() -> float:
    """Latencies that one draw asks for, from nothing known, under the tight bound."""
    answers = table("nasbench201")
    bound = float(np.quantile(answers.values(DEVICE), SHARE))
    space = create("space", "nasbench201")
    known = Known(TabularEvaluator(space, answers), 0)
    objectives = parse_objectives(f"max accuracy, limit {DEVICE} <= {bound}")
    counts = []
    for seed in range(20):
        within = Within(space, objectives, known)
        within.sample(stream(seed, "draw"))
        counts.append(within.looked_at)
    return float(np.mean(counts))


def main() -> None:
    on_host = [host(seed) for seed in SEEDS]
    print(on_host, flush=True)
    of_table: dict[str, list[dict[str, float]]] = {}
    for name in ("random", "nsga2", "nsga3"):
        of_table[name] = [tabular(seed, name) for seed in SEEDS]
        print(name, of_table[name], flush=True)
    figures = {
        "host": on_host,
        "host_kept": min(row["kept"] for row in on_host),
        "table": of_table,
        "table_kept": min(row["kept"] for rows in of_table.values() for row in rows),
        "asked_for_a_draw": asked_for_a_draw(),
        "even": even(),
        "load_average": os.getloadavg(),
    }
    print(figures)
    record("bounded_search", figures, seeds=SEEDS)


if __name__ == "__main__":
    main()
