"""Do inherited weights rank cells as training each alone does, and does PA&DA lower the gradient's variance?

    python benchmarks/supernet_rank.py           # 125 cells; about 15 minutes on one core
    python benchmarks/supernet_rank.py --cuda    # NAS-Bench-201 and NAS-Bench-Macro on CIFAR-10, on one GPU

The supernet of the 125 cells of ``benchmarks/cell125.py`` is trained with that table's data by five samplers,
with three seeds each and the same number of path steps: a step of k paths counts k. Then each cell is scored
on validation data by its inherited weights, and the scores are compared with the test accuracies of
stand-alone trainings, which exist in three runs. ``kendall`` and ``spearman`` are means over those runs, so
that ``ceiling`` is the same number for one run of the stand-alone trainings against another; ``of_mean`` is
against the mean of the runs.

``gradient_norm_variance`` is that of the norms of mini-batch gradients, before clipping, within an epoch's
worth of steps, averaged over the training (``relative``: divided by the epoch's squared mean norm, since a
sampler that draws hard samples has longer gradients); ``over_all_steps`` is their variance over the whole
training. ``pada_below_uniform`` says for each seed whether PA&DA's is lower. ``pada_paths`` is PA&DA without
its choice of samples.

With ``--cuda`` the same is done with the four-node supernet (16 channels, 5 cells a stage) and with the chain
of NAS-Bench-Macro, on the CIFAR-10 of the data folder, against the published tables; 1,000 random
architectures are scored. Without a CUDA device that is skipped. The tables are those of ``nas data import``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from cell125 import NETWORK, RECIPE, SEED, TASK, cells
from imported import table as imported_table
from record import record

from nas.budget import Budget
from nas.estimators.cost import CostEvaluator
from nas.estimators.inherited import InheritedEvaluator
from nas.estimators.paths import PathsEvaluator
from nas.evaluator import Known, StepEvaluator
from nas.objective import Objective
from nas.proposal import Measurement, Proposal
from nas.report.agreement import rank_agreement
from nas.rng import derive, stream
from nas.spaces.nasbench201 import NasBench201Space
from nas.spaces.nasbench_macro import NasBenchMacroSpace
from nas.strategies.fair import Fair
from nas.strategies.pada import Pada
from nas.strategies.sandwich import Sandwich
from nas.strategies.shift import Shift
from nas.strategies.uniform import Uniform
from nas.study import Study
from nas.table import Table
from nas.tally import TallyHistory
from nas.tasks.cifar10 import Cifar10
from nas.tasks.fashion_mnist import FashionMnist

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nas.architecture import Architecture
    from nas.proposal import Outcome
    from nas.space import Space
    from nas.strategy import Strategy
    from nas.supernet import Supernet
    from nas.task import Task

SEEDS = range(3)
RUNS = range(3)
SCORED = 1000
"""Architectures of the large spaces that are scored."""


@dataclass
class Problem:
    """A supernet, its data, and what stand-alone training found.

    Args:
        name: for the figures.
        space, task: of the table.
        architectures: that are scored.
        alone: test accuracies of three runs of stand-alone training, shape (3, architectures).
        epochs: passes over the training data that each path sampler has for one path a step.
        calibration: images for batch norms.
        device: torch device.
    """

    name: str
    space: Space
    task: Task
    architectures: Sequence[Architecture]
    alone: NDArray[np.float64]
    epochs: int
    calibration: int
    device: str = "cpu"


def cell125(table: str, epochs: int) -> Problem:
    """The cells of ``cell125``."""
    task = FashionMnist(**TASK, batch_size=RECIPE["batch_size"])
    space = NasBench201Space(task, **NETWORK)
    chosen = cells(space)
    return Problem("cell125", space, task, chosen, runs(Table.open(table), chosen, ""), epochs, 512)


def on_cifar10(name: str, space: Callable[[Task], Space], epochs: int) -> Problem:
    """A published benchmark, on the images at hand, in the order of its splits here."""
    task = Cifar10(batch_size=256)
    made, rows = space(task), imported_table(name)
    rng = stream(SEED, "supernet_rank", name)
    chosen = list({made.sample(rng): None for _ in range(SCORED)})
    alone = runs(rows, chosen, "cifar10_")
    kept = np.flatnonzero(np.isfinite(alone).all(axis=0))
    return Problem(name, made, task, [chosen[i] for i in kept], alone[:, kept], epochs, 2048, "cuda:0")


def runs(table: Table, chosen: Sequence[Architecture], prefix: str) -> NDArray[np.float64]:
    """Test accuracies of the table's single runs, shape (3, architectures)."""
    rows = table.rows(chosen)
    return np.stack([table.values(f"{prefix}test_accuracy_run{i}")[rows] for i in RUNS]).astype(np.float64)


