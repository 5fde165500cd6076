"""FSQ: codes are the digits, every code is reached, values lie on the grid."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.entropy.vq import FSQ

LEVELS = st.lists(st.integers(3, 9), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(LEVELS, st.integers(0, 1 << 30))
def test_codes_and_digits_are_one(levels: list[int], seed: int) -> None:
    quantizer, size = FSQ(levels), math.prod(levels)
    assert quantizer.codebook_sizes == (size,)
    codes = torch.randint(size, (3, 4), generator=torch.Generator().manual_seed(seed))
    digits = quantizer.digits(codes)
    assert digits.shape == (3, 4, len(levels))
    expected = np.stack(np.unravel_index(codes.numpy(), levels, order="F"), -1)
    assert np.array_equal(digits.numpy(), expected)
    assert torch.equal(quantizer.codes(digits), codes)


@settings(max_examples=30, deadline=None)
@given(LEVELS)
def test_every_code_is_reached(levels: list[int]) -> None:
    quantizer = FSQ(levels)
    codes = torch.arange(min(math.prod(levels), 3000))[None]
    grid = quantizer.digits(codes) - torch.tensor(levels) // 2
    reach = (torch.tensor(levels) - 1) * 1.001 / 2
    offset = torch.tensor([0.5 if level % 2 == 0 else 0 for level in levels])
    x = torch.atanh((grid + offset) / reach) - torch.atanh(offset / reach)
    found = quantizer.encode(x.transpose(1, 2))
    assert torch.equal(found[0], codes)
    values = quantizer.decode(found)
    assert torch.equal(values, (grid / (torch.tensor(levels) // 2)).transpose(1, 2))
    assert values.abs().max() <= 1


@settings(max_examples=40, deadline=None)
@given(LEVELS, st.floats(0.01, 1e6), st.integers(0, 1000))
def test_vectors_are_a_function_of_the_codes(levels: list[int], scale: float, seed: int) -> None:
    quantizer = FSQ(levels)
    x = torch.randn(2, len(levels), 5, generator=torch.Generator().manual_seed(seed)) * scale
    out = quantizer(x)
    assert torch.equal(quantizer.decode(out.codes), out.values)
    assert out.codes[0].min() >= 0
    assert out.codes[0].max() < math.prod(levels)


def test_zero_stays_zero() -> None:
    for levels in ((8, 5, 5, 5), (4, 6, 3)):
        quantizer = FSQ(levels)
        assert not quantizer(torch.zeros(1, len(levels), 2)).values.any()


def test_state_is_of_the_projections_alone() -> None:
    assert not FSQ((5, 5)).state_dict()
    assert sorted(FSQ((5, 5), 4).state_dict()) == [
        f"project_{way}.{k}" for way in ("in", "out") for k in ("bias", "weight")
    ]
