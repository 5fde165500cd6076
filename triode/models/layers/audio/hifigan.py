"""Networks of HiFi-Codec (Yang et al., 2023): HiFi-GAN's generator (Kong et al., NeurIPS 2020), and its mirror image.

At each rate several residual blocks of different kernels run beside each other, and their mean goes on. They look
ahead; they do not stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.audio.conv import weight_norm

__all__ = ["HifiDecoder", "HifiEncoder", "HifiResidual", "ParallelResiduals"]

_SLOPE = 0.1
_LAST_SLOPE = 0.01
_SPREAD = 0.01
_EPSILON = 1e-6
_CHANNELS_A_GROUP = 16


class HifiResidual(nn.Module):
    """A few times ``x + conv(lrelu(dilated(lrelu(x))))``, one for each dilation.

    Args:
        channels: Channels C.
        kernel: Taps of all convolutions, odd.
        dilations: Distance of the taps of each first convolution.

    Raises:
        ValueError: If the kernel is even.
    """

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int] = (1, 3, 5)) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"Argument `kernel` must be odd, but got {kernel}")

        def conv(dilation: int) -> nn.Conv1d:
            pad = (kernel - 1) * dilation // 2
            return weight_norm(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=pad))

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)
        self.reach = (kernel - 1) // 2 * sum(dilation + 1 for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape; reaches :attr:`reach` samples each way."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, _SLOPE)), _SLOPE))
        return x


class ParallelResiduals(nn.Module):
    """Residual blocks of several kernels on the same input; the sum of what they give over their number.

    Args:
        channels: Channels C.
        kernels: Taps of each block.
        dilations: See :class:`HifiResidual`.
        normalised: Whether the running sum goes through a group norm, over 16 channels and all times, after each
            block, as in HiFi-Codec's encoder. It has no bounded reach then.
    """

    def __init__(self, channels: int, kernels: Sequence[int], dilations: Sequence[int], *, normalised: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(HifiResidual(channels, kernel, dilations) for kernel in kernels)
        groups = max(channels // _CHANNELS_A_GROUP, 1)
        self.norms = nn.ModuleList(
            nn.GroupNorm(groups, channels, eps=_EPSILON) if normalised else nn.Identity() for _ in kernels
        )
        self.reach = max(cast(HifiResidual, block).reach for block in self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape."""
        total = torch.zeros_like(x)
        for block, norm in zip(self.blocks, self.norms, strict=True):
            total = norm(total + block(x))
        return total / len(self.blocks)

    def sees(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last input that convolutions take outputs ``first`` to ``last`` from."""
        return first - self.reach, last + self.reach


class HifiEncoder(nn.Sequential):
    """Samples (B, 1, T) to features (B, D, F).

    Args:
        filters: Channels at the signal's rate; they double at each stride.
        dimension: Channels D.
        strides: Subsampling factors, in this network's order.
        kernels: Taps of each subsampling convolution; kernel less stride must be even and not negative.
        residual_kernels: Taps of the residual blocks at each rate.
        dilations: Distance of the taps in each of them.

    Raises:
        ValueError: If kernels do not suit the strides.
    """

    def __init__(
        self,
        filters: int,
        dimension: int,
        strides: Sequence[int],
        kernels: Sequence[int],
        residual_kernels: Sequence[int] = (11, 7, 3),
        dilations: Sequence[int] = (1, 3, 5),
    ) -> None:
        _check_kernels(strides, kernels)
        layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, filters, 7, padding=3))]
        for stride, kernel in zip(strides, kernels, strict=True):
            down = nn.Conv1d(filters, 2 * filters, kernel, stride, (kernel - stride) // 2)
            filters *= 2
            layers += [nn.LeakyReLU(_SLOPE), weight_norm(down)]
            layers.append(ParallelResiduals(filters, residual_kernels, dilations, normalised=True))
        last = nn.Conv1d(filters, dimension, 3, padding=1)
        nn.init.normal_(last.weight, std=_SPREAD)
        super().__init__(*layers, nn.LeakyReLU(_LAST_SLOPE), last)


class HifiDecoder(nn.Sequential):
    """Features (B, D, F) to samples (B, 1, T) in [-1, 1].

    Args:
        dimension: Channels D.
        channels: Channels at the features' rate; they halve at each stride.
        strides: Upsampling factors, in this network's order.
        kernels: Taps of each upsampling convolution; see :class:`HifiEncoder`.
        residual_kernels: Taps of the residual blocks at each rate.
        dilations: Distance of the taps in each of them.

    Raises:
        ValueError: If kernels do not suit the strides, or the channels cannot be halved so often.
    """

    def __init__(
        self,
        dimension: int,
        channels: int,
        strides: Sequence[int],
        kernels: Sequence[int],
        residual_kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
    ) -> None:
        _check_kernels(strides, kernels)
        if channels % 2 ** len(strides):
            raise ValueError(f"Argument `channels` must be a multiple of {2 ** len(strides)}, but got {channels}")
        layers: list[nn.Module] = [weight_norm(nn.Conv1d(dimension, channels, 7, padding=3))]
        for stride, kernel in zip(strides, kernels, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, stride, (kernel - stride) // 2)
            channels //= 2
            layers += [nn.LeakyReLU(_SLOPE), weight_norm(up)]
            layers.append(ParallelResiduals(channels, residual_kernels, dilations, normalised=False))
        last = weight_norm(nn.Conv1d(channels, 1, 7, padding=3))
        super().__init__(*layers, nn.LeakyReLU(_SLOPE), last, nn.Tanh())


def _check_kernels(strides: Sequence[int], kernels: Sequence[int]) -> None:
    suits = len(strides) == len(kernels) > 0
    if not suits or any(
        stride < 1 or k < stride or (k - stride) % 2 for stride, k in zip(strides, kernels, strict=True)
    ):
        raise ValueError(
            "Argument `kernels` must hold one of at least its stride, and as odd or even, for each stride, "
            f"but got {tuple(kernels)} for {tuple(strides)}"
        )
