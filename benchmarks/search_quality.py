"""Does evolution find better fronts than random search with the same number of trials?

Claim: on problems whose optima lie elsewhere for every seed, NSGA-II dominates more hypervolume than random
search, and aging evolution finds a lower loss: the 95 % t interval of the mean gain, paired over 20 seeds,
lies above 0 in every space. All other strategies that learn are shown beside them.

    python benchmarks/search_quality.py
"""

from __future__ import annotations

from functools import partial

import numpy as np
from record import record
from scipy.stats import t

from nas import parse_objectives
from nas.registry import create
from nas.testing.problems import conditional_space, mixed_space, plain_space
from nas.testing.strategy_checks import quality

SEEDS = range(20)
TRIALS = 300
SPACES = {
    "categorical": partial(plain_space, 10, 5),
    "conditional": conditional_space,
    "mixed": mixed_space,
}
BESIDE = ("plus_evolution", "local_search", "mcts", "smbo")
QUESTIONS = {"min loss": ("aging_evolution", *BESIDE), "min near, min cost": ("nsga2", "nsga3", *BESIDE)}


def main() -> None:
    """Run all searches, print the table, and keep it."""
    rows = [row for goal in QUESTIONS for space in SPACES for row in compare(space, goal)]
    print(f"{'space':<13}{'goal':<20}{'strategy':<17}{'quality':>9}{'random':>9}{'gain':>9}  95 % interval")
    for row in rows:
        low, high = row["gain_interval_95"]
        print(
            f"{row['space']:<13}{row['goal']:<20}{row['strategy']:<17}{row['quality']:9.4f}"
            f"{row['random']:9.4f}{row['gain']:9.4f}  [{low:.4f}, {high:.4f}]"
        )
    print(record("search_quality", {"trials": TRIALS, "unit": "share of the box", "rows": rows}, SEEDS))


def compare(space: str, goal: str) -> list[dict[str, object]]:
    """Each strategy's gain over random search, paired by seed."""
    random = qualities("random", space, goal)
    return [row(space, goal, name, qualities(name, space, goal), random) for name in QUESTIONS[goal]]


def row(space: str, goal: str, strategy: str, own: np.ndarray, random: np.ndarray) -> dict[str, object]:
    gains = own - random
    half = t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return {
        "space": space,
        "goal": goal,
        "strategy": strategy,
        "quality": float(own.mean()),
        "random": float(random.mean()),
        "gain": float(gains.mean()),
        "gain_interval_95": [float(gains.mean() - half), float(gains.mean() + half)],
        "wins": int((gains > 0).sum()),
    }


def qualities(strategy: str, space: str, goal: str) -> np.ndarray:
    """Shape (seeds,): the quality of each search's front."""

    def make(s, o):
        return create("strategy", strategy, {"space": s, "objectives": o})

    objectives = parse_objectives(goal)
    return np.array([quality(make, SPACES[space](), objectives, seed, TRIALS) for seed in SEEDS])


if __name__ == "__main__":
    main()
