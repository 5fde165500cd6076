import itertools

import pytest
import torch

from triode.models.layers.audio.streaming import stream


def pieces_of(x, sizes):
    """Cut the last axis into pieces whose lengths go round in `sizes`."""
    pieces, at, lengths = [], 0, itertools.cycle(sizes)
    while at < x.shape[-1]:
        size = next(lengths)
        pieces.append(x[..., at : at + size])
        at += size
    return pieces or [x]


@pytest.fixture
def assert_streams():
    """Check that a module gives for pieces of its input what it gives for the whole, and return that."""

    def check(module, x, sizes, tolerance=1e-5):
        assert any(sizes)
        with torch.no_grad():
            whole = module(x)
            parts = list(stream(module, pieces_of(x, sizes)))
        y = torch.cat(parts, -1)
        assert y.shape == whole.shape
        assert torch.allclose(y, whole, atol=tolerance, rtol=tolerance), float((y - whole).abs().max())
        return whole

    return check
