"""Convolutions as the literature's image models write them."""

from __future__ import annotations

from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, kernel: int = 5, stride: int = 2) -> nn.Conv2d:
    """Build a zero-padded convolution: (B, I, H, W) to (B, O, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Input channels I.
        out_channels: Output channels O.
        kernel: Side of the kernel, odd.
        stride: Subsampling factor.
    """
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)


def deconv(in_channels: int, out_channels: int, kernel: int = 5, stride: int = 2) -> nn.ConvTranspose2d:
    """Build a transposed convolution: (B, I, H, W) to (B, O, stride * H, stride * W).

    Args:
        in_channels: Input channels I.
        out_channels: Output channels O.
        kernel: Side of the kernel, odd.
        stride: Upsampling factor.
    """
    return nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, kernel // 2, stride - 1)


class RateFree(nn.Sequential):
    """A sequence of layers that takes a rate point, as every hyper-transform does, and does not look at it."""

    def forward(self, x: Tensor, q: Tensor) -> Tensor:  # type: ignore[override]
        """Apply the layers to ``x``; ``q`` (B,) is ignored."""
        for layer in self:
            x = layer(x)
        return x
