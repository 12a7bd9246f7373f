"""Does shifting the sampling to complexities that have not converged raise the worst size, at equal steps?

    python benchmarks/shift_sizes.py [--only mlp|vit]

A slimmable perceptron with eight widths is trained on digits (5 seeds), a small vision transformer on 4,000
images of Fashion-MNIST at 14x14 pixels (3 seeds): with uniform paths, and with `shift` favouring unconverged
bins by their validation loss, converged ones (the sign of the gap turned around), none (bins drawn
uniformly), and unconverged ones by the norm of that loss's gradient. The loss became the default after seeds
0 to 4 (0 to 2 of the transformer) had been seen; the seeds here are others. All take the same number of
optimiser steps under the same schedule; looks at validation data come on top, one for each bin every 100
steps. Sizes are then scored on the test split with the shared weights as they are: of the perceptron every
width, of the transformer the smallest, the largest and three between them.

Accuracies are fractions: ``worst`` is the least over the sizes, ``middle`` that of the middle size, ``mean``
the mean over sizes, each with its mean over seeds and that mean's standard error; ``gain`` compares with
uniform, seed by seed. ``generator_error`` is the mean of |true / wanted - 1| over 64 complexities that are
asked as training asks for them. About 10 minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from record import record
from torch import nn

from nas import Categorical, Space, Study, parse_objectives
from nas.budget import Budget
from nas.estimators.cost import CostEvaluator
from nas.estimators.paths import PathsEvaluator
from nas.evaluator import Known
from nas.registry import create
from nas.rng import derive, stream
from nas.sharing import ElasticLinear, ElasticSpace
from nas.spaces.vit import VitSpace
from nas.strategies.shift import Shift
from nas.strategies.uniform import Uniform

if TYPE_CHECKING:
    from nas.architecture import Architecture
    from nas.task import Task

WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)

SHIFTS: dict[str, dict[str, Any]] = {
    "unconverged": {},
    "converged": {"favour": "converged"},
    "none": {"favour": "none"},
    "unconverged_by_gradient": {"gap": "val_gradient_norm"},
}
"""Settings of `shift` that are compared."""


class Slimmable(ElasticSpace):
    """Two hidden layers of one width."""

    decisions = (Categorical("width", WIDTHS),)

    def elastic(self) -> nn.Module:
        """The widest perceptron."""
        widest = WIDTHS[-1]
        return nn.Sequential(
            nn.Flatten(),
            ElasticLinear(64, widest, out="width"),
            nn.ReLU(),
            ElasticLinear(widest, widest, out="width"),
            nn.ReLU(),
            ElasticLinear(widest, 10),
        )

    def example(self) -> torch.Tensor:
        """One image."""
        return torch.zeros(1, 1, 8, 8)


class Case(NamedTuple):
    """A space to train.

    Attributes:
        sizes: from the smallest to the largest; the one in the middle is ``middle``.
        bins: of complexity; for the perceptron fine enough that each width has its own.
    """

    space: Space
    task: Task
    sizes: list[Architecture]
    epochs: int
    bins: int
    evaluator: dict[str, Any]
    seeds: range
    known: Known


def _known(space: Space, task: Task) -> Known:
    """Costs, counted once for all trainings."""
    return Known(CostEvaluator(space, task), 0)


def mlp() -> Case:
    space, task = Slimmable(), create("task", {"name": "digits", "batch_size": 64})
    sizes = [space.architecture({"width": width}) for width in WIDTHS]
    return Case(space, task, sizes, 60, 16, {"lr": 0.05}, range(10, 15), _known(space, task))


def vit() -> Case:
    task = create("task", {"name": "fashion_mnist", "limit": 4000, "resolution": 14, "batch_size": 64})
    space = VitSpace(
        task,
        patch=7,
        embed_dims=(16, 32, 48),
        heads=(1, 2, 3),
        head_size=16,
        mlp_ratios=(1, 2),
        least_depth=1,
        depth=3,
    )
    sizes = [
        _even(space, *choice)
        for choice in ((16, 1, 1, 1), (32, 1, 1, 1), (32, 2, 1, 2), (48, 2, 2, 2), (48, 3, 2, 3))
    ]
    return Case(
        space,
        task,
        sizes,
        12,
        8,
        {"optimizer": "adamw", "lr": 2e-3, "clip": 1.0},
        range(10, 13),
        _known(space, task),
    )


def _even(space: Space, width: int, heads: int, ratio: int, depth: int) -> Architecture:
    """A transformer with equal layers."""
    choices: dict[str, Any] = {"embed_dim": width, "layer.count": depth}
    for i in range(depth):
        choices |= {f"layer.{i}.heads": heads, f"layer.{i}.mlp_ratio": ratio}
    return space.architecture(choices)


def trained(case: Case, arm: str, seed: int) -> dict[str, Any]:
    """Accuracies of the sizes after one training, and what the sampler did."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "supernet"))
        supernet = case.space.supernet()
    assert supernet is not None
    sampler: Uniform | Shift
    if arm == "uniform":
        sampler = Uniform(case.space, case.task, case.epochs)
    else:
        sampler = Shift(case.space, case.task, case.epochs, bins=case.bins, known=case.known, **SHIFTS[arm])
    evaluator = PathsEvaluator(case.task, supernet, **case.evaluator)
    study = Study(case.space, parse_objectives("min train_loss"), evaluator, sampler, seed=seed)
    clock = time.perf_counter()
    study.run(Budget(trials=10**9))
    steps = sum(t.proposal.metrics == ("train_loss",) for t in study.history.trials)
    assert steps == sampler.steps
    found: dict[str, Any] = {
        "seconds": time.perf_counter() - clock,
        "accuracies": [case.task.score(supernet.path(a).eval(), "test")["accuracy"] for a in case.sizes],
    }
    if isinstance(sampler, Shift):
        found |= {"gaps": sampler.gaps.tolist(), "probabilities": sampler.probabilities.tolist()}
        found["generator_error"] = generator_error(sampler, case.known, seed)
    return found


