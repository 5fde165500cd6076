"""Layers that discriminators share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.audio.conv import weight_norm

__all__ = ["Judge", "Spectrum", "conv2d"]


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> nn.Conv2d:
    """Build a weight-normed convolution (B, I, H, W) to (B, O, ceil(H / stride), ceil(W / stride)); odd kernels."""
    pad = ((kernel[0] - 1) * dilation[0] // 2, (kernel[1] - 1) * dilation[1] // 2)
    return weight_norm(nn.Conv2d(in_channels, out_channels, kernel, stride, pad, dilation))


class Judge(nn.Module):
    """Convolutions with leaky ReLUs after each, then one without that gives the logits.

    Args:
        convs: The former.
        last: The latter.
        slope: Of the ReLU below zero.
    """

    def __init__(self, convs: list[nn.Conv2d], last: nn.Conv2d, slope: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.conv_post = last
        self.slope = slope

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Map (B, I, H, W) to logits (B, 1, h, w) and the activations before them."""
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), self.slope)
            features.append(x)
        return self.conv_post(x), tuple(features)


class Spectrum(nn.Module):
    """Short-time spectra of mirrored signals: (B, C, T) to complex (B, C, K, F), K = n_fft // 2 + 1, in float32.

    Args:
        n_fft: Points of the transform.
        hop: Samples from one frame to the next.
        window: Samples of the Hann window, which lies in the middle of the points; n_fft by default.
        mirrored: Mirror ``(n_fft - hop) // 2`` samples at each end, so that F is about T / hop; otherwise only whole
            frames count.
        unit: Divide by the root of the window's energy.
    """

    window: Tensor

    def __init__(
        self, n_fft: int, hop: int, window: int | None = None, *, mirrored: bool = True, unit: bool = False
    ) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.pad = (n_fft - hop) // 2 if mirrored else 0
        self.least = self.pad + 1 if mirrored else n_fft
        shape = torch.hann_window(window or n_fft)
        self.register_buffer("window", shape / shape.square().sum().sqrt() if unit else shape, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform; raise ValueError if there are fewer samples than can be mirrored or than a frame has."""
        if x.shape[-1] < self.least:
            raise ValueError(f"Signals must have at least {self.least} samples, but got {x.shape[-1]}")
        with torch.autocast(x.device.type, enabled=False):
            y = F.pad(x.float(), (self.pad, self.pad), "reflect") if self.pad else x.float()
            size = len(self.window)
            spectra = torch.stft(
                y.flatten(0, 1), self.n_fft, self.hop, size, self.window, center=False, return_complex=True
            )
        return spectra.reshape(*x.shape[:2], *spectra.shape[1:])
