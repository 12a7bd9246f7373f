"""Stochastic depth."""

from __future__ import annotations

import pytest
import torch

from nas.errors import BadInput
from nas.spaces.stochastic_depth import StochasticDepth


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_it_is_the_identity_in_evaluation_and_at_zero():
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(StochasticDepth(0.9).eval()(x), x)
    assert torch.equal(StochasticDepth(0.0).train()(x), x)


@pytest.mark.parametrize("shape", [(20_000, 2), (20_000, 2, 1, 3)], ids=str)
def test_training_drops_whole_samples_and_keeps_the_expectation(shape):
    p = 0.3
    out = StochasticDepth(p).train()(torch.ones(shape)).flatten(1)
    assert torch.equal(out.amin(1), out.amax(1))
    assert set(out[:, 0].tolist()) == {0.0, torch.tensor(1.0 / (1 - p)).item()}
    # four standard errors
    error = (p / (1 - p) / shape[0]) ** 0.5
    assert out[:, 0].mean().item() == pytest.approx(1.0, abs=4 * error)


def test_it_draws_from_torchs_generator():
    drop, x = StochasticDepth(0.5).train(), torch.ones(64, 1)
    torch.manual_seed(1)
    first = drop(x)
    torch.manual_seed(1)
    assert torch.equal(drop(x), first)
    assert not torch.equal(drop(x), first)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_probability_outside_is_refused(p):
    with pytest.raises(BadInput, match=r"p must lie in \[0, 1\)"):
        StochasticDepth(p)
