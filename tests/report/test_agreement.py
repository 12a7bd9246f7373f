"""Rank agreement of two measurements: known values, ties, intervals, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from nas.errors import BadInput
from nas.report import statistics
from nas.report.agreement import rank_agreement
from nas.report.statistics import kendall, kendall_and_interval
from nas.rng import stream


def pair(n=60, noise=1.0, seed=0):
    rng = stream(seed)
    a = rng.normal(size=n)
    return a, a + noise * rng.normal(size=n)


def agreement(a, b, **settings):
    return rank_agreement(np.array(a, dtype=float), np.array(b, dtype=float), rng=stream(1), **settings)


def test_correlations_are_scipys():
    a, b = pair()
    a = np.round(a, 1)
    found = agreement(a, b)
    assert found.kendall == pytest.approx(kendalltau(a, b).statistic, abs=1e-6)
    assert found.spearman == pytest.approx(spearmanr(a, b).statistic)
    assert found.count == 60
    for value, (low, high) in ((found.kendall, found.kendall_95), (found.spearman, found.spearman_95)):
        assert -1 <= low < value < high <= 1


def test_pairs_in_parts_give_the_same(monkeypatch):
    a, b = pair(50)
    counts = stream(2).multinomial(50, np.full(50, 0.02), size=7).astype(float)
    whole = kendall(a, b, counts)
    monkeypatch.setattr(statistics, "PAIRED", 8)
    np.testing.assert_allclose(kendall(a, b, counts), whole, rtol=1e-12)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """The correlation of all 2,000 lies in the interval of a sample of 60, in about 95 of 100."""
    a, b = pair(2000)
    truth, rng, held = kendalltau(a, b).statistic, stream(3), 0
    for _ in range(60):
        rows = rng.choice(2000, size=60, replace=False)
        _, (low, high) = kendall_and_interval(a[rows], b[rows], rng)
        held += low <= truth <= high
    assert 52 <= held <= 60


def test_the_overlap_of_the_best_counts_both():
    a = np.arange(20.0)
    b = a.copy()
    b[[19, 0]] = b[[0, 19]]
    five, ten, tenth = agreement(a, b, top=(5, 10, 0.1)).top
    assert (five.k, five.overlap, five.share) == (5, 4.0, 0.8)
    assert (ten.k, ten.overlap, ten.share) == (10, 9.0, 0.9)
    assert (tenth.k, tenth.overlap) == (2, 1.0)
    assert five.share_95[0] < five.share <= five.share_95[1]


def test_ties_may_fall_either_way():
    a = [3, 2, 2, 1, 1, 0]
    first, second = agreement(a, [3, 2, 1, 0, 0, 0], top=(2,)).top[0], agreement(a, a[::-1], top=(1,)).top[0]
    assert first.overlap == pytest.approx(1.5)
    assert second.overlap == 0.0


def test_order_of_architectures_does_not_matter():
    a, b = np.round(pair(30), 0)
    turned = stream(4).permutation(30)
    one, two = agreement(a, b), agreement(a[turned], b[turned])
    assert [t.overlap for t in one.top] == pytest.approx([t.overlap for t in two.top])
    assert one.kendall == pytest.approx(two.kendall)


def test_sizes_that_are_everything_are_left_out():
    assert [top.k for top in agreement(*pair(8), top=(5, 10, 0.5, 4)).top] == [5, 4]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], "measured by both must be at least 5, got 4"),
        ([1] * 6, range(6), "inherited must differ between architectures to rank them, got '1 for all 6'"),
        (range(6), [2] * 6, "alone must differ between architectures"),
        (range(6), range(7), "inherited and alone must have one value for each architecture"),
        ([*range(5), float("nan")], range(6), "inherited must be finite, got"),
    ],
)
def test_what_has_no_ranks_is_refused(a, b, message):
    with pytest.raises(BadInput, match=message):
        agreement(list(a), list(b), names=("inherited", "alone"))
