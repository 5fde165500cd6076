"""Clips made of photos: motion of known size, low-passed, and the same for the same generator."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from triode.train.images import build_cache
from triode.train.motion import PhotoMotion, Trajectory, render
from triode.train.packing import normalised, unpacked


def wave(height: int, width: int, fx: float, fy: float, dx: float = 0.0, dy: float = 0.0) -> torch.Tensor:
    """A plane wave about the centre of a raster, moved by (dx, dy)."""
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = y - (height - 1) / 2 - dy, x - (width - 1) / 2 - dx
    return torch.from_numpy(np.sin(2 * math.pi * (fx * x + fy * y) + 1)).float()[None]


class TestRender:
    def test_standing_still_copies(self):
        source = wave(40, 60, 0.11, 0.07)
        path = Trajectory(np.zeros((2, 2)), np.ones(2), np.zeros(2))
        picture = render(source, path.maps(), 20, "reflection")
        assert picture.shape == (2, 1, 20, 20)
        assert torch.allclose(picture[1], source[:, 10:30, 20:40], atol=1e-4)

    def test_moves_by_fractions_of_pixels(self):
        source = wave(60, 60, 0.05, 0.03)
        path = Trajectory(np.array([[0.3, -1.7], [2.5, 0.25]]), np.ones(2), np.zeros(2))
        picture = render(source, path.maps(), 16, "reflection")
        for frame, (dx, dy) in zip(picture, path.offset, strict=True):
            assert float((frame - wave(16, 16, 0.05, 0.03, -dx, -dy)).abs().max()) < 0.03

    def test_zooms_and_turns(self):
        angle, zoom = math.radians(20), 0.8
        picture = render(
            wave(80, 60, 0.05, 0.0),
            Trajectory(np.zeros((1, 2)), np.array([zoom]), np.array([angle])).maps(),
            24,
            "zeros",
        )
        expected = wave(24, 24, 0.05 * zoom * math.cos(angle), -0.05 * zoom * math.sin(angle))
        assert float((picture[0] - expected).abs().max()) < 0.03

    def test_outside(self):
        path = Trajectory(np.array([[-100.0, 0.0]]), np.ones(1), np.zeros(1))
        assert float(render(torch.ones(1, 8, 8), path.maps(), 8, "zeros").abs().max()) == 0
        assert torch.allclose(render(torch.ones(1, 8, 8), path.maps(), 8, "reflection"), torch.ones(1, 1, 8, 8))


@pytest.fixture(scope="module")
def motion(photos: Path, cache: Path) -> PhotoMotion:
    found = build_cache(photos, cache)
    return PhotoMotion(found, list(range(len(found))))


class TestClips:
    def test_depend_on_the_generator_alone(self, motion):
        one, two, three = (motion.clip(np.random.default_rng(seed), 3, 64) for seed in (1, 1, 2))
        assert one.shape == (3, 6, 32, 32)
        assert one.dtype == torch.uint8
        assert torch.equal(one, two)
        assert not torch.equal(one, three)

    def test_hold_photos_in_the_limited_range(self, motion):
        clips = torch.cat([motion.clip(np.random.default_rng(seed), 2, 64) for seed in range(12)])
        luma, chroma = clips[:, :4].float(), clips[:, 4:].float()
        assert 60 < float(luma.mean()) < 180
        assert 100 < float(chroma.mean()) < 156
        assert float(luma.std((1, 2, 3)).min()) > 3
        assert float(((luma < 10) | (luma > 240)).float().mean()) < 0.01

    def test_motion_is_smooth(self, motion):
        """Frames differ more the further they are apart; some clips stand still, but for what moves before them."""
        near, far, still = 0.0, 0.0, 0
        for seed in range(30):
            frames = unpacked(normalised(motion.clip(np.random.default_rng(seed), 5, 48)[None]))
            near += float((frames[1].y - frames[0].y).abs().mean())
            far += float((frames[4].y - frames[0].y).abs().mean())
            change = (frames[1].y - frames[0].y).abs().amax((0, 1))
            still += float(change.median()) == 0
        assert 0 < 1.3 * near < far < 4 * near
        assert 1 <= still <= 15

    def test_photos_smaller_than_the_crop(self, motion):
        clip = motion.clip(np.random.default_rng(0), 9, 160)
        assert clip.shape == (9, 6, 80, 80)
        assert float(clip[:, :4].float().std()) > 3

    def test_needs_a_photo(self, motion):
        with pytest.raises(ValueError, match="images"):
            PhotoMotion(motion.cache, [])
