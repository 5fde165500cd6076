"""Layers that do in one what would be two: where latents are small, calls cost more than what they compute."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.exact.layers import ExactConv2d, ExactRateBias, ExactRateGain, ExactRows, register_twin, saturate
from triode.entropy.rate import RateBias, RateGain


class RectifiedConv2d(nn.Conv2d):
    """A convolution and a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, I, H, W); what is negative becomes zero."""
        return F.relu(super().forward(x))


class RateAffine(nn.Module):
    """Scale channels by a gain of the rate point, then add a bias of it.

    Args:
        channels: Number of channels C.
        anchors: Number of learned rate points.
    """

    def __init__(self, channels: int, anchors: int = 8) -> None:
        super().__init__()
        self.gain = RateGain(channels, anchors)
        self.bias = RateBias(channels, anchors)

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W) at rate points ``q`` (B,)."""
        out: Tensor = self.bias(self.gain(x, q), q)
        return out


class ExactRateAffine(ExactRows):
    """Integer twin of :class:`RateAffine`: ``clamp(floor(x * G * 2**-16) + b)``.

    Args:
        source: The float module.

    Raises:
        ValueError: If a gain or a bias is out of range.
    """

    def __init__(self, source: RateAffine) -> None:
        super().__init__()
        self.gain = ExactRateGain(source.gain)
        self.bias = ExactRateBias(source.bias)

    def rows(self) -> Tensor:
        """Return gains and biases, (64, 2, C, 1, 1) float64."""
        return torch.stack([self.gain.rows(), self.bias.rows()], 1)

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W), Q13.10, at the integer rate points ``q`` (B,)."""
        row = self.ready()[q.long()]
        return saturate((x * row[:, 0]).floor_().add_(row[:, 1]))


register_twin(RectifiedConv2d, lambda conv: ExactConv2d(conv, least=0))
register_twin(RateAffine, ExactRateAffine)
