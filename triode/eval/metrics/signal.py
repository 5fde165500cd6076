"""Metrics of waveforms: SNR and SI-SDR; with the checks that all metrics of audio share."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from triode.errors import UnsupportedError
from triode.eval.metrics.base import Metric, MetricInfo, register_metric
from triode.eval.metrics.images import CAP_DB
from triode.media import Sound

__all__ = ["SISDR", "SNR", "channels_of", "only", "pair_of", "si_sdr", "snr"]

_LEAST_RATIO: Final = 1e-9  # -90 dB; a muted decoding would give minus infinity

_SI_SDR: Final = MetricInfo(
    name="si-sdr",
    title="SI-SDR",
    unit="dB",
    media=("audio",),
    higher_is_better=True,
    low=10 * math.log10(_LEAST_RATIO),
    high=CAP_DB,
    source="Le Roux, Wisdom, Erdogan, Hershey: SDR - half-baked or well done?, ICASSP 2019",
)
_SNR: Final = MetricInfo(
    name="snr",
    title="SNR",
    unit="dB",
    media=("audio",),
    higher_is_better=True,
    low=10 * math.log10(_LEAST_RATIO),
    high=CAP_DB,
    source="Ratio of the energies of the original and of the error, in dB",
)


def channels_of(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check two batches of waveforms and give both as (B, C, T).

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded.
        target: The same shape; the originals.

    Raises:
        ValueError: If they are not floating point and of one such shape, with at least one item, channel and sample.
    """
    for name, batch in (("preds", preds), ("target", target)):
        if not batch.is_floating_point():
            raise ValueError(f"Argument `{name}` must be floating point, but got {batch.dtype}")
    if preds.shape != target.shape or preds.ndim not in (2, 3) or preds.numel() == 0:
        found = f"{tuple(preds.shape)} and {tuple(target.shape)}"
        raise ValueError(f"Arguments `preds` and `target` must have one shape, (B, T) or (B, C, T), but got {found}")
    return (preds, target) if preds.ndim == 3 else (preds[:, None], target[:, None])


def pair_of(decoded: Sound, original: Sound) -> tuple[Tensor, Tensor]:
    """Check two sounds and give both as (1, C, T) float64.

    Args:
        decoded: What was decoded, with the codec's delay already taken off.
        original: What was encoded.

    Raises:
        ValueError: If rates, channels or lengths differ, or a decoded sample is not finite.
        UnsupportedError: If they have no samples, or a sample of the original is not finite.
    """
    if decoded.rate != original.rate:
        raise ValueError(f"Rates must be equal, but decoded has {decoded.rate} Hz for {original.rate} Hz")
    if decoded.samples.shape != original.samples.shape:
        found = f"{decoded.samples.shape} for {original.samples.shape}"
        raise ValueError(f"Channels and lengths must be equal, but decoded has {found}")
    if original.samples.size == 0:
        raise UnsupportedError("Metrics of audio need at least one sample")
    pair = [torch.from_numpy(sound.samples.copy()).double()[None] for sound in (decoded, original)]
    if not pair[1].isfinite().all():
        raise UnsupportedError("The original has samples that are not finite")
    if not pair[0].isfinite().all():
        raise ValueError("Decoded samples must be finite, but some are not")
    return pair[0], pair[1]


def only(values: Tensor, name: str) -> float:
    """Return the value of a batch of one.

    Args:
        values: (1,).
        name: Of the metric, for the message.

    Raises:
        UnsupportedError: If the metric is not defined for this item.
    """
    value = float(values)
    if not math.isfinite(value):
        raise UnsupportedError(f"{name} is not defined for this item: the original is silent")
    return value


def _decibels(signal: Tensor, error: Tensor) -> Tensor:
    """Return the mean over channels (last axis) of an energy ratio in dB, channels of NaN left out."""
    ratio = signal / torch.maximum(error, signal * 10 ** (-CAP_DB / 10))
    ratio = torch.where((signal == 0) & (error == 0), 0.0, ratio)
    return (10 * torch.log10(ratio + _LEAST_RATIO)).clamp(max=CAP_DB)


def _mean_of_heard(decibels: Tensor, target: Tensor) -> Tensor:
    """Return (B,) means over the channels whose original is not silent; NaN where all are."""
    heard = target.square().sum(-1) > 0
    return decibels.masked_fill(~heard, math.nan).nanmean(-1)


def si_sdr(preds: Tensor, target: Tensor, *, zero_mean: bool = False) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of Le Roux et al., ICASSP 2019, in dB.

    The original is scaled to fit what was decoded; then SI-SDR is the ratio of its energy to that of the rest. Several
    channels are measured one by one and averaged in dB, those with a silent original left out.

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded.
        target: The same shape; the originals.
        zero_mean: Whether to take the mean off every channel first. The bench does not.

    Returns:
        (B,) float64 in [-90, 100]: limits that stand for minus infinity and infinity. NaN where the original is silent.

    Raises:
        ValueError: If the shapes are wrong, as in :func:`channels_of`.
    """
    preds, target = (batch.double() for batch in channels_of(preds, target))
    if zero_mean:
        preds, target = preds - preds.mean(-1, keepdim=True), target - target.mean(-1, keepdim=True)
    energy = target.square().sum(-1, keepdim=True)
    scale = (preds * target).sum(-1, keepdim=True) / torch.where(energy == 0, 1.0, energy)
    fitted = scale * target
    decibels = _decibels(fitted.square().sum(-1), (preds - fitted).square().sum(-1))
    return _mean_of_heard(decibels, target)


def snr(preds: Tensor, target: Tensor) -> Tensor:
    """Signal-to-noise ratio in dB: the energy of the original over that of the error.

    Several channels are measured one by one and averaged in dB, those with a silent original left out.

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded.
        target: The same shape; the originals.

    Returns:
        (B,) float64 in [-90, 100]: limits that stand for minus infinity and infinity. NaN where the original is silent.

    Raises:
        ValueError: If the shapes are wrong, as in :func:`channels_of`.
    """
    preds, target = (batch.double() for batch in channels_of(preds, target))
    decibels = _decibels(target.square().sum(-1), (preds - target).square().sum(-1))
    return _mean_of_heard(decibels, target)


class SISDR(Metric):
    """Mean of :func:`si_sdr` over items."""

    info = _SI_SDR

    def __init__(self, *, zero_mean: bool = False) -> None:
        """Make an empty mean.

        Args:
            zero_mean: As in :func:`si_sdr`.
        """
        super().__init__()
        self.zero_mean = zero_mean

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return :func:`si_sdr` of every item."""
        return [float(value) for value in si_sdr(preds, target, zero_mean=self.zero_mean)]


class SNR(Metric):
    """Mean of :func:`snr` over items."""

    info = _SNR

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return :func:`snr` of every item."""
        return [float(value) for value in snr(preds, target)]


@register_metric(_SI_SDR)
def _measure_si_sdr(decoded: Sound, original: Sound) -> float:
    return only(si_sdr(*pair_of(decoded, original)), "SI-SDR")


@register_metric(_SNR)
def _measure_snr(decoded: Sound, original: Sound) -> float:
    return only(snr(*pair_of(decoded, original)), "SNR")
