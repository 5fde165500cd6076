"""Samples of video as models see them: from 8 bits in either range to black 0 and white 1, padded, and back."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from triode.models.base import Yuv

__all__ = ["Planes", "from_planes", "to_planes"]

Plane = NDArray[np.uint8]
Planes = tuple[Plane, Plane, Plane]
"""Y, Cb and Cr of one frame: (H, W), and twice (ceil(H / 2), ceil(W / 2)), uint8."""

_BLACK: Final = 16.0
_LUMA: Final = 219.0
_CHROMA: Final = 224.0
_WHOLE: Final = 255.0
_NEUTRAL: Final = 128.0


def from_planes(planes: Planes, size: tuple[int, int], *, full_range: bool) -> Yuv:
    """Return a frame for a model, its borders repeated up to a size.

    Args:
        planes: The samples.
        size: Rows and columns of luma wanted, even and at least those there are.
        full_range: Whether luma runs from 0 to 255 rather than 16 to 235.

    Returns:
        The frame, batch size 1.
    """
    y = _pad(planes[0][None], size)
    uv = _pad(np.stack(planes[1:]), (size[0] // 2, size[1] // 2))
    if full_range:
        return Yuv(y / _WHOLE, (uv - _NEUTRAL) / _WHOLE)
    return Yuv((y - _BLACK) / _LUMA, (uv - _NEUTRAL) / _CHROMA)


def to_planes(frame: Yuv, size: tuple[int, int], *, full_range: bool) -> Planes:
    """Return the samples of a frame, batch size 1, cut to `size` rows and columns of luma."""
    height, width = size
    y = frame.y[0, 0, :height, :width]
    uv = frame.uv[0, :, : (height + 1) // 2, : (width + 1) // 2]
    if full_range:
        y, uv = y * _WHOLE, uv * _WHOLE + _NEUTRAL
    else:
        y, uv = y * _LUMA + _BLACK, uv * _CHROMA + _NEUTRAL
    u, v = _round(uv)
    return _round(y), u, v


def _pad(planes: Plane, size: tuple[int, int]) -> Tensor:
    """Return (1, C, H, W) float of planes (C, h, w)."""
    x = torch.from_numpy(np.ascontiguousarray(planes))[None].float()
    return F.pad(x, (0, size[1] - x.shape[3], 0, size[0] - x.shape[2]), mode="replicate")


def _round(x: Tensor) -> Plane:
    samples: Plane = x.round().clamp(0, _WHOLE).to(torch.uint8).contiguous().numpy()
    return samples
