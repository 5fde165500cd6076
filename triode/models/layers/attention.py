"""Residual and attention blocks of ELIC's transforms (He et al., CVPR 2022, after Cheng et al., CVPR 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.conv import conv


class ResidualBottleneck(nn.Module):
    """``x + W3 relu(W2 relu(W1 x))`` with a 3x3 convolution on half of the channels between two 1x1.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = channels // 2
        self.conv1 = conv(channels, middle, 1, 1)
        self.conv2 = conv(middle, middle, 3, 1)
        self.conv3 = conv(middle, channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape; reaches one position each way."""
        out: Tensor = x + self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return out


class _ResidualUnit(nn.Module):
    """A bottleneck with a ReLU after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = channels // 2
        self.conv = nn.Sequential(
            conv(channels, middle, 1, 1), nn.ReLU(), conv(middle, middle, 3, 1), nn.ReLU(), conv(middle, channels, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv(x))


class AttentionBlock(nn.Module):
    """``x + a(x) * sigmoid(b(x))``: convolutional attention without the non-local part (Cheng et al., CVPR 2020).

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(*(_ResidualUnit(channels) for _ in range(3)))
        self.conv_b = nn.Sequential(*(_ResidualUnit(channels) for _ in range(3)), conv(channels, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape; reaches three positions each way."""
        out: Tensor = x + self.conv_a(x) * torch.sigmoid(self.conv_b(x))
        return out
