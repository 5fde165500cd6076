"""Mean squared error and peak signal-to-noise ratio: of RGB, of luma, and of luma and chroma weighted 6:1:1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from triode.eval.metrics.base import MetricInfo
from triode.eval.metrics.images import CAP_DB, ImageMetric, image_pair, register_image

__all__ = ["MSE", "PSNR", "PSNRY", "PSNRYUV", "mse", "psnr", "psnr_of_mean_mse", "psnr_y", "psnr_yuv"]

_KR: Final = 0.2126
_KB: Final = 0.0722
# BT.709, full range, for differences of R'G'B': the offsets of the chroma planes cancel.
_TO_YUV: Final = (
    (_KR, 1 - _KR - _KB, _KB),
    (-_KR / (2 - 2 * _KB), (_KR + _KB - 1) / (2 - 2 * _KB), 0.5),
    (0.5, (_KR + _KB - 1) / (2 - 2 * _KR), -_KB / (2 - 2 * _KR)),
)
_YUV_WEIGHTS: Final = (6 / 8, 1 / 8, 1 / 8)


def _decibels(error: Tensor, data_range: float) -> Tensor:
    return 10 * torch.log10(data_range**2 / error)


def mse(preds: Tensor, target: Tensor, *, data_range: float | None = None) -> Tensor:
    """Mean squared error over all channels and pixels, in squared steps of the samples as they are given.

    Args:
        preds: (B, C, H, W) or (C, H, W), uint8 or floating point.
        target: The same shape and kind.
        data_range: As for :func:`psnr`; it is checked but does not scale the result.

    Returns:
        (B,) float64, from 0 (identical) to ``data_range ** 2``; exact for uint8.

    Raises:
        ValueError: If the arguments do not fit; see :func:`triode.eval.metrics.images.image_pair`.
    """
    preds, target, _ = image_pair(preds, target, data_range)
    return (preds.double() - target.double()).square().mean((1, 2, 3))


def psnr(preds: Tensor, target: Tensor, *, data_range: float | None = None) -> Tensor:
    """Peak signal-to-noise ratio ``10 log10(data_range^2 / MSE)``, the error taken over all channels and pixels.

    Args:
        preds: (B, C, H, W) or (C, H, W), uint8 or floating point.
        target: The same shape and kind.
        data_range: Difference of the greatest and least value that a sample can have; 255 for uint8.

    Returns:
        (B,) float64 in dB, higher is better, infinite where the images are identical.

    Raises:
        ValueError: If the arguments do not fit; see :func:`triode.eval.metrics.images.image_pair`.
    """
    *images, peak = image_pair(preds, target, data_range)
    return _decibels(mse(*images, data_range=peak), peak)


def psnr_of_mean_mse(mse_values: Sequence[float], data_range: float = 255.0) -> float:
    """PSNR of the mean of the items' squared errors, as opposed to the mean of the items' PSNRs.

    It is never greater than the mean of the PSNRs (Jensen), and the hardest items weigh most in it.

    Args:
        mse_values: One mean squared error an item, as :func:`mse` gives them.
        data_range: As for :func:`psnr`.

    Returns:
        dB, at most 100 (:data:`triode.eval.metrics.images.CAP_DB`); NaN where there is no item.

    Raises:
        ValueError: If an error is negative or not finite, or the range is not positive.
    """
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"Argument `data_range` must be positive and finite, but got {data_range}")
    if not all(math.isfinite(value) and value >= 0 for value in mse_values):
        raise ValueError(f"Argument `mse_values` must hold finite values of at least 0, but got {list(mse_values)}")
    if not mse_values:
        return math.nan
    mean = math.fsum(mse_values) / len(mse_values)
    return min(CAP_DB, 10 * math.log10(data_range**2 / mean)) if mean > 0 else CAP_DB


def _plane_psnrs(preds: Tensor, target: Tensor, data_range: float | None, planes: int) -> Tensor:
    """Return (B, planes): PSNRs of the first planes of Y'CbCr."""
    preds, target, peak = image_pair(preds, target, data_range)
    if preds.shape[1] != 3:
        raise ValueError(f"Images must have three channels (R, G, B), but got {preds.shape[1]}")
    matrix = torch.tensor(_TO_YUV[:planes], dtype=torch.float64, device=preds.device)
    errors = torch.einsum("bchw,pc->bphw", preds.double() - target.double(), matrix)
    return _decibels(errors.square().mean((2, 3)), peak)


