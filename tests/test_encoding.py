"""The one encoder: a one-to-one map between architectures and points of the unit cube."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ToySpace, conditional_space, mixed_space, plain_space, spaces

from nas import BadInput, Encoder, Integer
from nas.rng import stream


@given(spaces(), st.integers(0, 2**32))
def test_decoding_an_encoding_gives_the_architecture_back(space, seed):
    rng = stream(seed)
    encoder, samples = Encoder(space), [space.sample(rng) for _ in range(4)]
    vectors = encoder.encode(samples)
    assert vectors.shape == (4, encoder.width)
    assert ((vectors >= 0) & (vectors <= 1)).all()
    assert [encoder.decode(v) for v in vectors] == samples


@settings(max_examples=40)
@given(spaces(reals=False))
def test_different_architectures_have_different_encodings(space):
    every = list(space.enumerate())
    assert len(np.unique(Encoder(space).encode(every), axis=0)) == len(every)


@given(spaces(), st.integers(0, 2**32))
def test_every_point_decodes_to_an_architecture(space, seed):
    encoder = Encoder(space)
    point = stream(seed).uniform(-0.5, 1.5, encoder.width)
    a = encoder.decode(point)
    assert space.architecture(a) == a


def test_columns_say_what_they_hold():
    encoder = Encoder(mixed_space())
    assert encoder.columns == (
        *("lr", "width", "optimiser=sgd", "optimiser=adam"),
        *("momentum?", "momentum"),
    )
    assert encoder.categorical.tolist() == [False, False, True, True, True, False]
    assert Encoder(plain_space(2, 3)).width == 6


def test_numbers_lie_on_their_own_scale_and_inactive_columns_are_zero():
    space = mixed_space()
    a = space.architecture({"lr": 0.01, "width": 16, "optimiser": "adam"})
    b = space.architecture({"lr": 1.0, "width": 1, "optimiser": "sgd", "momentum": 0.99})
    vectors = Encoder(space).encode([a, b])
    np.testing.assert_allclose(vectors, [[0.5, 0.5, 0, 1, 0, 0], [1, 0, 1, 0, 1, 1]], atol=1e-12)


@pytest.mark.parametrize("log", [False, True])
def test_every_integer_of_a_range_comes_back(log):
    encoder = Encoder(ToySpace([Integer("i", 1, 3000, log)]))
    every = list(encoder.space.enumerate())
    assert [encoder.decode(v) for v in encoder.encode(every)] == every


def test_an_empty_list_has_no_rows():
    assert Encoder(conditional_space()).encode([]).shape == (0, Encoder(conditional_space()).width)


@pytest.mark.parametrize("vector", [np.zeros(3), np.full(30, np.nan), np.zeros((30, 1))])
def test_wrong_vectors_are_refused(vector):
    with pytest.raises(BadInput, match=r"vector must be finite with shape \(30,\)"):
        Encoder(plain_space()).decode(vector)
