"""A small space with a supernet, and a task to train it on."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nas
from nas.sharing import (
    Choice,
    ElasticConv2d,
    ElasticLinear,
    ElasticNorm,
    ElasticSequential,
    ElasticSpace,
    Zero,
)


class Wide(ElasticSpace):
    """Convolutions of images of 1 × 8 × 8 whose width, kernel and depth are chosen, and one operation."""

    decisions = (
        nas.Categorical("width", (4, 8, 16)),
        nas.Categorical("kernel", (3, 5)),
        nas.Integer("depth", 1, 3),
        nas.Categorical("op", ("conv", "skip", "zero")),
    )

    def elastic(self):
        stem = ElasticConv2d(1, 16, 5, out="width", kernel="kernel", kernel_sizes=(3, 5))
        blocks = ElasticSequential([self._block() for _ in range(3)], depth="depth")
        ops = {"conv": ElasticConv2d(16, 16, 1, out="width"), "skip": nn.Identity(), "zero": Zero()}
        head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), ElasticLinear(64, 10))
        return nn.Sequential(stem, ElasticNorm(nn.BatchNorm2d(16)), blocks, Choice("op", ops), *head)

    def example(self):
        return torch.zeros(1, 1, 8, 8)

    @staticmethod
    def _block():
        return nn.Sequential(ElasticConv2d(16, 16, 3, groups=16), ElasticNorm(nn.BatchNorm2d(16)), nn.ReLU())


class Mixed(ElasticSpace):
    """Two choices among three operations: mixtures can run."""

    decisions = (
        nas.Categorical("first", ("linear", "relu", "zero")),
        nas.Categorical("second", ("linear", "relu", "zero")),
    )

    def elastic(self):
        ops = [{"linear": nn.Linear(64, 64), "relu": nn.ReLU(), "zero": Zero()} for _ in range(2)]
        return nn.Sequential(
            nn.Flatten(), Choice("first", ops[0]), Choice("second", ops[1]), ElasticLinear(64, 10)
        )

    def example(self):
        return torch.zeros(1, 1, 8, 8)


def blobs(n: int = 96, batch_size: int = 16, *, spoiled: tuple[int, ...] = ()) -> nas.Task:
    """Ten classes of noisy images; those at the spoiled positions are not finite."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 1, 8, 8))
    y = np.arange(n) % 10
    x = torch.tensor(centres[y] + 0.3 * rng.normal(size=(n, 1, 8, 8)), dtype=torch.float32)
    x[list(spoiled)] = torch.inf
    data = TensorDataset(x, torch.tensor(y))
    clean = TensorDataset(x.nan_to_num(posinf=0.0), torch.tensor(y))
    train = DataLoader(data, batch_size=batch_size, shuffle=True)
    return nas.Task.from_loaders(train, DataLoader(clean, batch_size=32))


def seeded_supernet(space: ElasticSpace, seed: int = 0):
    """The supernet with weights of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return space.supernet()