def psnr_y(preds: Tensor, target: Tensor, *, data_range: float | None = None) -> Tensor:
    """PSNR of luma: ``Y' = 0.2126 R' + 0.7152 G' + 0.0722 B'`` (ITU-R BT.709, full range), not rounded.

    The matrix fits the primaries of sRGB. Papers on super-resolution use BT.601 in limited range, which differs.

    Args:
        preds: (B, 3, H, W) or (3, H, W) R'G'B', uint8 or floating point.
        target: The same shape and kind.
        data_range: As for :func:`psnr`.

    Returns:
        (B,) float64 in dB, infinite where luma is identical.

    Raises:
        ValueError: If the arguments do not fit; see :func:`triode.eval.metrics.images.image_pair`.
    """
    return _plane_psnrs(preds, target, data_range, 1)[:, 0]


def psnr_yuv(preds: Tensor, target: Tensor, *, data_range: float | None = None) -> Tensor:
    """Weighted mean ``(6 PSNR_Y + PSNR_Cb + PSNR_Cr) / 8`` in BT.709, full range, chroma not subsampled.

    The weights are those of Ohm et al., "Comparison of the coding efficiency of video coding standards", IEEE TCSVT
    22(12), 2012, where chroma has half the resolution.

    Args:
        preds: (B, 3, H, W) or (3, H, W) R'G'B', uint8 or floating point.
        target: The same shape and kind.
        data_range: As for :func:`psnr`.

    Returns:
        (B,) float64 in dB, infinite where a plane is identical.

    Raises:
        ValueError: If the arguments do not fit; see :func:`triode.eval.metrics.images.image_pair`.
    """
    return _weigh(_plane_psnrs(preds, target, data_range, 3))


def _weigh(planes: Tensor) -> Tensor:
    return (planes * planes.new_tensor(_YUV_WEIGHTS)).sum(1)


@register_image
class MSE(ImageMetric):
    """Class twin of :func:`mse`."""

    info = MetricInfo(
        "mse", "MSE (RGB, 8-bit)", "", ("image",), False, 0.0, 255.0**2, "mean squared error over R, G, B"
    )

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one error an item."""
        return mse(preds, target, data_range=self.data_range).tolist()


@register_image
class PSNR(ImageMetric):
    """Class twin of :func:`psnr`, each item capped at 100 dB; its mean is the mean of the items' PSNRs."""

    info = MetricInfo("psnr", "PSNR (RGB)", "dB", ("image",), True, 0.0, CAP_DB, "10 log10(255^2 / MSE over R, G, B)")

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one ratio an item."""
        return psnr(preds, target, data_range=self.data_range).clamp(max=CAP_DB).tolist()


@register_image
class PSNRY(ImageMetric):
    """Class twin of :func:`psnr_y`, each item capped at 100 dB."""

    info = MetricInfo("psnr-y", "PSNR (luma)", "dB", ("image",), True, 0.0, CAP_DB, "luma of ITU-R BT.709, full range")

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one ratio an item."""
        return psnr_y(preds, target, data_range=self.data_range).clamp(max=CAP_DB).tolist()


@register_image
class PSNRYUV(ImageMetric):
    """Class twin of :func:`psnr_yuv`, each plane of each item capped at 100 dB before they are weighed."""

    info = MetricInfo(
        "psnr-yuv",
        "PSNR (YUV 6:1:1)",
        "dB",
        ("image",),
        True,
        0.0,
        CAP_DB,
        "weights of J.-R. Ohm et al., IEEE TCSVT 22(12), 2012; planes of ITU-R BT.709, full range, 4:4:4",
    )

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one weighted mean an item."""
        return _weigh(_plane_psnrs(preds, target, self.data_range, 3).clamp(max=CAP_DB)).tolist()
