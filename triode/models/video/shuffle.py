"""Planes of YUV 4:2:0 as channels at 1/8 of the resolution, and orthonormal transforms of what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from triode.models.base import Yuv

__all__ = [
    "PLANES",
    "blocks_basis",
    "centred",
    "difference_components",
    "join",
    "natural",
    "shuffle",
    "split",
    "unshuffle",
]

PLANES: Final = 96
"""Channels of a shuffled frame: 64 of luma, 16 of each chroma."""
_LUMA: Final = 64
_CHROMA: Final = math.sqrt(2 / 3)
"""Scale of chroma: squared errors then add up, but for a factor of 0.75 / (H W), to (6 MSE_Y + MSE_U + MSE_V) / 8."""


def centred(frame: Yuv) -> tuple[Tensor, Tensor]:
    """Return luma and chroma around zero, chroma scaled."""
    return frame.y - 0.5, _CHROMA * frame.uv


def natural(y: Tensor, uv: Tensor) -> Yuv:
    """Undo :func:`centred`."""
    return Yuv(y + 0.5, uv * (1 / _CHROMA))


def join(y: Tensor, uv: Tensor) -> Tensor:
    """Return planes (B, 1, H, W) and (B, 2, H / 2, W / 2) as channels (B, 96, H / 8, W / 8)."""
    return torch.cat([F.pixel_unshuffle(y, 8), F.pixel_unshuffle(uv, 4)], 1)


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Undo :func:`join`."""
    return F.pixel_shuffle(x[:, :_LUMA], 8), F.pixel_shuffle(x[:, _LUMA:], 4)


def shuffle(frame: Yuv) -> Tensor:
    """Return a frame (B, 1, H, W) and (B, 2, H / 2, W / 2) as channels (B, 96, H / 8, W / 8) around zero."""
    return join(*centred(frame))


def unshuffle(x: Tensor) -> Yuv:
    """Undo :func:`shuffle`."""
    return natural(*split(x))


def _blocks(x: Tensor) -> Tensor:
    """Return the blocks of 2 x 2 positions of shuffled frames, (N, 384)."""
    return F.unfold(x, 2, stride=2).transpose(1, 2).flatten(0, 1)


def blocks_basis(count: int) -> tuple[Tensor, Tensor]:
    """Return cosines of 16x16 luma and 8x8 chroma blocks of low frequency, a quarter of them of chroma.

    Args:
        count: Number of components M, 8 to 256.

    Returns:
        Components (M, 96, 2, 2), orthonormal, and what deviations (M,) of differences may be like.

    Raises:
        ValueError: If the number is out of range.
    """
    if not 8 <= count <= 256:
        raise ValueError(f"Argument `count` must be in 8..256, but got {count}")
    chroma = count // 8
    luma, luma_order = _cosines(16, count - 2 * chroma)
    small, small_order = _cosines(8, chroma)
    none = torch.zeros
    parts = [
        shuffle(Yuv(luma + 0.5, none(len(luma), 2, 8, 8))),
        *(
            shuffle(Yuv(none(chroma, 1, 16, 16) + 0.5, F.pad(small, (0, 0, 0, 0, plane, 1 - plane)))) / _CHROMA
            for plane in (0, 1)
        ),
    ]
    orders = torch.cat([luma_order, small_order, small_order])
    return torch.cat(parts), 0.2 / (1 + orders)


def _cosines(size: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` lowest products of cosines (count, 1, size, size), orthonormal, and their frequencies."""
    k, n = torch.arange(size), torch.arange(size) + 0.5
    rows = torch.cos(math.pi / size * k[:, None] * n) * math.sqrt(2 / size)
    rows[0] *= math.sqrt(0.5)
    frequency = (k[:, None] + k).flatten()
    order = torch.argsort(frequency, stable=True)[:count]
    products = rows[order // size, :, None] * rows[order % size, None, :]
    return products[:, None], frequency[order].float()


@torch.no_grad()
def difference_components(clips: Iterable[Sequence[Yuv]], count: int) -> tuple[Tensor, Tensor]:
    """Find the leading principal components of differences of neighbouring frames, mirrored ones included.

    Args:
        clips: Frames in order, batches of any size, sides multiples of 16.
        count: Number of components M, up to 384.

    Returns:
        Components (M, 96, 2, 2), orthonormal, and their deviations (M,).

    Raises:
        ValueError: If there are no two frames in a row, or no such number of components.
    """
    size = 4 * PLANES
    if not 0 < count <= size:
        raise ValueError(f"Argument `count` must be in 1..{size}, but got {count}")
    covariance, total = torch.zeros(size, size, dtype=torch.float64), 0
    for clip in clips:
        for before, frame in pairwise(clip):
            difference = Yuv(frame.y - before.y + 0.5, frame.uv - before.uv)
            for axes in ((), (3,), (2,), (2, 3)):
                mirrored = Yuv(difference.y.flip(axes), difference.uv.flip(axes))
                for turned in (mirrored, Yuv(mirrored.y.mT, mirrored.uv.mT)):
                    blocks = _blocks(shuffle(turned))
                    covariance += (blocks.T @ blocks).double()
                    total += len(blocks)
    if not total:
        raise ValueError("Need a clip of at least two frames")
    values, vectors = torch.linalg.eigh(covariance / total)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    components = vectors.T.reshape(count, PLANES, 2, 2).float()
    return components, values.clamp_min(0).sqrt().float()
