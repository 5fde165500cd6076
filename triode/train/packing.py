"""Frames of video as training data carries them: one tensor, six planes of half the size a frame.

The planes are the four samples of luma around each of chroma, row by row, then Cb and Cr.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from triode.models.base import Yuv

__all__ = ["STEPS", "normalised", "packed", "packed_planes", "samples", "unpacked"]

STEPS: Final = (219.0,) * 4 + (224.0,) * 2
"""Steps of 8-bit samples in the limited range for one unit as models see it, by plane."""

_OFFSETS: Final = (16.0,) * 4 + (128.0,) * 2


def packed(frames: Sequence[Yuv]) -> Tensor:
    """Return frames, (B, 1, H, W) and (B, 2, H / 2, W / 2) each, as (B, T, 6, H / 2, W / 2)."""
    return torch.stack([torch.cat([F.pixel_unshuffle(frame.y, 2), frame.uv], 1) for frame in frames], 1)


def packed_planes(y: NDArray[np.uint8], uv: NDArray[np.uint8]) -> Tensor:
    """Return planes (T, H, W) and (T, 2, H / 2, W / 2) uint8 as (T, 6, H / 2, W / 2) uint8."""
    luma = F.pixel_unshuffle(torch.from_numpy(y.copy())[:, None], 2)
    return torch.cat([luma, torch.from_numpy(uv.copy())], 1)


def unpacked(batch: Tensor) -> tuple[Yuv, ...]:
    """Undo :func:`packed`."""
    return tuple(Yuv(F.pixel_shuffle(frame[:, :4], 2), frame[:, 4:]) for frame in batch.unbind(1))


def normalised(batch: Tensor) -> Tensor:
    """Return 8-bit samples of the limited range, (..., 6, h, w), as models see them: black 0, white 1; float32."""
    return (batch.float() - _planes(_OFFSETS, batch)) / _planes(STEPS, batch)


def samples(batch: Tensor) -> Tensor:
    """Undo :func:`normalised`: round to uint8, what leaves the 8 bits clipped."""
    return (batch * _planes(STEPS, batch) + _planes(_OFFSETS, batch)).round().clamp(0, 255).to(torch.uint8)


def _planes(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None]
