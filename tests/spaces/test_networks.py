"""Facts that hold for every space of networks."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from nas.errors import BadInput
from nas.rng import stream
from nas.spaces.conv import ConvSpace
from nas.spaces.mlp import MlpSpace
from nas.spaces.nasbench201 import NasBench201Space

SHAPES = [(3, 32, 32), (1, 8, 8), (1, 28, 28)]


def small_nasbench201(task=None, **settings):
    return NasBench201Space(task, **{"cells": 1, "channels": 4, **settings})


@pytest.fixture(params=[ConvSpace, MlpSpace, small_nasbench201], ids=["conv", "mlp", "nasbench201"])
def make(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_samples_run_forward_and_train(make, shape):
    space = make(input_shape=shape, classes=7)
    for i in range(6):
        model = space.build(space.sample(stream(0, i)))
        out = model(torch.randn(5, *shape))
        assert out.shape == (5, 7)
        out.square().mean().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(g).all() for g in gradients)


def test_the_same_torch_seed_gives_the_same_weights(make):
    space = make(input_shape=(1, 8, 8))
    architecture = space.sample(stream(1))

    def weights(seed):
        torch.manual_seed(seed)
        return list(space.build(architecture).state_dict().values())

    with torch.random.fork_rng():
        first, again, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_building_leaves_python_and_numpy_alone(make):
    space = make(input_shape=(1, 8, 8))
    architecture = space.sample(stream(2))
    before = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    space.build(architecture)
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before  # noqa: NPY002


def test_shape_and_classes_come_from_the_task_unless_given(make, shape_task):
    task = shape_task((2, 9, 7), 4)
    from_task = make(task)
    assert (from_task.input_shape, from_task.classes) == ((2, 9, 7), 4)
    given = make(task, input_shape=[1, 8, 8], classes=3)
    assert (given.input_shape, given.classes) == ((1, 8, 8), 3)
    assert from_task.build(from_task.sample(stream(0)))(torch.randn(2, 2, 9, 7)).shape == (2, 4)


def test_a_task_without_shape_or_classes_needs_settings(make, shape_task):
    with pytest.raises(BadInput, match="classes must be given for a task without classes"):
        make(shape_task((1, 8, 8), None))
    with pytest.raises(BadInput, match="input_shape must list the axes of one input, got None"):
        make(shape_task(None, 3))
    assert make(shape_task(None, None), input_shape=(1, 8, 8), classes=1).classes == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_shape": (1, 0, 8)}, "input_shape must be a whole number"),
        ({"input_shape": "1x8x8"}, "input_shape must list the axes"),
        ({"classes": 0}, "classes must be a whole number in"),
        ({"classes": 2.5}, "classes must be a whole number in"),
    ],
)
def test_bad_shapes_and_classes_are_refused(make, settings, words):
    with pytest.raises(BadInput, match=words):
        make(**settings)


def test_images_need_three_axes():
    for make_images in (ConvSpace, NasBench201Space):
        with pytest.raises(BadInput, match=r"input_shape must be \(channels, height, width\), got \(64,\)"):
            make_images(input_shape=(64,))
    assert MlpSpace(input_shape=(64,)).input_shape == (64,)
