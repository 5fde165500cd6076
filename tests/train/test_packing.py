"""Frames in one tensor: six planes of half the size, in 8 bits or as models see them."""

from __future__ import annotations

import numpy as np
import torch

from triode.codecs.planes import from_planes
from triode.models.base import Yuv
from triode.train.packing import normalised, packed, samples, unpacked


def test_planes_are_the_four_samples_of_luma_and_chroma():
    y = torch.arange(2 * 4 * 6).reshape(2, 1, 4, 6).float()
    uv = 100 + torch.arange(2 * 2 * 2 * 3).reshape(2, 2, 2, 3).float()
    batch = packed([Yuv(y, uv), Yuv(-y, -uv)])
    assert batch.shape == (2, 2, 6, 2, 3)
    assert torch.equal(batch[:, 1], -batch[:, 0])
    for plane, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        assert torch.equal(batch[:, 0, plane], y[:, 0, row::2, column::2])
    assert torch.equal(batch[:, 0, 4:], uv)
    first, second = unpacked(batch)
    assert torch.equal(first.y, y)
    assert torch.equal(second.uv, -uv)


def test_scale_is_that_of_the_codec():
    rng = np.random.default_rng(0)
    y, u, v = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((8, 12), (4, 6), (4, 6)))
    expected = from_planes((y, u, v), (8, 12), full_range=False)
    as_bytes = Yuv(torch.from_numpy(y)[None, None], torch.from_numpy(np.stack([u, v]))[None])
    batch = packed([as_bytes])
    (frame,) = unpacked(normalised(batch))
    assert torch.allclose(frame.y, expected.y, atol=1e-6)
    assert torch.allclose(frame.uv, expected.uv, atol=1e-6)
    assert torch.equal(samples(normalised(batch)), batch)


def test_samples_are_clipped():
    extreme = torch.tensor([-5.0, 5.0])[:, None, None, None].expand(2, 6, 1, 1)
    assert samples(extreme).flatten().tolist() == [0] * 6 + [255] * 6