def generator_error(sampler: Shift, known: Known, seed: int) -> float:
    """Mean relative error over complexities, each bin as often as any other."""
    rng = stream(seed, "wanted")
    errors = []
    for i in range(64):
        low, high = sampler.edges[i % len(sampler.edges)]
        costs = sampler.generator.known
        wanted = float(rng.choice(costs[(costs >= low) & (costs <= high)]))
        found = sampler.generator.generate(wanted, rng)
        errors.append(abs(known.values([found], ["macs"])[0]["macs"] / wanted - 1.0))
    return float(np.mean(errors))


def summary(values: np.ndarray[Any, Any]) -> dict[str, float]:
    return {"mean": float(values.mean()), "standard_error": float(values.std(ddof=1) / len(values) ** 0.5)}


def compared(case: Case) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for arm in ("uniform", *SHIFTS):
        for seed in case.seeds:
            runs.setdefault(arm, []).append(trained(case, arm, seed))
            print(arm, seed, {k: np.round(v, 4).tolist() for k, v in runs[arm][-1].items()}, flush=True)
    tables = {arm: np.array([run["accuracies"] for run in found]) for arm, found in runs.items()}
    of = {
        arm: {"worst": t.min(1), "middle": t[:, len(case.sizes) // 2], "mean": t.mean(1)}
        for arm, t in tables.items()
    }
    figures: dict[str, Any] = {"steps": case.epochs * (case.task.count("train") // case.task.batch_size)}
    for arm, found in of.items():
        figures[arm] = {
            **{name: summary(values) for name, values in found.items()},
            "gain": {name: summary(values - of["uniform"][name]) for name, values in found.items()},
            "by_size": tables[arm].mean(0).tolist(),
            "runs": runs[arm],
        }
    errors = [run["generator_error"] for run in runs["unconverged"]]
    figures["generator_error"] = {"mean": float(np.mean(errors)), "most": float(np.max(errors))}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=("mlp", "vit"))
    only = parser.parse_args().only
    torch.set_num_threads(1)
    cases = {name: case() for name, case in (("mlp", mlp), ("vit", vit)) if only in (None, name)}
    figures = {name: compared(case) for name, case in cases.items()}
    for name, found in figures.items():
        for arm in ("uniform", *SHIFTS):
            print(name, arm, {k: v for k, v in found[arm].items() if k != "runs"})
        print(name, "generator", found["generator_error"])
    if only is None:
        record("shift_sizes", figures, seeds=range(10, 15))


if __name__ == "__main__":
    main()
