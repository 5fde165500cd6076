"""Snake activation and the convolution blocks of DAC around it, which SNAC shares.

Attribute names follow the public weights of both. The blocks look ahead; they do not stream.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from triode.models.layers.audio.conv import weight_norm
from triode.models.layers.audio.streaming import Pointwise

__all__ = ["DownBlock", "ResidualUnit", "Snake1d", "UpBlock"]

_GUARD = 1e-9
_DILATIONS = (1, 3, 9)


class Snake1d(Pointwise):
    """``x + sin(alpha x)**2 / alpha`` with a learned alpha per channel (Ziyin et al., NeurIPS 2020).

    It grows like the identity and has a period, which suits waveforms (Kumar et al., NeurIPS 2023).

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape and dtype."""
        return (x + torch.sin(self.alpha * x).square() / (self.alpha + _GUARD)).to(x.dtype)


class ResidualUnit(nn.Module):
    """``x + W2 snake(W1 snake(x))``: a dilated convolution, then a pointwise one.

    Args:
        channels: Channels C.
        dilation: Distance of the taps.
        kernel: Taps, odd.
        groups: Groups of the first convolution; C makes it depthwise, as in SNAC (Siuzdak et al., 2024).

    Raises:
        ValueError: If the kernel is even.
    """

    def __init__(self, channels: int, dilation: int = 1, kernel: int = 7, groups: int = 1) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"Argument `kernel` must be odd, but got {kernel}")
        pad = (kernel - 1) * dilation // 2
        self.block = nn.Sequential(
            Snake1d(channels),
            weight_norm(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=pad, groups=groups)),
            Snake1d(channels),
            weight_norm(nn.Conv1d(channels, channels, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape."""
        y: Tensor = x + self.block(x)
        return y


class DownBlock(nn.Module):
    """Three residual units with dilations 1, 3 and 9, then a convolution of 2 * stride taps.

    Args:
        in_channels: Channels I.
        out_channels: Channels O.
        stride: Subsampling factor.
        groups: Groups inside the residual units.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *(ResidualUnit(in_channels, dilation, groups=groups) for dilation in _DILATIONS),
            Snake1d(in_channels),
            weight_norm(nn.Conv1d(in_channels, out_channels, 2 * stride, stride, math.ceil(stride / 2))),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, stride * F) to (B, O, F)."""
        y: Tensor = self.block(x)
        return y


class UpBlock(nn.Module):
    """A transposed convolution of 2 * stride taps, then three residual units with dilations 1, 3 and 9.

    Args:
        in_channels: Channels I.
        out_channels: Channels O.
        stride: Upsampling factor.
        groups: Groups inside the residual units.
        exact: Give stride * F samples for odd strides too, as SNAC does; DAC gives one less a block.
        injected: A module (B, O, T) to the same shape right after the upsampling: SNAC's place for noise.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        groups: int = 1,
        *,
        exact: bool = False,
        injected: nn.Module | None = None,
    ) -> None:
        super().__init__()
        pad, more = math.ceil(stride / 2), stride % 2 if exact else 0
        self.block = nn.Sequential(
            Snake1d(in_channels),
            weight_norm(nn.ConvTranspose1d(in_channels, out_channels, 2 * stride, stride, pad, more)),
            *(() if injected is None else (injected,)),
            *(ResidualUnit(out_channels, dilation, groups=groups) for dilation in _DILATIONS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, F) to (B, O, stride * F), or (B, O, stride * F - 1) if the stride is odd and not ``exact``."""
        y: Tensor = self.block(x)
        return y
