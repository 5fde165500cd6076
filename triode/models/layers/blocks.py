"""Convolution blocks that are cheap on CPUs: pointwise products, depthwise filters, sub-pixel resampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def added(out: Tensor, x: Tensor) -> Tensor:
    """Return ``out + x``, in the memory of ``out``, what a layer has just made, where the sum is of its type.

    Large tensors are mapped anew by the system each time: not to ask for one saves more than the addition costs.
    """
    same = out.dtype == x.dtype or (out.dtype == torch.float32 and x.dtype != torch.float64)
    return out.add_(x) if same else out + x


class DepthwiseBlock(nn.Module):
    """Residual block: pointwise, depthwise, pointwise; then a gated pointwise feed-forward part.

    ``x + W2 dw(act(W1 x))``, then ``x + W4 (a * relu(b))`` with ``a, b = W3 x``: 5 C**2 + 9 C multiplications a
    position with a filter of 3x3. The gate stands in for GDN's division, as in NAFNet (Chen et al., ECCV 2022), and
    needs no normalisation as the last product of each branch starts at zero.

    Args:
        channels: Channels C.
        kernel: Rows and columns of the depthwise filter, odd.
        gated: Whether there is a feed-forward part.
    """

    def __init__(self, channels: int, kernel: tuple[int, int] = (3, 3), *, gated: bool = True) -> None:
        super().__init__()
        self.gated = gated
        self.expand = nn.Conv2d(channels, channels, 1)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.spatial = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels)
        self.project = nn.Conv2d(channels, channels, 1)
        ends = [self.project]
        if gated:
            self.gate = nn.Conv2d(channels, 2 * channels, 1)
            self.merge = nn.Conv2d(channels, channels, 1)
            ends.append(self.merge)
        for last in ends:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = added(self.project(self.spatial(F.leaky_relu(self.expand(x), 0.125, inplace=True))), x)
        if not self.gated:
            return x
        gates = self.gate(x)
        a, b = gates.narrow(1, 0, x.shape[1]), gates.narrow(1, x.shape[1], x.shape[1])
        return added(self.merge(a * F.relu(b, inplace=True)), x)


class SubpixelUp(nn.Sequential):
    """Pointwise convolution and pixel shuffle: (B, I, H, W) to (B, O, fH, fW) (Shi et al., CVPR 2016)."""

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels * factor**2, 1), nn.PixelShuffle(factor))


class SubpixelDown(nn.Sequential):
    """Pixel unshuffle and pointwise convolution: (B, I, fH, fW) to (B, O, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__(nn.PixelUnshuffle(factor), nn.Conv2d(in_channels * factor**2, out_channels, 1))
