from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas.estimators.augmentation import crop, flip
from nas.estimators.recipe import SCHEDULES, Recipe


def test_the_rate_rises_and_then_follows_the_schedule():
    recipe = Recipe(lr=0.4, warmup=0.2, schedule="cosine")
    rates = [recipe.rate(step, 10) for step in range(10)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.4])
    assert rates[6] == pytest.approx(0.2)  # half way between step 2 and step 10
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert Recipe(lr=0.4, warmup=0.0, schedule="linear").rate(3, 4) == pytest.approx(0.1)


@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.floats(0, 0.99),
    st.integers(1, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))),
)
def test_rates_are_positive_and_at_most_the_full_one(schedule, warmup, place):
    steps, step = place
    rate = Recipe(lr=0.3, warmup=warmup, schedule=schedule).rate(step, steps)
    assert 0.0 < rate <= 0.3 + 1e-12


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_norms_and_biases_do_not_decay(optimizer):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    model[3].weight.requires_grad_(False)
    groups = Recipe(optimizer=optimizer, weight_decay=0.1).optimiser(model).param_groups
    assert [(g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in groups] == [
        (0.1, [(2, 1, 3, 3)]),
        (0.0, [(2,), (2,), (2,), (2,)]),
    ]


def test_crops_are_shifts_with_zeros_moved_in():
    x = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8).repeat(200, 2, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = crop(x)
    shifts = set()
    padded = nn.functional.pad(x[0], (1, 1, 1, 1))
    for image in y:
        match = [
            (i, j) for i in range(3) for j in range(3) if torch.equal(image, padded[:, i : i + 8, j : j + 8])
        ]
        assert len(match) == 1
        shifts.add(match[0])
    assert len(shifts) == 9


def test_flips_mirror_about_half_of_the_images():
    x = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8).repeat(200, 1, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = flip(x)
    mirrored = sum(torch.equal(image, x[0].flip(2)) for image in y)
    kept = sum(torch.equal(image, x[0]) for image in y)
    assert mirrored + kept == 200
    assert 70 < mirrored < 130
