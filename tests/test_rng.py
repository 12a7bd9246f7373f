"""Seeds are named, independent and equal in every process."""

from __future__ import annotations

import numpy as np
import pytest

from nas.rng import derive, stream


def test_the_same_path_gives_the_same_numbers():
    assert np.array_equal(stream(3, "ask", 5).random(8), stream(3, "ask", 5).random(8))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, "ask", 5), (3, "ask", 6)),
        ((3, "ask", 5), (4, "ask", 5)),
        ((3, "x", 1), (3, "x", "1")),
        ((3, "a", "b"), (3, "ab")),
        ((3,), (3, "")),
    ],
)
def test_another_path_gives_other_numbers(a, b):
    assert derive(*a) != derive(*b)
    assert not np.array_equal(stream(*a).random(4), stream(*b).random(4))


def test_seeds_are_fixed_for_all_time():
    assert derive(0) == 7210762507766007076
    assert derive(0, "weights", "abc", 0) == 8566291863624035388


def test_seeds_fit_63_bits():
    assert all(0 <= derive(seed, "x") < 2**63 for seed in range(-50, 50))


def test_numpy_integers_are_the_same_seed():
    assert derive(np.int64(7), "x") == derive(7, "x")


def test_neighbouring_streams_are_uncorrelated():
    draws = np.array([stream(0, "ask", k).random(400) for k in range(30)])
    off_diagonal = np.corrcoef(draws)[~np.eye(30, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.25
