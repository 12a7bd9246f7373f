"""A device from a few measurements: better than ridge, calibrated, and nothing of the target in the prior."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.stats import spearmanr

from nas.errors import BadInput
from nas.kernels.device_prior import Prior, Sources
from nas.kernels.transfer import Transfer
from nas.rng import stream

NETS, DECISIONS, OPTIONS = 700, 8, 4


@functools.cache
def devices(seed=0):
    """Invented devices: three costs a decision, mixed by each device in its own way, with noise."""
    rng = stream(seed, "invented devices")
    choices = rng.integers(OPTIONS, size=(NETS, DECISIONS))
    hot = (choices[:, :, None] == np.arange(OPTIONS)).astype(float)
    costs = rng.gamma(2.0, 1.0, size=(3, DECISIONS, OPTIONS))
    work = np.einsum("ndo,rdo->nr", hot, costs)
    mix = rng.dirichlet(np.ones(3), size=9)
    ms = work @ mix.T * np.exp(rng.normal(0, 1, 9)) * np.exp(rng.normal(0, 0.02, (NETS, 9)))
    return hot.reshape(NETS, -1), hot.sum(axis=1), ms


NAMES = ("a", "a", "b", "c", "d", "e", "f", "g")


@functools.cache
def transfer(seed=0):
    hot, counts, ms = devices(seed)
    return Transfer(Sources(ms[:, :8], NAMES, hot, counts), stream(0))


def errors(k, seed=0):
    _, _, ms = devices(seed)
    truth = ms[:, 8]
    made = transfer(seed)
    nets = made.choose(k, stream(1))
    return nets, made.predict(nets, truth[nets]), truth


@pytest.mark.parametrize(("k", "least"), [(5, 0.95), (20, 0.98)])
def test_a_few_measurements_rank_all_others(k, least):
    _, found, truth = errors(k)
    assert spearmanr(found.ms, truth).statistic > least
    assert (found.low_ms < found.ms).all()
    assert (found.ms < found.high_ms).all()


def test_more_measurements_make_it_better_and_surer():
    _, few, truth = errors(5)
    _, many, _ = errors(50)
    off = [np.abs(np.log(f.ms / truth)).mean() for f in (few, many)]
    assert off[1] < 0.9 * off[0]
    assert np.median(many.high_ms / many.low_ms) < np.median(few.high_ms / few.low_ms)


def test_it_beats_ridge_regression_on_the_sources():
    _, _, ms = devices()
    ahead = []
    for seed in range(5):
        truth, nets = ms[:, 8], stream(seed).choice(NETS, 8, replace=False)
        found = transfer().predict(nets, truth[nets])
        x = np.log(ms[:, :8])
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        a, y = x[nets] - x[nets].mean(axis=0), np.log(truth[nets])
        guess = (x - x[nets].mean(axis=0)) @ np.linalg.solve(a.T @ a + np.eye(8), a.T @ (y - y.mean()))
        ahead.append(spearmanr(found.ms, truth).statistic - spearmanr(guess, truth).statistic)
    assert np.mean(ahead) > 0


def test_intervals_hold_as_often_as_they_say():
    inside = []
    for seed in range(3):
        for k in (5, 20):
            _, found, truth = errors(k, seed)
            inside.append(((found.low_ms <= truth) & (truth <= found.high_ms)).mean())
    assert 0.8 < np.mean(inside) < 0.98
    nets, half, truth = errors(20)
    half = transfer().predict(nets, truth[nets], level=0.5)
    assert 0.3 < ((half.low_ms <= truth) & (truth <= half.high_ms)).mean() < 0.7


def test_a_wild_reading_spoils_little():
    nets, _, truth = errors(20)
    read = truth[nets].copy()
    read[3] *= 5.0
    spoilt = transfer().predict(nets, read)
    assert spearmanr(spoilt.ms, truth).statistic > 0.95


def test_a_change_of_unit_changes_the_unit_alone():
    nets, found, truth = errors(10)
    again = transfer().predict(nets, 1000.0 * truth[nets])
    assert np.allclose(again.ms, 1000.0 * found.ms, rtol=1e-4)


def test_chosen_networks_are_distinct_deterministic_and_among_those_given():
    made = transfer()
    assert made.choose(12, stream(5)) == made.choose(12, stream(5))
    assert len(set(made.choose(12, stream(5)))) == 12
    assert set(made.choose(6, stream(0), among=range(40, 60))) <= set(range(40, 60))
    with pytest.raises(BadInput, match="k must be between 1 and the 3 networks, got 4"):
        made.choose(4, stream(0), among=[1, 2, 3])


def test_chosen_networks_tell_more_than_random_ones():
    _, _, ms = devices()
    truth, made = ms[:, 8], transfer()

    def off(nets):
        return np.abs(np.log(made.predict(nets, truth[nets]).ms / truth)).mean()

    chosen = np.mean([off(made.choose(5, stream(s))) for s in range(6)])
    drawn = np.mean([off(stream(s).choice(NETS, 5, replace=False)) for s in range(6)])
    assert chosen < drawn


def test_a_device_is_left_out_with_its_whole_family():
    hot, counts, ms = devices()
    sources = Sources(ms[:, :8], NAMES, hot, counts)
    changed = ms[:, :8].copy()
    changed[:, :2] = changed[::-1, :2]
    others = Sources(changed, NAMES, hot, counts)
    assert np.array_equal(sources.kinship("a").trend, others.kinship("a").trend)
    assert not np.array_equal(sources.kinship(None).trend, others.kinship(None).trend)
    assert sorted(w for _, w in sources.pretended()) == [0.5, 0.5, *[1.0] * 6]


def test_the_prior_is_learnt_alike_each_time():
    hot, counts, ms = devices()
    sources = Sources(ms[:, :8], NAMES, hot, counts)
    first, second = (Prior.learnt(sources, stream(3)) for _ in range(2))
    assert np.array_equal(first.weights, second.weights)
    assert 0.7 < first.slope < 1.1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"latency_ms": np.ones((NETS, 3))}, "have a row a network and a column a device"),
        ({"latency_ms": np.zeros((NETS, 8))}, "be finite and above 0"),
        ({"families": ["a"] * 8}, "families must be at least two"),
    ],
)
def test_what_cannot_be_sources_is_refused(change, text):
    hot, counts, ms = devices()
    given = {"latency_ms": ms[:, :8], "families": NAMES, "encodings": hot, "counts": counts, **change}
    with pytest.raises(BadInput, match=text):
        Sources(**given)


@pytest.mark.parametrize(
    ("nets", "ms", "level", "text"),
    [
        ([1], [2.0], 0.9, "at least two networks"),
        ([1, 2], [2.0, -1.0], 0.9, "finite and above 0"),
        ([1, 2], [2.0, 3.0], 1.0, "level must lie between 0 and 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(nets, ms, level, text):
    with pytest.raises(BadInput, match=text):
        transfer().predict(nets, np.array(ms), level=level)