# --- training ---------------------------------------------------------------------------------------------


@dataclass
class Watched(StepEvaluator):
    """Takes the same steps, and notes the norm of each path's gradient.

    Args:
        inner: takes them.
        norms: in the order of steps.
    """

    inner: PathsEvaluator
    norms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.metrics = self.inner.metrics

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Ask for the norm as well."""
        asked = [p.asking([*dict.fromkeys((*p.metrics, "gradient_norm"))]) for p in proposals]
        outcomes = self.inner.evaluate(asked, seed=seed)
        self.norms += [o.values["gradient_norm"] for o in outcomes if isinstance(o, Measurement)]
        return outcomes

    def keep(self, path: Path) -> None:
        """As the other."""
        self.inner.keep(path)

    def take_up(self, path: Path) -> None:
        """As the other."""
        self.inner.take_up(path)

    def settle(self) -> None:
        """As the other."""
        self.inner.settle()

    def variance(self, epoch: int) -> dict[str, float]:
        """Of the norms: within epochs of so many steps, on average; and over all steps."""
        norms = np.array(self.norms)
        parts = np.array_split(norms, max(1, len(norms) // epoch))
        return {
            "within_epochs": mean(float(np.var(p)) for p in parts),
            "relative_within_epochs": mean(float(np.var(p) / np.mean(p) ** 2) for p in parts),
            "over_all_steps": float(np.var(norms)),
            "mean_norm": float(np.mean(norms)),
        }


SAMPLERS: dict[str, Any] = {
    "uniform": lambda p, _: Uniform(p.space, p.task, epochs=p.epochs),
    "fair": lambda p, _: Fair(p.space, p.task, epochs=max(1, p.epochs // len(p.space.leaves[0].values))),
    "sandwich": lambda p, known: Sandwich(p.space, p.task, epochs=max(1, p.epochs // 4), known=known),
    "pada": lambda p, _: Pada(p.space, p.task, epochs=p.epochs),
    "pada_paths": lambda p, _: Pada(p.space, p.task, epochs=p.epochs, data_smoothing=0.0),
    "shift": lambda p, known: Shift(p.space, p.task, epochs=p.epochs, known=known),
}
"""Samplers by name; those of several paths a step get as many fewer epochs."""
WATCHED = ("uniform", "pada", "pada_paths")
"""Samplers of one path a step whose gradients are compared."""


def trained(problem: Problem, sampler: str, seed: int) -> tuple[Supernet, dict[str, Any]]:
    """A supernet after its training, and what is noted of that."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "supernet"))
        supernet = problem.space.supernet()
    assert supernet is not None
    strategy: Strategy = SAMPLERS[sampler](problem, Known(CostEvaluator(problem.space, problem.task), seed))
    paths = PathsEvaluator(problem.task, supernet, device=problem.device)
    evaluator = Watched(paths) if sampler in WATCHED else paths
    history = TallyHistory(evaluator, None)
    Study(
        problem.space, [Objective("train_loss", "min")], evaluator, strategy, history=history, seed=seed
    ).run(Budget(trials=sys.maxsize))
    evaluator.settle()
    notes: dict[str, Any] = {"paths": sum(next(iter(history.tally.chosen.values())).values())}
    if isinstance(evaluator, Watched):
        epoch = problem.task.count("train") // problem.task.batch_size
        notes["gradient_norm_variance"] = evaluator.variance(epoch)
    return supernet, notes


