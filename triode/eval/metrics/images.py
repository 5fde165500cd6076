"""What the image metrics share: checks of their arguments, and the way from a class twin to the bench."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from triode.errors import UnsupportedError
from triode.eval.metrics.base import Metric, register_metric

__all__ = ["CAP_DB", "ImageMetric", "image_pair", "register_image"]

CAP_DB: Final = 100.0
"""What class twins and the bench report in place of more decibels than this, infinity included."""


def image_pair(preds: Tensor, target: Tensor, data_range: float | None) -> tuple[Tensor, Tensor, float]:
    """Check two batches of images, and find their range.

    Args:
        preds: (B, C, H, W) or (C, H, W), uint8 or floating point.
        target: The same shape and kind.
        data_range: Difference of the greatest and least value that a sample can have; 255 for uint8, where it may be
            left out.

    Returns:
        Both as (B, C, H, W), of the type that they had, and the range.

    Raises:
        ValueError: If the shapes or types do not fit, there is no sample, a sample is not finite, or the range is
            missing, not positive, or not 255 for uint8.
    """
    for name, x in (("preds", preds), ("target", target)):
        if x.ndim not in (3, 4) or x.numel() == 0:
            raise ValueError(
                f"Argument `{name}` must be (B, C, H, W) or (C, H, W), not empty, but got {tuple(x.shape)}"
            )
        if x.dtype != torch.uint8 and not x.is_floating_point():
            raise ValueError(f"Argument `{name}` must be uint8 or floating point, but got {x.dtype}")
    if preds.shape != target.shape:
        raise ValueError(f"Images must have one shape, but got {tuple(preds.shape)} and {tuple(target.shape)}")
    if preds.device != target.device:
        raise ValueError(f"Images must be on one device, but got {preds.device} and {target.device}")
    if (preds.dtype == torch.uint8) != (target.dtype == torch.uint8):
        raise ValueError(f"Images must both be uint8 or both floating point, but got {preds.dtype} and {target.dtype}")
    peak = _peak(preds.dtype, data_range)
    if preds.is_floating_point() and not bool(torch.isfinite(preds).all() and torch.isfinite(target).all()):
        raise ValueError("Samples must be finite, but got NaN or infinity")
    return (preds, target, peak) if preds.ndim == 4 else (preds[None], target[None], peak)


def _peak(dtype: torch.dtype, data_range: float | None) -> float:
    if dtype == torch.uint8:
        if data_range not in (None, 255):
            raise ValueError(f"Argument `data_range` must be 255 for uint8, but got {data_range}")
        return 255.0
    if data_range is None:
        raise ValueError("Argument `data_range` must be given for images in floating point, but got none")
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"Argument `data_range` must be positive and finite, but got {data_range}")
    return float(data_range)


class ImageMetric(Metric):
    """Class twin of a function of two batches of images.

    Args:
        data_range: As the function takes it; may be left out for uint8.

    Attributes:
        min_side: Least height and width that the metric can measure.
    """

    min_side: ClassVar[int] = 1

    def __init__(self, data_range: float | None = None) -> None:
        super().__init__()
        self.data_range = data_range


Twin = TypeVar("Twin", bound=type[ImageMetric])


def _tensor(pixels: Any) -> Tensor:
    array = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(f"Pixels must be (H, W, 3) uint8, but got {array.shape} {array.dtype}")
    return torch.from_numpy(array.copy()).permute(2, 0, 1)  # a copy, for the array may be read-only


def register_image(twin: Twin) -> Twin:
    """Register a class twin, made without arguments, as what the bench measures on pixels (H, W, 3) uint8.

    What it registers raises ``UnsupportedError`` for an image under ``min_side``, so that the bench goes on without.
    """

    def measure(decoded: Any, original: Any) -> float:
        preds, target = _tensor(decoded), _tensor(original)
        height, width = target.shape[1:]
        if min(height, width) < twin.min_side:
            raise UnsupportedError(
                f"{twin.info.name} needs images of at least {twin.min_side} x {twin.min_side} pixels, "
                f"but this one has {width} x {height}"
            )
        return twin().values(preds, target)[0]

    register_metric(twin.info)(measure)
    return twin
