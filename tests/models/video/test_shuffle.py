"""Frames as channels, and orthonormal transforms of them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models.learned_video import moving_frames

from triode.models.base import Yuv
from triode.models.video.shuffle import blocks_basis, difference_components, shuffle, unshuffle


def random_frame(height=32, width=48, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    y = torch.rand((batch, 1, height, width), generator=generator)
    return Yuv(y, torch.rand((batch, 2, height // 2, width // 2), generator=generator) - 0.5)


def test_there_and_back():
    frame = random_frame()
    x = shuffle(frame)
    assert x.shape == (2, 96, 4, 6)
    back = unshuffle(x)
    assert torch.allclose(back.y, frame.y, atol=1e-6)
    assert torch.allclose(back.uv, frame.uv, atol=1e-6)


def test_squared_errors_are_those_of_the_distortion():
    one, other = random_frame(), random_frame(seed=1)
    expected = (
        6 * (one.y - other.y).square().mean()
        + (one.uv[:, 0] - other.uv[:, 0]).square().mean()
        + (one.uv[:, 1] - other.uv[:, 1]).square().mean()
    ) / 8
    squares = (shuffle(one) - shuffle(other)).square().sum() / one.y.numel()
    assert float(0.75 * squares) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("count", [8, 16, 128, 256])
def test_cosines_are_orthonormal(count):
    basis, deviations = blocks_basis(count)
    flat = basis.flatten(1)
    assert basis.shape == (count, 96, 2, 2)
    assert torch.allclose(flat @ flat.T, torch.eye(count), atol=1e-5)
    assert deviations.shape == (count,)
    assert bool((deviations > 0).all())


def test_cosines_keep_what_is_smooth():
    """A slope in luma, flat chroma: nearly all of it lies in the low frequencies, and comes back."""
    ramp = torch.linspace(0, 1, 32)
    frame = Yuv((ramp[:, None] * ramp)[None, None], torch.full((1, 2, 16, 16), 0.2))
    basis, _ = blocks_basis(128)
    y = F.conv2d(shuffle(frame), basis, stride=2)
    back = unshuffle(F.conv_transpose2d(y, basis, stride=2))
    assert torch.allclose(back.y, frame.y, atol=0.01)
    assert torch.allclose(back.uv, frame.uv, atol=1e-5)


@pytest.mark.parametrize("count", [7, 257])
def test_cosines_have_a_range(count):
    with pytest.raises(ValueError, match="count"):
        blocks_basis(count)


def test_components_of_differences():
    """Against NumPy, on the differences of all frames, turned and mirrored."""
    clips = [moving_frames(3, 32, 48), moving_frames(2, 32, 32, batch=2)]
    components, deviations = difference_components(clips, 24)
    flat = components.flatten(1)
    assert torch.allclose(flat @ flat.T, torch.eye(24), atol=1e-5)
    assert bool((deviations.diff() <= 1e-6).all())
    blocks = []
    for clip in clips:
        for a, b in pairwise(clip):
            y, uv = (b.y - a.y).numpy(), (b.uv - a.uv).numpy()
            for turn in range(8):

                def moved(p, turn=turn):
                    p = np.rot90(p, turn % 4, (2, 3))
                    return np.ascontiguousarray(p[..., ::-1] if turn >= 4 else p)

                whole = shuffle(Yuv(torch.from_numpy(moved(y)) + 0.5, torch.from_numpy(moved(uv)))).numpy()
                n, c, h, w = whole.shape
                whole = whole.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 4 * c)
                blocks.append(whole)
    blocks = np.concatenate(blocks).astype(np.float64)
    values = np.linalg.eigvalsh(blocks.T @ blocks / len(blocks))[::-1][:24]
    assert np.allclose(deviations.numpy(), np.sqrt(np.maximum(values, 0)), atol=1e-4)
    along = np.sqrt(np.square(blocks @ flat.numpy().T).mean(0))
    assert np.allclose(along, deviations.numpy(), atol=1e-4)


def test_components_need_two_frames():
    with pytest.raises(ValueError, match="two frames"):
        difference_components([moving_frames(1)], 8)
    with pytest.raises(ValueError, match="count"):
        difference_components([moving_frames(2)], 385)
