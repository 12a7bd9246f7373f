"""Train a supernet once, search it under a latency bound, and see what the front is worth.

For the spaces `mobile` and `vit` on Fashion-MNIST: a sandwich training with in-place distillation, then
evolution on inherited accuracy and on latency measured on this machine, under a bound of 90 % of the largest
network's latency; the members of the front are then tuned for a few epochs. All of that is timed. Beside it,
by the same test images: every member trained by itself from scratch, and the uniform networks, which are the
largest one with all widths set to the same option, also trained from scratch. The supernet's training is
longer than theirs, since it serves all; what it takes counts in the 20 minutes. The test split is looked at
once, in the end.

Bars: at most 20 minutes from the start to the tuned front; for every uniform network that meets the bound a
member at least as accurate and at least as fast, and a larger hypervolume; each tuned member within 0.5
points of itself trained from scratch, or better.

    python benchmarks/supernet_search.py --space vit
    python benchmarks/supernet_search.py --space mobile --epochs 18 --scratch-epochs 12 --trials 80

Takes about half an hour a space on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from record import RESULTS, record

from nas import registry
from nas.budget import Budget
from nas.estimators.latency_measured import LatencyMeasured
from nas.estimators.training import TrainingEvaluator
from nas.front import hypervolume
from nas.parts import Search
from nas.proposal import Proposal
from nas.run import Run
from nas.spaces.mobile import MobileSpace
from nas.spaces.vit import VitSpace
from nas.tasks.fashion_mnist import FashionMnist

if TYPE_CHECKING:
    from nas.architecture import Architecture
    from nas.space import Space
    from nas.task import Task

SEED = 0
SHARE = 0.9
"""The latency bound, by the largest network's latency."""
RECIPES: dict[str, dict[str, Any]] = {
    "mobile": {"lr": 0.1, "weight_decay": 1e-4},
    "vit": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "warmup": 0.1},
}
TUNED: dict[str, dict[str, Any]] = {
    "mobile": {"epochs": 10, "lr": 0.1},
    "vit": {"epochs": 5, "optimizer": "adamw", "lr": 2e-4},
}
"""How members of the front are tuned."""


def space_of(name: str, task: Task) -> Space:
    if name == "mobile":
        return MobileSpace(
            task,
            stages=(8, 16, 24, 32),
            depth=2,
            kernels=(3, 5),
            expansions=(2, 3, 4),
            resolutions=(20, 24, 28),
        )
    return VitSpace(task, patch=7, embed_dims=(32, 48, 64), heads=(2, 3, 4), least_depth=2, depth=5)


def uniform(name: str, space: Space) -> list[Architecture]:
    """The largest network with all widths at the same option, for every option."""
    widths = ("width",) if name == "mobile" else ("embed_dim",)
    found = []
    for option in range(3):
        choices: dict[str, Any] = {}
        for leaf in space.leaves:
            values = tuple(leaf.values)
            choices[leaf.name] = values[option if leaf.name.rpartition(".")[2] in widths else -1]
        found.append(space.architecture(choices))
    return found


def from_scratch(space: Space, task: Task, name: str, epochs: int, a: Architecture, folder: Path) -> float:
    """Test accuracy of an architecture trained by itself."""
    trainer = TrainingEvaluator(space, task, epochs=epochs, folder=folder, clip=5.0, **RECIPES[name])
    proposal = Proposal(a, ("accuracy",))
    (outcome,) = trainer.evaluate([proposal], seed=SEED)
    return float(trainer.score(proposal, outcome.weights, "test")["accuracy"])  # type: ignore[union-attr,arg-type]


def dominated(points: list[tuple[float, float]], point: tuple[float, float]) -> bool:
    """Whether one of (accuracy, latency) points is at least as good in both."""
    return any(a >= point[0] and ms <= point[1] for a, ms in points)


