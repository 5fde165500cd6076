"""Structural similarity at one scale (SSIM) and at five (MS-SSIM), as published figures are computed."""

from __future__ import annotations

import functools
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from triode.eval.metrics.base import MetricInfo
from triode.eval.metrics.images import CAP_DB, ImageMetric, image_pair, register_image

__all__ = ["MSSSIM", "MSSSIMDB", "SSIM", "ms_ssim", "ms_ssim_db", "ssim"]

_K1: Final = 0.01
_K2: Final = 0.03
_TAPS: Final = 11
_SIGMA: Final = 1.5
_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_MIN_SIDE: Final = (_TAPS - 1) * 2 ** (len(_WEIGHTS) - 1) + 1
_SSIM_SOURCE: Final = "Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, IEEE TIP 13(4), 2004"
_SOURCE: Final = "Z. Wang, E. P. Simoncelli, A. C. Bovik, Asilomar 2003"


@functools.cache
def _window() -> Tensor:
    window = torch.exp(-(torch.arange(-(_TAPS // 2), _TAPS // 2 + 1).double() ** 2) / (2 * _SIGMA**2))
    return window / window.sum()


def _similarities(x: Tensor, y: Tensor, peak: float) -> tuple[Tensor, Tensor]:
    """Return, for planes (N, 1, H, W), the means over the plane of SSIM and of its contrast-structure term, (N,) each.

    Only the sum s and the difference d of the images are filtered, four maps in place of five: the variances of x and
    y add up to ``(var s + var d) / 2`` and four covariances make ``var s - var d``. Samples are centred first, so that
    float32 loses little where a variance is the difference of two large numbers.
    """
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    total, gap = x + y - peak, x - y
    maps = torch.cat([total, gap, total.square(), gap.square()], 1)
    maps = maps.contiguous(memory_format=torch.channels_last)  # filters ten times faster on a CPU
    window = _window().to(x.device, x.dtype).repeat(4, 1, 1)
    filtered = F.conv2d(F.conv2d(maps, window[:, :, None], groups=4), window[..., None], groups=4)
    mean_s, mean_d, square_s, square_d = filtered.contiguous().chunk(4, 1)
    var_s, var_d = square_s - mean_s.square(), square_d - mean_d.square()
    square_s, square_d = (mean_s + peak).square(), mean_d.square()
    contrast = ((var_s - var_d) / 2 + c2) / ((var_s + var_d) / 2 + c2)
    luminance = ((square_s - square_d) / 2 + c1) / ((square_s + square_d) / 2 + c1)
    return (luminance * contrast).mean((1, 2, 3), dtype=torch.float64), contrast.mean((1, 2, 3), dtype=torch.float64)


def _prepare(preds: Tensor, target: Tensor, data_range: float | None, min_side: int) -> tuple[Tensor, Tensor, float]:
    preds, target, peak = image_pair(preds, target, data_range)
    if min(preds.shape[2:]) < min_side:
        raise ValueError(f"Images must be at least {min_side} x {min_side} pixels, but got {tuple(preds.shape[2:])}")
    dtype = torch.float64 if torch.float64 in (preds.dtype, target.dtype) else torch.float32
    return preds.to(dtype), target.to(dtype), peak


def ssim(preds: Tensor, target: Tensor, *, data_range: float | None = None) -> Tensor:
    """Structural similarity: 11 x 11 Gaussian window, sigma 1.5, K1 = 0.01, K2 = 0.03, no padding, no downsampling.

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE
    Transactions on Image Processing 13(4), 2004. Computed on each channel, then averaged over them.

    Args:
        preds: (B, C, H, W) or (C, H, W), at least 11 x 11 pixels, uint8 or floating point.
        target: The same shape and kind.
        data_range: Difference of the greatest and least value that a sample can have; 255 for uint8.

    Returns:
        (B,) float64 from -1 to 1, higher is better, 1 where the images are identical; computed in float32 unless an
        argument is float64.

    Raises:
        ValueError: If the arguments do not fit, or an image is too small.
    """
    preds, target, peak = _prepare(preds, target, data_range, _TAPS)
    planes = zip(preds.transpose(0, 1), target.transpose(0, 1), strict=True)
    return torch.stack([_similarities(x[:, None], y[:, None], peak)[0] for x, y in planes]).mean(0)


def _ms_ssim_planes(x: Tensor, y: Tensor, peak: float) -> Tensor:
    """Return MS-SSIM of planes (N, 1, H, W), (N,)."""
    found = x.new_ones(len(x), dtype=torch.float64)
    for scale, weight in enumerate(_WEIGHTS):
        if scale:
            # pytorch-msssim pads an odd side with zeros on both ends before it halves it: so do published figures.
            odd = [side % 2 for side in x.shape[2:]]
            x, y = F.avg_pool2d(x, 2, padding=odd), F.avg_pool2d(y, 2, padding=odd)
        whole, contrast = _similarities(x, y, peak)
        term = whole if scale == len(_WEIGHTS) - 1 else contrast
        found = found * term.clamp(min=0) ** weight
    return found


def ms_ssim(preds: Tensor, target: Tensor, *, data_range: float | None = None) -> Tensor:
    """Multi-scale structural similarity: five scales, each half the one before, with the weights of the paper.

    Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment", Asilomar 2003. Where
    the paper leaves a choice, it is made as in ``pytorch-msssim``, which published figures of learned codecs come from:
    window and constants of :func:`ssim`, no padding, halving by averages of 2 x 2 pixels, negative terms set to 0, the
    five scales multiplied for each channel and the channels averaged at the end.

    Args:
        preds: (B, C, H, W) or (C, H, W), at least 161 x 161 pixels, uint8 or floating point.
        target: The same shape and kind.
        data_range: Difference of the greatest and least value that a sample can have; 255 for uint8.

    Returns:
        (B,) float64 from 0 to 1, higher is better, 1 where the images are identical; computed in float32 unless an
        argument is float64.

    Raises:
        ValueError: If the arguments do not fit, or an image is too small.
    """
    preds, target, peak = _prepare(preds, target, data_range, _MIN_SIDE)
    planes = zip(preds.transpose(0, 1), target.transpose(0, 1), strict=True)  # one by one, for memory
    return torch.stack([_ms_ssim_planes(x[:, None], y[:, None], peak) for x, y in planes]).mean(0)


def ms_ssim_db(preds: Tensor, target: Tensor, *, data_range: float | None = None) -> Tensor:
    """MS-SSIM in decibels, ``-10 log10(1 - MS-SSIM)``, which spreads the values near 1 apart.

    Args:
        preds: As for :func:`ms_ssim`.
        target: The same shape and kind.
        data_range: As for :func:`ms_ssim`.

    Returns:
        (B,) float64 of at least 0 dB, higher is better, infinite where the images are identical.

    Raises:
        ValueError: As for :func:`ms_ssim`.
    """
    return (-10 * torch.log10(1 - ms_ssim(preds, target, data_range=data_range).clamp(max=1))).clamp(min=0)


@register_image
class SSIM(ImageMetric):
    """Class twin of :func:`ssim`."""

    info = MetricInfo("ssim", "SSIM (RGB)", "", ("image",), True, -1.0, 1.0, _SSIM_SOURCE)
    min_side = _TAPS

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one similarity an item."""
        return ssim(preds, target, data_range=self.data_range).tolist()


@register_image
class MSSSIM(ImageMetric):
    """Class twin of :func:`ms_ssim`."""

    info = MetricInfo("ms-ssim", "MS-SSIM (RGB)", "", ("image",), True, 0.0, 1.0, _SOURCE)
    min_side = _MIN_SIDE

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one similarity an item."""
        return ms_ssim(preds, target, data_range=self.data_range).tolist()


@register_image
class MSSSIMDB(ImageMetric):
    """Class twin of :func:`ms_ssim_db`, each item capped at 100 dB; its mean is the mean of the items' decibels."""

    info = MetricInfo(
        "ms-ssim-db", "MS-SSIM (RGB, dB)", "dB", ("image",), True, 0.0, CAP_DB, f"-10 log10(1 - MS-SSIM); {_SOURCE}"
    )
    min_side = _MIN_SIDE

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one value an item."""
        return ms_ssim_db(preds, target, data_range=self.data_range).clamp(max=CAP_DB).tolist()
