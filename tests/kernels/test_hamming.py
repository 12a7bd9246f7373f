"""Distances on packed bits equal those of matrix products, for every shape and layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import BadInput
from nas.kernels import hamming as kernel
from nas.kernels.hamming import hamming, packed, reference


def codes(seed, batch, units, share=0.5):
    return torch.from_numpy(np.random.default_rng(seed).random((batch, units)) < share)


@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(0, 12),
    units=st.one_of(st.integers(0, 200), st.sampled_from((63, 64, 65, 128, 1000))),
    share=st.sampled_from((0.0, 0.1, 0.5, 1.0)),
)
@settings(deadline=None, max_examples=60)
def test_packed_bits_give_what_matrix_products_give(seed, batch, units, share):
    x = codes(seed, batch, units, share)
    assert torch.equal(hamming(x), reference(x))
    direct = (x[:, None] != x[None]).sum(2)
    assert torch.equal(hamming(x), direct)


def test_more_units_than_a_block_are_all_counted(monkeypatch):
    monkeypatch.setattr(kernel, "WORDS", 3)
    monkeypatch.setattr(kernel, "UNITS", 100)
    x = codes(1, 9, 3 * 64 * 4 + 17)
    direct = (x[:, None] != x[None]).sum(2)
    assert torch.equal(hamming(x), direct)
    assert torch.equal(reference(x), direct)


def test_strided_codes_are_read_where_they_lie():
    x = codes(2, 300, 40)
    for view in (x.T, x[::3, ::2], x[:, 1:]):
        assert torch.equal(hamming(view), reference(view))


def test_codes_are_32_times_smaller_than_floats():
    x = codes(3, 4, 6400)
    assert packed(x.numpy()).nbytes * 32 == x.float().numpy().nbytes


def test_what_is_no_bool_matrix_is_refused():
    for bad in (torch.zeros(3, 4), torch.zeros(4, dtype=torch.bool)):
        with pytest.raises(BadInput, match="bool matrix"):
            hamming(bad)


@pytest.mark.cuda
def test_the_reference_counts_on_a_gpu():
    x = codes(4, 64, 5000)
    assert torch.equal(hamming(x.cuda()).cpu(), hamming(x))
