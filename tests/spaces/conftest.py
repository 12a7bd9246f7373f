"""What the tests of spaces share: a task without data, and the benchmark's table."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import pytest

from nas.task import Task


class ShapeTask(Task):
    """A task that has a shape and classes, and no data."""

    def __init__(self, input_shape, classes):
        self.input_shape = input_shape
        self.classes = classes

    def count(self, split):
        return 0

    def batches(self, split, *, seed, samples=None, batch_size=None):
        return iter(())

    def inputs(self, batch):
        return batch

    def targets(self, batch):
        return batch

    def forward(self, model, batch):
        return model(batch)

    def loss(self, output, batch):
        return output

    def score(self, model, split):
        return {"loss": 0.0}

    def example(self, batch_size):
        return None


class ImageTask(ShapeTask):
    """The same whose inputs may be augmented."""

    augmentable = True


@pytest.fixture(scope="session")
def shape_task():
    return ShapeTask


@pytest.fixture(scope="session")
def image_task():
    return ImageTask


@pytest.fixture(scope="session")
def nasbench201_rows():
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("NAS_DATA", root / ".." / "shared" / "data"))
    file = folder / "nasbench201" / "nb201.csv.gz"
    if not file.is_file():
        pytest.skip("the table of NAS-Bench-201 is not in the data folder (NAS_DATA)")
    with gzip.open(file, "rt") as lines:
        return list(csv.DictReader(lines))
