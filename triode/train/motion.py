"""Clips made of photos: a camera that pans, zooms and turns over one photo, pieces of others moving before it.

There is far less video to train on than there are photos, and what there is was coded before, which shows in its
residuals. Motion is smooth and of any fraction of a pixel; what is uncovered, fades and noise are there to be learnt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from triode.models.video.colour import rgb_to_yuv
from triode.train.images import ImageCache
from triode.train.packing import STEPS, packed, samples

__all__ = ["PhotoMotion", "Trajectory", "render"]

_LARGEST_SCALE: Final = 2.5
_HARMONICS: Final = 4
_EDGE: Final = 1.5


@dataclass(frozen=True, slots=True)
class Trajectory:
    """How a camera or a thing moves: every coordinate is a parabola of time.

    Attributes:
        offset: (T, 2) pixels, x and y.
        zoom: (T,) source pixels to one of the picture.
        angle: (T,) radians.
    """

    offset: NDArray[np.float64]
    zoom: NDArray[np.float64]
    angle: NDArray[np.float64]

    def maps(self) -> NDArray[np.float64]:
        """Return the maps (T, 2, 3) from pixels about the centre of the picture to pixels about that of the source."""
        cos, sin = self.zoom * np.cos(self.angle), self.zoom * np.sin(self.angle)
        rows = [np.stack([cos, -sin, self.offset[:, 0]], 1), np.stack([sin, cos, self.offset[:, 1]], 1)]
        return np.stack(rows, 1)


def render(source: Tensor, maps: NDArray[np.float64], size: int, outside: Literal["reflection", "zeros"]) -> Tensor:
    """Look at a source through maps that do not magnify by less than one, so that nothing aliases.

    Args:
        source: (C, h, w) float.
        maps: (T, 2, 3), from pixels about the picture's centre to pixels about the source's.
        size: Side of the picture in pixels.
        outside: What lies outside of the source.

    Returns:
        (T, C, size, size) float, by bicubic interpolation.
    """
    channels, height, width = source.shape
    # Both grids run from -1 to 1, whatever their sizes.
    theta = maps * np.array([2 / width, 2 / height])[:, None] * np.array([size / 2, size / 2, 1.0])
    shape = [len(maps), channels, size, size]
    grid = F.affine_grid(torch.from_numpy(theta).float(), shape, align_corners=False)
    sources = source[None].expand(len(maps), -1, -1, -1)
    return F.grid_sample(sources, grid, mode="bicubic", padding_mode=outside, align_corners=False)


class PhotoMotion:
    """Makes clips of photos. Everything is drawn from a given generator.

    The camera stands still in a quarter of the clips; the others pan with a speed of up to ``speed`` pixels a frame on
    average over clips, many zoom by up to 2 % and turn by up to one degree a frame, all of it faster or slower as the
    clip goes on. No, one or two things of soft outline move before it in ways of their own. A seventh of the clips
    fades, a third has noise of up to three steps of 8 bits.

    Args:
        cache: The photos.
        images: Which photos of the cache to use.
        speed: Mean speed in pixels a frame of cameras that move, and of things.
    """

    def __init__(self, cache: ImageCache, images: list[int], speed: float = 3.0) -> None:
        if not images:
            raise ValueError("Argument `images` must name a photo")
        self.cache, self.images, self.speed = cache, np.array(images), speed

    def clip(self, rng: np.random.Generator, frames: int, size: int) -> Tensor:
        """Make a clip.

        Args:
            rng: Source of everything random.
            frames: Its length T.
            size: Side in pixels, even.

        Returns:
            (T, 6, size / 2, size / 2) uint8, see :mod:`triode.train.packing`: BT.709 in the limited range.
        """
        camera = self._path(rng, frames, still=rng.random() < 0.25)
        picture = self._background(rng, camera, size)
        for _ in range(rng.choice(3, p=(0.4, 0.4, 0.2))):
            layer = self._thing(rng, frames, size)
            picture = picture * (1 - layer[:, 3:]) + layer[:, :3]
        picture = picture.clamp_(0, 1)
        if rng.random() < 1 / 7:
            gain = np.linspace(1, rng.uniform(0.6, 1.2), frames)[:: 1 if rng.random() < 0.5 else -1]
            picture *= torch.from_numpy(gain.copy()).float()[:, None, None, None]
        video = packed([rgb_to_yuv(picture, "bt709")])[:, 0]
        if rng.random() < 1 / 3:
            noise = rng.standard_normal((frames, 4, size // 2, size // 2), np.float32)
            video[:, :4] += torch.from_numpy(noise) * float(rng.uniform(0, 3) / STEPS[0])
        return samples(video)

    def _path(self, rng: np.random.Generator, frames: int, *, still: bool) -> Trajectory:
        t = np.arange(frames) - (frames - 1) / 2
        if still:
            return Trajectory(np.zeros((frames, 2)), np.ones(frames), np.zeros(frames))

        def parabola(speed: float) -> NDArray[np.float64]:
            bend: float = rng.uniform(-0.5, 0.5) * speed / max(frames, 4)
            curve: NDArray[np.float64] = speed * t + bend * t**2
            return curve

        speed, towards = rng.exponential(self.speed), rng.uniform(0, 2 * math.pi)
        offset = np.stack([parabola(speed * math.cos(towards)), parabola(speed * math.sin(towards))], 1)
        zoom = parabola(rng.uniform(-0.02, 0.02) * (rng.random() < 0.5))
        angle = parabola(math.radians(rng.uniform(-1, 1)) * (rng.random() < 0.5))
        # Never more source pixels than picture pixels: the source was brought to its size with a proper filter.
        return Trajectory(offset, np.exp(zoom - zoom.max()), angle)

    def _source(self, rng: np.random.Generator, width: float, height: float) -> Tensor:
        """Return a random piece of a random photo, (3, h, w) in [0, 1], of this size or what the photo has of it."""
        image = self.cache.image(int(rng.choice(self.images)))
        rows, columns = image.shape[:2]
        room = min(rows / height, columns / width, _LARGEST_SCALE)
        scale = math.exp(rng.uniform(0, math.log(room))) if room > 1 else 1.0
        tall, wide = min(math.ceil(height * scale), rows), min(math.ceil(width * scale), columns)
        top, left = int(rng.integers(0, rows - tall + 1)), int(rng.integers(0, columns - wide + 1))
        piece = image[top : top + tall, left : left + wide]
        if scale > 1:
            shape = (max(round(wide / scale), 1), max(round(tall / scale), 1))
            whole = Image.fromarray(np.ascontiguousarray(piece))
            piece = np.asarray(whole.resize(shape, Image.Resampling.BICUBIC))
        return torch.from_numpy(np.array(piece)).permute(2, 0, 1).float() / 255

    def _background(self, rng: np.random.Generator, camera: Trajectory, size: int) -> Tensor:
        maps = camera.maps()
        corners = np.array([[x, y, 1] for x in (-size / 2, size / 2) for y in (-size / 2, size / 2)])
        seen = np.einsum("tij,cj->tci", maps, corners).reshape(-1, 2)
        low, high = seen.min(0), seen.max(0)
        maps[:, :, 2] -= (low + high) / 2
        # Two pixels more each way for the interpolation.
        width, height = np.ceil(high - low) + 4
        return render(self._source(rng, float(width), float(height)), maps, size, "reflection")

    def _thing(self, rng: np.random.Generator, frames: int, size: int) -> Tensor:
        """Return a layer (T, 4, size, size): colours times opacity, then opacity."""
        side = int(rng.uniform(size / 6, size / 1.5))
        source = self._source(rng, side, side)
        mask = _blob(rng, source.shape[1], source.shape[2])
        path = self._path(rng, frames, still=False)
        place = rng.uniform(-size / 2, size / 2, 2)
        # The path is that of the thing in the picture; the map goes the other way.
        maps = path.maps()
        maps[:, :, 2] = np.einsum("tij,tj->ti", maps[:, :, :2], -(path.offset + place))
        layer = render(torch.cat([source * mask, mask]), maps, size, "zeros")
        return layer.clamp_(0, 1)


def _blob(rng: np.random.Generator, height: int, width: int) -> Tensor:
    """Return the opacity (1, h, w) of a thing: a circle with a few waves around it, its edge a few pixels soft."""
    y, x = np.mgrid[:height, :width]
    y, x = (y - (height - 1) / 2), (x - (width - 1) / 2)
    around, radius = np.arctan2(y, x), np.hypot(x, y)
    edge = np.full_like(radius, 0.65)
    for n in range(2, 2 + _HARMONICS):
        edge += rng.uniform(0, 0.25) / n * np.cos(n * around + rng.uniform(0, 2 * math.pi))
    soft = rng.uniform(0.3, 1.0) * _EDGE
    inside = (np.minimum(edge, 0.9) * min(height, width) / 2 - radius) / soft
    return torch.from_numpy(1 / (1 + np.exp(-np.clip(4 * inside, -30, 30)))).float()[None]
