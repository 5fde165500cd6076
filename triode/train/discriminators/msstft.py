"""Multi-scale STFT discriminator on complex spectra (EnCodec: Défossez et al., TMLR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triode.train.discriminators.layers import Judge, Spectrum, conv2d
from triode.train.discriminators.verdict import Discriminator, Verdict

__all__ = ["MultiScaleStftDiscriminator"]

_SLOPE = 0.2


class MultiScaleStftDiscriminator(Discriminator):
    """A judge for each length of transform, on real and imaginary parts; its layers halve the number of bins.

    Args:
        channels: Channels C of the signals.
        sizes: Points of the transforms; hops are a quarter.
        width: Channels of all layers.
        dilations: Along time, of the layers that halve.
    """

    def __init__(
        self,
        channels: int = 1,
        sizes: Sequence[int] = (2048, 1024, 512, 256, 128),
        width: int = 32,
        dilations: Sequence[int] = (1, 2, 4),
    ) -> None:
        super().__init__()
        self.spectra = nn.ModuleList(Spectrum(size, size // 4, mirrored=False, unit=True) for size in sizes)
        self.judges = nn.ModuleList(
            Judge(
                [
                    conv2d(2 * channels, width, (3, 9)),
                    *(conv2d(width, width, (3, 9), (1, 2), (dilation, 1)) for dilation in dilations),
                    conv2d(width, width, (3, 3)),
                ],
                conv2d(width, 1, (3, 3)),
                _SLOPE,
            )
            for _ in sizes
        )

    def forward(self, x: Tensor) -> Verdict:
        """Judge signals (B, C, T).

        Raises:
            ValueError: If they are shorter than the longest transform.
        """
        results = []
        for spectrum, judge in zip(self.spectra, self.judges, strict=True):
            z = spectrum(x)
            results.append(judge(torch.cat((z.real, z.imag), 1).transpose(-1, -2)))
        return Verdict(tuple(logits for logits, _ in results), tuple(features for _, features in results))
