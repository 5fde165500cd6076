"""The integer state that digests cover."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from entropy.small import small_model
from torch import nn

from triode.entropy.exact.layers import ExactConv2d
from triode.entropy.exact.state import TableBuffer, entropy_state
from triode.entropy.gaussian import gaussian_tables
from triode.entropy.tables import CdfTables
from triode.errors import UnsupportedError


def test_state_is_sorted_integers_of_exact_modules_only() -> None:
    model = nn.Module()
    model.b = nn.Sequential(ExactConv2d(nn.Conv2d(2, 3, 1)), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    model.a = TableBuffer()
    state = entropy_state(model)
    assert list(state) == ["a.masses", "a.offsets", "a.sizes", "b.0.bias", "b.0.shift", "b.0.weight"]
    assert not any(t.is_floating_point() for t in state.values())
    assert list(entropy_state(model.a)) == ["masses", "offsets", "sizes"]


def test_tables_travel_by_state_dict() -> None:
    source, target = TableBuffer(), TableBuffer()
    with pytest.raises(UnsupportedError, match="no tables yet"):
        source.get()
    source.set(gaussian_tables())
    target.set(CdfTables.from_pmfs([np.ones(2)], [5]))
    target.get()
    target.load_state_dict(source.state_dict())
    assert np.array_equal(target.get().masses, source.get().masses)
    assert np.array_equal(target.get().offsets, source.get().offsets)
    assert target.get() is target.get()


def test_tables_are_a_copy() -> None:
    tables = gaussian_tables()
    buffer = TableBuffer()
    buffer.set(tables)
    tables.masses[:] = 7
    buffer._tables = None
    assert buffer.get().masses.max() > 7
    buffer.masses.zero_()
    assert buffer.get().masses.max() > 7


def test_bad_tables_are_refused_when_used() -> None:
    buffer = TableBuffer()
    state = {"masses": torch.ones(4), "sizes": torch.tensor([4]), "offsets": torch.tensor([0])}
    buffer.load_state_dict(state)
    with pytest.raises(ValueError, match="int32"):
        buffer.get()


def test_used_models_can_be_copied() -> None:
    model = small_model()
    model.entropy.prior.tables.get().model(0)
    clone = copy.deepcopy(model)
    a, b = entropy_state(model), entropy_state(clone)
    assert list(a) == list(b)
    assert all(torch.equal(a[name], b[name]) for name in a)
