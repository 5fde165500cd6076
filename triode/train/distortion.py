"""Distortions to train for, each scaled so that weights of rate points, made for squared errors, serve it too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from triode.eval.metrics.deep import lite0
from triode.eval.metrics.msssim import ms_ssim


class Distortion(nn.Module, ABC):
    """How far a reconstruction is from its picture, differentiably; without parameters or state.

    ``lambda(q) * scale * distortion`` is in bits per pixel: for every distortion about what
    ``lambda(q) * 255**2 * MSE`` is for a model trained for squared errors.

    Attributes:
        name: Name in configurations.
        scale: See above.
        label: Name of the readable figure in logs.
    """

    name: ClassVar[str]
    scale: ClassVar[float]
    label: ClassVar[str]

    @abstractmethod
    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Compare.

        Args:
            x_hat: Reconstruction (B, 3, H, W) float32, around [0, 1], unclamped.
            x: Picture, same shape, in [0, 1].

        Returns:
            (B,) float32, at least 0; NaN or infinite where the reconstruction is not finite.
        """

    def readable(self, distortion: Tensor) -> Tensor:
        """Return what logs show of distortions (B,); the same by default."""
        return distortion


class SquaredError(Distortion):
    """Mean squared error; logged as PSNR in dB."""

    name, scale, label = "mse", 255.0**2, "psnr"

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the mean squared error of samples in [0, 1], (B,)."""
        return (x_hat - x).square().mean((1, 2, 3))

    def readable(self, distortion: Tensor) -> Tensor:
        """Return PSNR in dB."""
        return -10 * torch.log10(distortion)


class StructuralSimilarity(Distortion):
    """1 - MS-SSIM; logged in dB. Sides of at least 161 pixels.

    CompressAI trained its models for MS-SSIM with 1222 to 1333 times the lambdas of those for squared errors; ``scale``
    lies between. At that scale the cost of a model trained for squared errors differs from the squared error's by 12 %
    at most, over all rate points.
    """

    name, scale, label = "ms-ssim", 1280.0, "ms_ssim_db"

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return 1 - MS-SSIM, (B,)."""
        if not bool(x_hat.isfinite().all()):
            return x_hat.mean((1, 2, 3))  # Not finite either, so that the trainer leaves the step out.
        # Variances are differences of large numbers, which bfloat16 has no digits for.
        with torch.autocast(x.device.type, enabled=False):
            return 1 - ms_ssim(x_hat, x, data_range=1.0).float()

    def readable(self, distortion: Tensor) -> Tensor:
        """Return MS-SSIM in dB."""
        return -10 * torch.log10(distortion)


class FeatureDistance(Distortion):
    """Distance between features of EfficientNet-Lite0; see :func:`triode.eval.metrics.deep.lite0`.

    The scale is a choice between the squared error's cost and this one's in a model trained for squared errors: 312
    would make them alike where HiFiC was trained (lambda 0.0023), 127 at the best rate point. It is close to the 427
    that HiFiC weighs LPIPS with against squared errors (Mentzer et al., NeurIPS 2020).

    The network is no part of this module, as checkpoints need not carry what never changes.
    """

    name, scale, label = "lite0", 256.0, "lite0"

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the distance, (B,); sides of at least 32 pixels.

        Raises:
            UnsupportedError: If the network's weights are not installed.
        """
        if not bool(x_hat.isfinite().all()):
            return x_hat.mean((1, 2, 3))
        with torch.autocast(x.device.type, enabled=False):
            return lite0(x_hat, x, data_range=1.0).float()


DISTORTIONS: Mapping[str, type[Distortion]] = {
    kind.name: kind for kind in (SquaredError, StructuralSimilarity, FeatureDistance)
}
"""Distortions by name."""


def create_distortion(name: str) -> Distortion:
    """Make a distortion.

    Args:
        name: One of :data:`DISTORTIONS`.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in DISTORTIONS:
        raise ValueError(f"Argument `distortion` must be of {', '.join(DISTORTIONS)}, but got {name!r}")
    return DISTORTIONS[name]()