def measured(name: str, limit: int, epochs: int, scratch_epochs: int, trials: int) -> dict[str, Any]:
    task = FashionMnist(limit=limit, batch_size=128, val_share=1 / 6)
    space = space_of(name, task)
    clock = LatencyMeasured(space, task, registry.create("target", "host"))
    latency = {}
    for a in uniform(name, space):
        (outcome,) = clock.evaluate([Proposal(a, ("latency_ms",))], seed=SEED)
        latency[a] = outcome.values["latency_ms"]  # type: ignore[union-attr]
    bound = SHARE * max(latency.values())
    step = {"name": "paths", "distillation": "in_place", "threads": 1, "clip": 5.0, **RECIPES[name]}
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        search = Search(
            space=space,
            task=task,
            objectives=f"max accuracy, min latency_ms < {bound:.6g}",
            budget=Budget(trials=trials),
            stages=[{"strategy": {"name": "sandwich", "epochs": epochs}, "evaluators": [step]}],
            evaluators=["inherited"],
            strategy={"name": "evolution", "population": 24},
            seed=SEED,
        )
        run = Run(search, Path(scratch) / "run")
        front = list(run.search())
        trained = [run.result.fine_tune(m, **TUNED[name]) for m in front]
        seconds = time.perf_counter() - started
        members = [
            {
                "latency_ms": m.values["latency_ms"],
                "inherited_test": test["accuracy"],
                "tuned_test": tuned.test["accuracy"],
            }
            for m, tuned, test in zip(front, trained, run.result.test(front), strict=True)
        ]
        print(f"{seconds:.0f} s; {len(front)} members; now from scratch", flush=True)
        for m, figures in zip(front, members, strict=True):
            folder = Path(scratch) / "scratch"
            figures["scratch_test"] = from_scratch(space, task, name, scratch_epochs, m.architecture, folder)
            print({k: round(v, 4) for k, v in figures.items()}, flush=True)
        baseline = [
            {
                "latency_ms": latency[a],
                "within_bound": latency[a] <= bound,
                "scratch_test": from_scratch(space, task, name, scratch_epochs, a, Path(scratch) / "uniform"),
            }
            for a in latency
        ]
        run.close()
    return figures_of(members, baseline, bound, seconds)


def figures_of(members: list[Any], baseline: list[Any], bound: float, seconds: float) -> dict[str, Any]:
    points = [(m["tuned_test"], m["latency_ms"]) for m in members]
    against = [(b["scratch_test"], b["latency_ms"]) for b in baseline if b["within_bound"]]

    def volume(some: list[tuple[float, float]]) -> float:
        return hypervolume(np.array([[1.0 - a, ms / bound] for a, ms in some]).reshape(-1, 2))

    gaps = [100 * (m["tuned_test"] - m["scratch_test"]) for m in members]
    return {
        "minutes_to_tuned_front": seconds / 60,
        "bound_ms": bound,
        "members": members,
        "uniform": baseline,
        "uniform_dominated": [dominated(points, p) for p in against],
        "hypervolume": volume(points),
        "hypervolume_uniform": volume(against),
        "points_above_scratch": gaps,
        "worst_points_above_scratch": min(gaps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", choices=("mobile", "vit"))
    parser.add_argument("--limit", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--scratch-epochs", type=int, default=15)
    parser.add_argument("--trials", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "supernet_search.json"
    for name in (given.space,) if given.space else ("mobile", "vit"):
        found = measured(name, given.limit, given.epochs, given.scratch_epochs, given.trials)
        figures = json.loads(path.read_text())["figures"] if path.exists() else {}
        settings = {"images": given.limit, "epochs": given.epochs, "scratch_epochs": given.scratch_epochs}
        figures[name] = {**settings, "trials": given.trials, "tuning": TUNED[name], **found}
        for key, value in found.items():
            print(f"{name}: {key}: {value}")
        record("supernet_search", figures, [SEED])


if __name__ == "__main__":
    main()
