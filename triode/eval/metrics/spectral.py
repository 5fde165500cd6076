"""Metrics of spectra: the multi-scale mel distance, also as a training loss, and the multi-resolution STFT distance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from triode.eval.metrics.base import Metric, MetricInfo, register_metric
from triode.eval.metrics.signal import channels_of, pair_of
from triode.media import Sound

__all__ = ["MEL_SCALES", "MRSTFT", "MelDistance", "mel_bank", "mel_distance", "mel_loss", "mr_stft"]

# Window and number of mel bands, as DAC trains with; the hop is a quarter of the window.
MEL_SCALES: Final = ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))
_MEL_FLOOR: Final = 1e-5

# Points of the transform, hop and window, as Parallel WaveGAN trains with.
_RESOLUTIONS: Final = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
_POWER_FLOOR: Final = 1e-7
_PIECE: Final = 2**22  # samples in windows that a transform takes at a time, for each channel

_MEL: Final = MetricInfo(
    name="mel",
    title="Mel distance",
    unit="",
    media=("audio",),
    higher_is_better=False,
    low=0.0,
    high=math.inf,
    source="Kumar et al.: High-fidelity audio compression with improved RVQGAN, NeurIPS 2023 "
    "(7 scales, magnitude to the power 1, log10)",
)
_MR_STFT: Final = MetricInfo(
    name="mr-stft",
    title="Multi-resolution STFT distance",
    unit="",
    media=("audio",),
    higher_is_better=False,
    low=0.0,
    high=math.inf,
    source="Yamamoto, Song, Kim: Parallel WaveGAN, ICASSP 2020 (spectral convergence + log magnitude, 3 resolutions)",
)


def mel_distance(preds: Tensor, target: Tensor, rate: int) -> Tensor:
    """Multi-scale mel distance as DAC measures it: the sum over seven scales of the mean |difference| of log10 mels.

    At each scale: windows of 32 to 2048 samples (Hann, periodic; a quarter of a window apart; centred, edges mirrored),
    magnitude to the power 1, 5 to 320 triangular bands from 0 Hz to half the rate (Slaney's scale and norm), no less
    than 1e-5, log10. Scales are given in samples, so that values at two rates do not compare, nor do those of papers
    that square the magnitude (exactly twice as much) or take HTK's bands.

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded.
        target: The same shape; the originals.
        rate: Samples per second. There is no resampling.

    Returns:
        (B,) float64, 0 where both are equal; the mean over channels.

    Raises:
        ValueError: If the shapes are wrong, as in :func:`~triode.eval.metrics.signal.channels_of`, or the rate is not
            positive.
    """
    preds, target = channels_of(preds, target)
    return _mel(preds.double(), target.double(), rate)


def mel_loss(preds: Tensor, target: Tensor, rate: int) -> Tensor:
    """Mean of :func:`mel_distance` over a batch, for training: differentiable, in the precision of the input.

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded. Half precision is raised to
            float32.
        target: The same shape; the originals.
        rate: Samples per second.

    Returns:
        A scalar, float32 or float64. Bands that are under the floor of 1e-5 give no gradient.

    Raises:
        ValueError: As :func:`mel_distance`.
    """
    preds, target = channels_of(preds, target)
    dtype = torch.promote_types(torch.promote_types(preds.dtype, target.dtype), torch.float32)
    return _mel(preds.to(dtype), target.to(dtype), rate).mean()


def _mel(preds: Tensor, target: Tensor, rate: int) -> Tensor:
    if rate < 1:
        raise ValueError(f"Argument `rate` must be positive, but got {rate}")
    both = torch.stack((preds, target))
    total = torch.zeros(len(preds), dtype=preds.dtype, device=preds.device)
    for window, bands in MEL_SCALES:
        bank = mel_bank(rate, window, bands).to(both)
        errors, frames = torch.zeros_like(total), 0
        for spectra in _spectra(both, window, window // 4, window):
            mels = (bank @ spectra.abs()).clamp(min=_MEL_FLOOR).log10()
            errors = errors + (mels[0] - mels[1]).abs().mean((1, 2)).sum(-1)
            frames += mels.shape[-1]
        total = total + errors / frames
    return total


@lru_cache(maxsize=64)
def mel_bank(rate: int, window: int, bands: int) -> Tensor:
    """Triangular filters of equal area on Slaney's mel scale, as in his Auditory Toolbox (1998).

    The scale is linear up to 1000 Hz (15 mels, 66.7 Hz each) and logarithmic above (27 mels for a factor of 6.4). Bands
    that are narrower than the raster of frequencies may hold none of it; such rows are zero.

    Args:
        rate: Samples per second.
        window: Points of the transform.
        bands: Number of filters, which span 0 Hz to rate / 2.

    Returns:
        (bands, window // 2 + 1) float64 that weights magnitudes; it is kept, so do not write to it.
    """
    half = rate / 2
    top = half * 3 / 200 if half < 1000 else 15 + math.log(half / 1000) * 27 / math.log(6.4)
    mels = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    corners = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * (math.log(6.4) / 27)))
    raster = torch.linspace(0, half, window // 2 + 1, dtype=torch.float64)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (raster - low) / (centre - low), (high - raster) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)


def mr_stft(preds: Tensor, target: Tensor) -> Tensor:
    """Multi-resolution STFT distance of Yamamoto et al., ICASSP 2020.

    The mean over three resolutions (1024, 2048 and 512 points, hops of 120, 240 and 50, Hann windows of 600, 1200 and
    240 samples, whatever the rate) of spectral convergence, the norm of the difference of magnitudes over the norm of
    the original's, plus the mean |difference| of natural logarithms of magnitudes. Power is no less than 1e-7.

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded.
        target: The same shape; the originals.

    Returns:
        (B,) float64, 0 where both are equal; norms and means run over channels too. Differentiable.

    Raises:
        ValueError: If the shapes are wrong, as in :func:`~triode.eval.metrics.signal.channels_of`.
    """
    preds, target = (batch.double() for batch in channels_of(preds, target))
    both = torch.stack((preds, target))
    total = torch.zeros(len(preds), dtype=torch.float64, device=preds.device)
    for points, hop, window in _RESOLUTIONS:
        norms, logs, count = [], torch.zeros_like(total), 0
        for spectra in _spectra(both, points, hop, window):
            found, wanted = torch.view_as_real(spectra).square().sum(-1).clamp(min=_POWER_FLOOR).sqrt()
            # Norms of norms, and no plain roots of sums: their gradient is 0 and not NaN where both are equal.
            norms.append(torch.linalg.vector_norm(torch.stack((wanted - found, wanted)), dim=(2, 3, 4)))
            logs = logs + (wanted.log() - found.log()).abs().sum((1, 2, 3))
            count += wanted[0].numel()
        error, size = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        total = total + error / size + logs / count
    return total / len(_RESOLUTIONS)


def _spectra(x: Tensor, points: int, hop: int, window: int) -> Iterator[Tensor]:
    """Yield the 1 + T // hop spectra of waveforms under a centred Hann window, some frames at a time.

    Args:
        x: (2, B, C, T).
        points: Of the transform.
        hop: Samples from frame to frame.
        window: Samples of the window.

    Yields:
        (2, B, C, points // 2 + 1, frames) complex. In pieces, because all frames of minutes would take gigabytes.
    """
    shape = torch.hann_window(window, dtype=x.dtype, device=x.device)
    padded = _mirrored(x.flatten(0, 2), points // 2)
    frames, piece = 1 + x.shape[-1] // hop, max(_PIECE // points, 1)
    for first in range(0, frames, piece):
        last = min(first + piece, frames) - 1
        part = padded[:, first * hop : last * hop + points]
        spectra = torch.stft(part, points, hop, window, shape, center=False, return_complex=True)
        yield spectra.reshape(*x.shape[:3], *spectra.shape[1:])


def _mirrored(x: Tensor, width: int) -> Tensor:
    """Mirror (N, T) at both ends, as often as it takes where T is short."""
    length = x.shape[-1]
    if length > width:
        return F.pad(x, (width, width), mode="reflect")
    period = max(2 * (length - 1), 1)
    place = torch.arange(-width, length + width, device=x.device) % period
    return x[..., torch.minimum(place, period - place) % length]


class MelDistance(Metric):
    """Mean of :func:`mel_distance` over items."""

    info = _MEL

    def __init__(self, rate: int) -> None:
        """Make an empty mean.

        Args:
            rate: Samples per second of all items.
        """
        super().__init__()
        self.rate = rate

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return :func:`mel_distance` of every item."""
        return [float(value) for value in mel_distance(preds, target, self.rate)]


class MRSTFT(Metric):
    """Mean of :func:`mr_stft` over items."""

    info = _MR_STFT

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return :func:`mr_stft` of every item."""
        return [float(value) for value in mr_stft(preds, target)]


@register_metric(_MEL)
def _measure_mel(decoded: Sound, original: Sound) -> float:
    return float(mel_distance(*pair_of(decoded, original), original.rate))


@register_metric(_MR_STFT)
def _measure_mr_stft(decoded: Sound, original: Sound) -> float:
    return float(mr_stft(*pair_of(decoded, original)))
