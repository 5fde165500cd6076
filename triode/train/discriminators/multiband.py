"""Multi-band multi-resolution discriminator on complex spectra (DAC: Kumar et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.train.discriminators.layers import Judge, Spectrum, conv2d
from triode.train.discriminators.verdict import Discriminator, Verdict

__all__ = ["BANDS", "MultiBandDiscriminator"]

BANDS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Edges of DAC's bands, in parts of half the sampling rate."""
_SLOPE = 0.1


class _BandJudge(nn.Module):
    """Own layers for each band, then one common layer over all."""

    def __init__(self, channels: int, size: int, edges: Sequence[float], width: int) -> None:
        super().__init__()
        self.spectrum = Spectrum(size, size // 4)
        bins = size // 2 + 1
        self.edges = [int(edge * bins) for edge in edges]
        if min(b - a for a, b in pairwise(self.edges)) < 1:
            raise ValueError(f"Argument `edges` must leave a bin in each band of {bins} bins, but got {tuple(edges)}")
        self.bands = nn.ModuleList(
            Judge(
                [
                    conv2d(2 * channels, width, (3, 9)),
                    *(conv2d(width, width, (3, 9), (1, 2)) for _ in range(3)),
                ],
                conv2d(width, width, (3, 3)),
                _SLOPE,
            )
            for _ in self.edges[1:]
        )
        self.conv_post = conv2d(width, 1, (3, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        z = self.spectrum(F.pad(x, (0, -x.shape[-1] % self.spectrum.hop)))
        parts = torch.cat((z.real, z.imag), 1).transpose(-1, -2)
        features: list[Tensor] = []
        ends = []
        for low, high, band in zip(self.edges[:-1], self.edges[1:], self.bands, strict=True):
            last, before = band(parts[..., low:high])
            ends.append(F.leaky_relu(last, _SLOPE))
            features += (*before, ends[-1])
        return self.conv_post(torch.cat(ends, -1)), tuple(features)


class MultiBandDiscriminator(Discriminator):
    """A judge for each length of transform, which looks at bands of real and imaginary parts on their own.

    Args:
        channels: Channels C of the signals.
        sizes: Points of the transforms; hops are a quarter.
        edges: Edges of the bands, rising from 0 to 1.
        width: Channels of all layers.

    Raises:
        ValueError: If the edges do not rise from 0 to 1, or a band has no bin.
    """

    def __init__(
        self,
        channels: int = 1,
        sizes: Sequence[int] = (2048, 1024, 512),
        edges: Sequence[float] = BANDS,
        width: int = 32,
    ) -> None:
        super().__init__()
        if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or any(a >= b for a, b in pairwise(edges)):
            raise ValueError(f"Argument `edges` must rise from 0 to 1, but got {tuple(edges)}")
        self.judges = nn.ModuleList(_BandJudge(channels, size, edges, width) for size in sizes)

    def forward(self, x: Tensor) -> Verdict:
        """Judge signals (B, C, T).

        Raises:
            ValueError: If three eighths of the longest transform cannot be mirrored.
        """
        results = [judge(x) for judge in self.judges]
        return Verdict(tuple(logits for logits, _ in results), tuple(features for _, features in results))
