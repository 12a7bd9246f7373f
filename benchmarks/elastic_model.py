"""Can a trained network be halved for a fifth of what its training cost?

A small residual network and a small transformer are trained on 10,000 images of Fashion-MNIST (15 % of them
for validation), made elastic by `nas.elastic`, and trained on with InstaTune's loss: in every step a random
path, taught by the network as it was. Then 48 paths of at most half
its multiply-accumulates are proposed by evolution and scored on validation images; only the best of them is
tested, on all 10,000 test images.

Claimed: before that training the full path's output equals the original's bit by bit; after it, the chosen
path loses at most one point of test accuracy.

Cost is counted in multiply-accumulates, a backward pass as twice a forward pass: the original's training is
3 × MACs × images seen; a step of the elastic one has three times those of its path, counted as the mean of
200 random ones, and once those of the teacher. Calibrating and scoring paths is forward only and
stands beside it as ``search_share``.

    python benchmarks/elastic_model.py [SEEDS]

About 4 minutes a seed for the residual network and 2 for the transformer on one quiet core.
"""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from record import record
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

import nas
from nas.budget import Budget
from nas.estimators.cost import forward_cost
from nas.estimators.fit import Fit
from nas.estimators.recipe import Recipe
from nas.parts import Search
from nas.run import Run
from nas.tasks.fashion_mnist import FashionMnist

if TYPE_CHECKING:
    from collections.abc import Callable

    from nas.sharing.adopted import AdoptedSpace