def scored(problem: Problem, supernet: Supernet, seed: int) -> NDArray[np.float64]:
    """Validation accuracies with inherited weights, shape (architectures,)."""
    evaluator = InheritedEvaluator(
        problem.space, problem.task, supernet, calibration=problem.calibration, device=problem.device
    )
    asked = [Proposal(a, ("accuracy",)) for a in problem.architectures]
    return np.array([o.values["accuracy"] for o in evaluator.evaluate(asked, seed=seed)])  # type: ignore[union-attr]


# --- what is found ----------------------------------------------------------------------------------------


def agreement(scores: NDArray[np.float64], alone: NDArray[np.float64]) -> dict[str, float]:
    """Rank correlations with each of some runs, shape (runs, architectures), averaged."""
    found = [rank_agreement(scores, run, top=(10,), rng=stream(SEED, "agreement")) for run in alone]
    return {
        "kendall": mean(f.kendall for f in found),
        "spearman": mean(f.spearman for f in found),
        "of_the_best_10": mean(f.top[0].share for f in found),
    }


def row(problem: Problem, sampler: str, seed: int) -> dict[str, Any]:
    """One training and its ranks."""
    supernet, notes = trained(problem, sampler, seed)
    scores = scored(problem, supernet, seed)
    whole = rank_agreement(scores, problem.alone.mean(axis=0), top=(), rng=stream(SEED, "agreement"))
    of_mean = {"kendall": whole.kendall, "kendall_95": whole.kendall_95, "spearman": whole.spearman}
    return {
        **agreement(scores, problem.alone),
        "of_mean": of_mean,
        "best_score": float(scores.max()),
        **notes,
    }


def ceiling(alone: NDArray[np.float64]) -> dict[str, float]:
    """How well one run of stand-alone training agrees with the others."""
    each = [agreement(alone[i], np.delete(alone, i, axis=0)) for i in RUNS]
    return {name: mean(found[name] for found in each) for name in each[0]}


def studied(problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
    """All samplers with all seeds, beside the ceiling."""
    top = ceiling(problem.alone)
    print(f"{problem.name}: {len(problem.architectures)} architectures; one run against another: {top}")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SAMPLERS}
    for name in SAMPLERS:
        for seed in seeds:
            found[name].append(row(problem, name, seed))
            print(name, seed, found[name][-1], flush=True)
    return {
        "architectures": len(problem.architectures),
        "epochs_of_one_path": problem.epochs,
        "ceiling": top,
        "kendall": {name: mean(r["kendall"] for r in rows) for name, rows in found.items()},
        "spearman": {name: mean(r["spearman"] for r in rows) for name, rows in found.items()},
        "pada_below_uniform": {
            measure: below(found["pada"], found["uniform"], measure)
            for measure in ("within_epochs", "relative_within_epochs", "over_all_steps")
        },
        "by_seed": found,
    }


def below(rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], measure: str) -> list[bool]:
    """For each seed, whether the variance of one sampler is lower than that of the other."""
    pairs = zip(rows, others, strict=True)
    return [a["gradient_norm_variance"][measure] < b["gradient_norm_variance"][measure] for a, b in pairs]


def on_a_gpu(seeds: Sequence[int], epochs: int) -> dict[str, Any]:
    """Both published benchmarks."""
    spaces: dict[str, Callable[[Task], Space]] = {
        "nasbench201": lambda task: NasBench201Space(task, nodes=4, channels=16, cells=5),
        "nasbench_macro": NasBenchMacroSpace,
    }
    return {name: studied(on_cifar10(name, space, epochs), seeds) for name, space in spaces.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuda", action="store_true", help="the large spaces, on a GPU")
    parser.add_argument("--table", default="cell125", help="of the stand-alone trainings, for a trial")
    parser.add_argument("--epochs", type=int, help="20, or 100 on a GPU; other numbers are not recorded")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="fewer are not recorded")
    asked = parser.parse_args()
    if asked.cuda and not torch.cuda.is_available():
        print("skipped: there is no CUDA device")
        return
    seeds = range(asked.seeds)
    if asked.cuda:
        name, figures = "supernet_rank_cuda", on_a_gpu(seeds, asked.epochs or 100)
    else:
        name, figures = "supernet_rank", studied(cell125(asked.table, asked.epochs or 20), seeds)
    if asked.epochs is None and seeds == SEEDS and asked.table == "cell125":
        print(record(name, figures, seeds))


if __name__ == "__main__":
    main()
