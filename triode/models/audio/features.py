"""Fixed transforms of sound into frames of channels, (B, N, 1, F), and back."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.audio.mdct import MdctAnalysis, MdctSynthesis

_TINY = 1e-12


class Companding(nn.Module):
    """Raise magnitudes to a power, keep signs: steps grow with the coefficient, as in AAC (there 3/4).

    Args:
        power: Exponent p, positive. That of the inverse is 1 / p.

    Raises:
        ValueError: If it is not positive.
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        if not power > 0:
            raise ValueError(f"Argument `power` must be positive, but got {power}")
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        if self.power == 2:
            return x * x.abs()
        # Powers below 1 are infinitely steep at 0.
        magnitude = x.abs().clamp_min(_TINY if self.power < 1 else 0.0)
        return x.sign() * torch.pow(magnitude, self.power)


class FrameTransform(nn.Module):
    """Lapped transform of short blocks, gathered into frames: (B, 1, F * hop) to (B, N, 1, F).

    Channels are in order of frequency, those of one frequency in order of time.

    Args:
        hop: Samples of a frame.
        block: Coefficients of the transform; divides the hop.
        coefficients: How many coefficients of a frame are kept, N: the lowest ones of each block.

    Raises:
        ValueError: If these do not divide as they must.
    """

    def __init__(self, hop: int, block: int, coefficients: int) -> None:
        super().__init__()
        self.blocks, self.kept = _shape(hop, block, coefficients)
        self.transform = MdctAnalysis(block)

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        spectra: Tensor = self.transform(x)[:, 0, : self.kept]
        b, n, count = spectra.shape
        frames = spectra.reshape(b, n, count // self.blocks, self.blocks).transpose(2, 3)
        return frames.reshape(b, n * self.blocks, 1, -1)


class InverseFrameTransform(nn.Module):
    """Back from :class:`FrameTransform`, with the same arguments: (B, N, 1, F) to (B, 1, F * hop)."""

    def __init__(self, hop: int, block: int, coefficients: int) -> None:
        super().__init__()
        self.blocks, self.kept = _shape(hop, block, coefficients)
        self.missing = block - self.kept
        self.transform = MdctSynthesis(block)

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        b, _, _, frames = x.shape
        spectra = x.reshape(b, self.kept, self.blocks, frames).transpose(2, 3).reshape(b, self.kept, -1)
        y: Tensor = self.transform(F.pad(spectra, (0, 0, 0, self.missing))[:, None])
        return y


def _shape(hop: int, block: int, coefficients: int) -> tuple[int, int]:
    """Return blocks in a frame, and coefficients kept of each."""
    if block < 1 or hop % block:
        raise ValueError(f"Argument `block` must divide the hop of {hop}, but got {block}")
    blocks = hop // block
    if coefficients % blocks or not 0 < coefficients <= hop:
        raise ValueError(f"Argument `coefficients` must be a multiple of {blocks} in 1..{hop}, but got {coefficients}")
    return blocks, coefficients // blocks


class EnvelopeBands(nn.Module):
    """Root mean square of spectra in overlapping bands, to a power: (B, 1, 2, K, F) to (B, bands, 1, F).

    Bands are triangles, evenly spaced and equally wide on the mel scale, but at least two bins to either side wide.

    Args:
        sample_rate: Samples per second.
        bins: Bins of the spectra K, 0 Hz to half the rate.
        bands: Number of bands.
        power: Exponent.
    """

    weights: Tensor

    def __init__(self, sample_rate: int, bins: int, bands: int, power: float) -> None:
        super().__init__()
        self.power = power
        top = 2595 * math.log10(1 + sample_rate / 2 / 700)
        corners = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
        place = corners * (2 * (bins - 1) / sample_rate)
        centre = place[1:-1, None]
        low = torch.minimum(place[:-2, None], centre - 2)
        high = torch.maximum(place[2:, None], centre + 2)
        raster = torch.arange(bins, dtype=torch.float64)
        weights = torch.minimum((raster - low) / (centre - low), (high - raster) / (high - centre)).clamp(min=0)
        self.register_buffer("weights", (weights / weights.sum(1, keepdim=True)).float(), persistent=False)

    def forward(self, spectra: Tensor) -> Tensor:
        """See above."""
        energy = torch.einsum("kn,bnf->bkf", self.weights, spectra[:, 0].square().sum(1))
        return (energy.clamp_min(_TINY) ** (self.power / 2))[:, :, None]
