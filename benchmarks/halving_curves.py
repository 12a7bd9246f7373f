"""How much of the cost of full trainings does halving need to find as good a configuration?

Claim: on the learning curves of TaskSet (6 text tasks × 1,000 Adam configurations × 50 checkpoints; Metz et
al. 2020), `halving` over random search reaches the validation loss that random search finds in 64 full
trainings at no more than 40 % of their cost (median over tasks and 20 seeds). Only configurations that were
trained in full count, for both. A training that becomes NaN costs what it took until then. Hyperband is shown
beside it. The data are found by NAS_DATA or in ../shared/data.

    python benchmarks/halving_curves.py
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from record import record

from nas import Budget, Categorical, Evaluator, Failure, Measurement, Study, parse_objectives
from nas.registry import create
from nas.testing.problems import ToySpace

SEEDS = range(20)
FULL_TRAININGS = 64
CHECKPOINTS = 50
OBJECTIVES = parse_objectives("min valid_loss")
FILE = Path(os.environ.get("NAS_DATA") or "../shared/data", "hpo_tabular", "taskset_adam8p_6tasks.npz")


class Curves(Evaluator):
    """Learning curves as trainings that can be continued; seconds are checkpoints trained.

    Args:
        valid: losses of shape (configurations, checkpoints + 1).
    """

    metrics = multi_fidelity = frozenset({"valid_loss"})

    def __init__(self, valid):
        self.valid = valid
        broken = ~np.isfinite(valid)
        self.last = np.where(broken.any(1), broken.argmax(1), CHECKPOINTS + 1)
        self.trained = {}

    def evaluate(self, proposals, *, seed):  # noqa: ARG002 - the curves were measured once
        """One outcome each; a checkpoint of every configuration is kept."""
        return [self._one(p) for p in proposals]

    def _one(self, proposal):
        i, end = proposal.candidate["configuration"], max(1, round(proposal.fidelity * CHECKPOINTS))
        start = self.trained[proposal.candidate] if proposal.continues is not None else 0
        reached = self.trained[proposal.candidate] = min(end, int(self.last[i]))
        if reached < end:
            return Failure("diverged", "the loss became NaN", float(reached - start))
        return Measurement({"valid_loss": float(self.valid[i, end])}, float(end - start))


def search(strategy, valid, test, seed, **budget):
    """Cost so far, best valid loss so far and its test loss, shape (full trainings, 3)."""
    space = ToySpace([Categorical("configuration", tuple(range(len(valid))))])
    proposer = create("strategy", strategy, {"space": space, "objectives": OBJECTIVES})
    study = Study(space, OBJECTIVES, Curves(valid), proposer, seed=seed)
    study.run(Budget(**budget))
    rows, spent, best = [], 0.0, (np.inf, np.inf)
    for trial in study.history.trials:
        spent += trial.outcome.seconds
        if trial.proposal.fidelity == 1.0:
            i = trial.proposal.candidate["configuration"]
            # The test loss is looked up here, so that no strategy can see it.
            best = min(best, (trial.values.get("valid_loss", np.inf), float(test[i, -1])))
            rows.append((spent, *best))
    return np.array(rows)


def cost_to_reach(curve, target):
    """Cost at which the best valid loss is first at most the target; inf when it never is."""
    reached = np.flatnonzero(curve[:, 1] <= target)
    return float(curve[reached[0], 0]) if len(reached) else np.inf


def compare(task, valid, test):
    """Shares of the full cost and losses of each strategy, over seeds."""
    full = [search("random", valid, test, seed, trials=FULL_TRAININGS) for seed in SEEDS]
    typical = float(np.median([curve[-1, 1] for curve in full]))
    row = {"task": task, "random_valid_loss": typical, "random_test_loss": _median(c[-1, 2] for c in full)}
    for strategy in ("halving", "hyperband"):
        paired, to_typical, at_40 = [], [], []
        for seed, reference in zip(SEEDS, full, strict=True):
            cost, target = reference[-1, 0], reference[-1, 1]
            curve = search(strategy, valid, test, seed + 1000, seconds=float(cost))
            paired.append(cost_to_reach(curve, target) / cost)
            to_typical.append(cost_to_reach(curve, typical) / cost)
            at_40.append(curve[curve[:, 0] <= 0.4 * cost][-1])
        row[strategy] = {
            "share_of_cost": paired,
            "share_of_cost_to_typical": to_typical,
            "valid_loss_at_40_percent": _median(c[1] for c in at_40),
            "test_loss_at_40_percent": _median(c[2] for c in at_40),
        }
    return row


def _median(values):
    return float(np.median(list(values)))


def main() -> None:
    """Run all searches, print the table, and keep it."""
    with np.load(FILE, allow_pickle=False) as data:
        rows = [
            compare(task, data[f"{task}__valid_loss"], data[f"{task}__test_loss"])
            for task in data["task_names"].tolist()
        ]
    figures = {"full_trainings": FULL_TRAININGS, "tasks": [r["task"] for r in rows]}
    for strategy in ("halving", "hyperband"):
        print(f"{strategy}: share of the cost of {FULL_TRAININGS} full trainings, over {len(SEEDS)} seeds")
        print(f"  {'task':<36}{'median':>8}{'reached':>9}{'test at 40 %':>14}{'random test':>13}")
        for r in rows:
            s = r[strategy]
            shares = np.array(s["share_of_cost"])
            print(
                f"  {r['task']:<36}{np.median(shares):8.3f}{np.isfinite(shares).mean():9.2f}"
                f"{s['test_loss_at_40_percent']:14.4f}{r['random_test_loss']:13.4f}"
            )
        for name in ("share_of_cost", "share_of_cost_to_typical"):
            shares = np.concatenate([r[strategy][name] for r in rows])
            figures[f"{strategy}_median_{name}"] = float(np.median(shares))
            figures[f"{strategy}_within_40_percent_{name}"] = float((shares <= 0.4).mean())
            print(f"  {name}: median {np.median(shares):.3f}, at most 0.4 in {(shares <= 0.4).mean():.0%}")
    # JSON has no infinity: null is "not reached within the full cost".
    for row in rows:
        for s in (row["halving"], row["hyperband"]):
            for name in ("share_of_cost", "share_of_cost_to_typical"):
                s[name] = [v if np.isfinite(v) else None for v in s[name]]
    print(record("halving_curves", {**figures, "rows": rows}, SEEDS))


if __name__ == "__main__":
    main()