SEEDS = 3
EPOCHS = 30
SHARE = 0.2
TRIALS = 48
CALIBRATION = 512
"""Training images for the batch norms of a path."""
TUNING_BATCH = 32


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (batch, outputs, height / stride, width / stride)."""
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


def residual_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 48, 3, 2, 1, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        *(Block(48, 48) for _ in range(4)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, 10),
    )


class Transformer(nn.Module):
    """16 patches of 7×7 pixels, four layers."""

    def __init__(self, width: int = 48, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, 7)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 3 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (batch, 10)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.encoder(tokens).mean(1))


RECIPE = {"optimizer": "adamw", "weight_decay": 0.02}


@dataclass(frozen=True)
class Network:
    """What makes it, and how it is trained.

    Attributes:
        lr: learning rate of the original.
        tuning_lr: of the elastic network.
        side: of the images, in pixels.
        widths: that can be chosen.
        depth: fewest blocks.
    """

    make: Callable[[], nn.Module]
    lr: float
    tuning_lr: float
    side: int
    widths: tuple[float, ...]
    depth: int


NETWORKS = {
    "residual": Network(residual_network, 4e-3, 1e-3, 14, (0.375, 0.5, 0.625, 0.75, 1.0), 3),
    "transformer": Network(Transformer, 2e-3, 1e-3, 28, (0.25, 0.5, 0.75, 1.0), 2),
}


def trained(network: str, task: FashionMnist, seed: int) -> nn.Module:
    """The original, trained for the whole schedule."""
    torch.manual_seed(seed)
    model = NETWORKS[network].make()
    recipe = Recipe(epochs=EPOCHS, lr=NETWORKS[network].lr, warmup=0.05, clip=1.0, **RECIPE)
    fit = Fit(model, task, recipe, seed=seed, replicate=0)
    fit.run(fit.steps)
    return model.eval()


def bit_equal(model: nn.Module, space: AdoptedSpace, task: FashionMnist) -> bool:
    """Whether the full path computes exactly what the original does, when both train and when they do not."""
    x = task.example(64)
    answers = []
    for training in (False, True):
        original, supernet = copy.deepcopy(model).train(training), space.supernet().train(training)
        answers.append(torch.equal(original(x), supernet(x, space.full)))
        with torch.no_grad():
            answers.append(torch.equal(original(x), supernet(x, space.full)))
    return all(answers)


def macs_of(model: nn.Module, task: FashionMnist) -> float:
    return forward_cost(copy.deepcopy(model).eval(), task.example(1))["macs"]


def costs(space: AdoptedSpace, model: nn.Module, task: FashionMnist) -> dict[str, float]:
    """Multiply-accumulates of one image, forward."""
    supernet = space.supernet()
    drawn = [space.sample(nas.stream(0, "cost", i)) for i in range(200)]
    return {
        "full": macs_of(model, task),
        "random": mean(macs_of(supernet.path(a), task) for a in drawn),
    }


def halved(network: str, seed: int) -> dict[str, Any]:
    """One network from its training to the test of its better half."""
    settings = NETWORKS[network]
    data = partial(FashionMnist, limit=10_000, val_share=0.15, resolution=settings.side, seed=seed)
    task = data(batch_size=64)
    began = time.perf_counter()
    model = trained(network, task, seed)
    original_seconds = time.perf_counter() - began
    task = data(batch_size=TUNING_BATCH)
    space = nas.elastic(model, task.example(1), settings.widths, depth=settings.depth)
    cost = costs(space, model, task)
    step = 3.0 * cost["random"] + cost["full"]
    epochs = int(SHARE * 3.0 * cost["full"] * EPOCHS / step)
    teacher = partial(copy.deepcopy, model)
    tuning = {"distillation": "instatune", "alpha": 0.3, "gamma": 1.0, "teacher": teacher}
    began = time.perf_counter()
    run = Run(
        Search(
            space=space,
            task=task,
            objectives=f"max accuracy, macs <= {0.5 * cost['full']}",
            evaluators=[{"name": "inherited", "calibration": CALIBRATION}, "cost"],
            strategy="evolution",
            budget=Budget(trials=TRIALS),
            stages=[
                {
                    "strategy": {"name": "uniform", "epochs": epochs},
                    "evaluators": [
                        {"name": "paths", "lr": settings.tuning_lr, "clip": 1.0, **RECIPE, **tuning}
                    ],
                }
            ],
            seed=seed,
        )
    )
    best = run.search().best("accuracy")
    tested = run.result.test([best])[0]["accuracy"]
    run.close()
    before = space.supernet().path(best.architecture)
    original, untuned = task.score(model, "test")["accuracy"], task.score(before, "test")["accuracy"]
    on_validation = task.score(model, "val")["accuracy"]
    trainings = 3.0 * cost["full"] * EPOCHS * task.count("train")
    searching = TRIALS * 0.5 * cost["full"] * (CALIBRATION + task.count("val"))
    return {
        "network": network,
        "seed": seed,
        "bit_equal": bit_equal(model, space, task),
        "macs": cost,
        "tuning_epochs": epochs,
        "tuning_share": epochs * step / (3.0 * cost["full"] * EPOCHS),
        "search_share": searching / trainings,
        "macs_share": best.values["macs"] / cost["full"],
        "original_val_accuracy": on_validation,
        "val_accuracy": best.values["accuracy"],
        "test_accuracy": tested,
        "test_accuracy_without_tuning": untuned,
        "original_test_accuracy": original,
        "lost_points": 100.0 * (original - tested),
        "original_seconds": original_seconds,
        "tuning_and_search_seconds": time.perf_counter() - began,
    }


def main() -> None:
    torch.set_num_threads(1)
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    rows = []
    for network in NETWORKS:
        for seed in seeds:
            rows.append(halved(network, seed))
            print(rows[-1], flush=True)
    lost = {n: [r["lost_points"] for r in rows if r["network"] == n] for n in NETWORKS}
    figures = {
        "worst_lost_points": {n: max(values) for n, values in lost.items()},
        "mean_lost_points": {n: mean(values) for n, values in lost.items()},
        "all_bit_equal": all(r["bit_equal"] for r in rows),
        "rows": rows,
    }
    record("elastic_model", figures, seeds=list(seeds))


if __name__ == "__main__":
    main()
