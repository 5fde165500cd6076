"""Masked convolutions: spatial context that sees only what is decoded already."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.exact.layers import ExactConv2d, register_twin


class CheckerboardConv2d(nn.Conv2d):
    """Convolution whose weights stand only on the other colour of a checkerboard (He et al., CVPR 2021).

    Where anchors of one colour are decoded, it gives the elements of the other colour their context.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel: Side of the kernel, odd.

    Raises:
        ValueError: If the kernel is even.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 5) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"Argument `kernel` must be odd, but got {kernel}")
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        side = torch.arange(kernel)
        self.register_buffer("mask", ((side[:, None] + side) % 2).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, H, W) to (B, O, H, W)."""
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


def _twin(source: CheckerboardConv2d) -> ExactConv2d:
    """Build a plain integer convolution with the masked weights at zero."""
    kernel = source.kernel_size[0]
    plain = nn.Conv2d(source.in_channels, source.out_channels, kernel, padding=kernel // 2)
    plain.weight = nn.Parameter((source.weight * source.mask).detach())
    plain.bias = source.bias
    return ExactConv2d(plain)


register_twin(CheckerboardConv2d, _twin)
