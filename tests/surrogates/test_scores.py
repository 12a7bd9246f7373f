"""Scores of a pool from its metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.rng import stream
from nas.surrogates.scores import log_rank, mean_rank, minmax, ranks, told_nothing, vote

NAN = float("nan")


def test_minmax_spans_0_to_1_and_missing_and_constant_columns_are_0():
    found = minmax(np.array([[1.0, 5.0, NAN], [3.0, 5.0, NAN], [2.0, NAN, NAN], [NAN, 5.0, NAN]]))
    assert found.tolist() == [[0, 0, 0], [1, 0, 0], [0.5, 0, 0], [0, 0, 0]]


def test_ranks_are_centred_and_tied_values_share_theirs():
    found = ranks(np.array([[1.0, NAN], [1.0, NAN], [9.0, NAN], [NAN, NAN]]))
    assert found[:, 0] == pytest.approx([1 / 3, 1 / 3, 5 / 6, 0.5])
    assert found[:, 1].tolist() == [0.5] * 4


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 5))
def test_ranks_depend_on_the_order_alone(seed, n, m):
    metrics = stream(seed).standard_normal((n, m))
    np.testing.assert_allclose(ranks(np.exp(3 * metrics)), ranks(metrics))
    np.testing.assert_allclose(ranks(-metrics), 1 - ranks(metrics))


def test_an_outlier_ruins_minmax_and_not_ranks():
    metrics = np.array([[float(i)] for i in range(99)] + [[1e9]])
    assert minmax(metrics)[:99].max() < 1e-6
    assert np.ptp(ranks(metrics)[:99]) > 0.9


def test_the_majority_decides_pairs():
    metrics = np.array([[4.0, 4.0, 0.0], [3.0, 3.0, 9.0], [2.0, 2.0, 5.0], [1.0, 1.0, 3.0]])
    assert vote(metrics).tolist() == [3, 2, 1, 0], "two of three metrics put the first above all others"
    assert mean_rank(metrics).argmax() == 1, "which the mean rank does not"


def test_missing_values_vote_for_nobody():
    assert vote(np.array([[NAN, 1.0], [5.0, 0.0]])).tolist() == [1, 0]


def test_one_bad_rank_weighs_more_in_the_sum_of_logarithms():
    metrics = np.array([[10.0, 0.0], [5.0, 5.0], [6.0, 4.0], [0.0, 10.0]])
    assert mean_rank(metrics).tolist() == [0.5] * 4
    assert log_rank(metrics)[0] < log_rank(metrics)[1]


def test_architectures_without_any_metric_are_known():
    assert told_nothing(np.array([[NAN, NAN], [NAN, 0.0], [np.inf, NAN]])).tolist() == [True, False, True]
