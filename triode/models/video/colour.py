"""YUV 4:2:0 and RGB: what a model of images needs to code video, by the matrices of ITU-T H.273."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from triode.models.base import Yuv

__all__ = ["rgb_to_yuv", "yuv_to_rgb"]

_WEIGHTS: Final = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114)}


def yuv_to_rgb(frame: Yuv, matrix: str) -> Tensor:
    """Return RGB of frames, each chroma sample standing for its 2 x 2 luma samples.

    Args:
        frame: (B, 1, H, W) luma and (B, 2, H / 2, W / 2) chroma.
        matrix: ``bt709`` or ``bt601``.

    Returns:
        (B, 3, H, W) float, nominally in [0, 1], not clamped.

    Raises:
        ValueError: If there is no such matrix.
    """
    red, blue = _weights(matrix)
    cb, cr = F.interpolate(frame.uv, scale_factor=2, mode="nearest").chunk(2, 1)
    r = frame.y + 2 * (1 - red) * cr
    b = frame.y + 2 * (1 - blue) * cb
    g = (frame.y - red * r - blue * b) / (1 - red - blue)
    return torch.cat([r, g, b], 1)


def rgb_to_yuv(x: Tensor, matrix: str) -> Yuv:
    """Return frames of RGB (B, 3, H, W), H and W even; chroma is the mean of 2 x 2: what :func:`yuv_to_rgb` undoes.

    Raises:
        ValueError: If there is no such matrix.
    """
    red, blue = _weights(matrix)
    r, g, b = x.chunk(3, 1)
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = torch.cat([(b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))], 1)
    return Yuv(y, F.avg_pool2d(chroma, 2))


def _weights(matrix: str) -> tuple[float, float]:
    if matrix not in _WEIGHTS:
        raise ValueError(f"Argument `matrix` must be one of {', '.join(_WEIGHTS)}, but got {matrix!r}")
    return _WEIGHTS[matrix]
