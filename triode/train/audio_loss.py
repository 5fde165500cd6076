"""Distortion of sound: multi-scale mel distance, compressed complex spectra at several resolutions, waveform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.eval.metrics.spectral import MEL_SCALES, mel_bank

_FLOOR = 1e-5
_COMPRESSION_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class SoundErrors:
    """How far reconstructions are from recordings, (B,) float32 each.

    Attributes:
        total: The weighted sum.
        mel: Multi-scale mel distance, as :func:`triode.eval.metrics.spectral.mel_distance` but for the ends.
        spectral: Mean squared error of compressed real and imaginary parts, mean over resolutions.
        wave: Mean absolute error of samples over the root mean square of the recording.
    """

    total: Tensor
    mel: Tensor
    spectral: Tensor
    wave: Tensor


class SoundDistortion(nn.Module):
    """Weighted sum of distances between recordings; spectra are shared between those that need the same.

    Args:
        rate: Samples per second.
        mel: Weight of the mel distance, the sum over seven scales.
        spectral: Weight of the compressed spectra (Gu & Diao, EMNLP 2024, after Braun & Tashev, 2020).
        wave: Weight of the waveform.
        windows: Windows of the compressed spectra in samples, some of those of the mel distance (32 to 2048).
        power: Exponent of their magnitudes.

    Raises:
        ValueError: If a weight is negative, or a window is none of the mel distance's.
    """

    def __init__(
        self,
        rate: int,
        mel: float = 1.0,
        spectral: float = 25.0,
        wave: float = 0.5,
        windows: Sequence[int] = (256, 512, 1024),
        power: float = 0.3,
    ) -> None:
        super().__init__()
        if min(mel, spectral, wave) < 0:
            raise ValueError(f"Weights must be >= 0, but got {mel}, {spectral} and {wave}")
        known = [window for window, _ in MEL_SCALES]
        if not windows or not set(windows) <= set(known):
            raise ValueError(f"Argument `windows` must be some of {known}, but got {list(windows)}")
        self.mel, self.spectral, self.wave = mel, spectral, wave
        self.windows, self.power = frozenset(windows), power
        for window, bands in MEL_SCALES:
            self.register_buffer(f"bank{window}", mel_bank(rate, window, bands).float(), persistent=False)
            self.register_buffer(f"window{window}", torch.hann_window(window), persistent=False)

    def forward(self, x_hat: Tensor, x: Tensor) -> SoundErrors:
        """Compare reconstructions (B, 1, T) with recordings, same shape; T of at least 1025."""
        with torch.autocast(x.device.type, enabled=False):
            x_hat, x = x_hat.float()[:, 0], x.float()[:, 0]
            mel, spectral = torch.zeros(len(x), device=x.device), torch.zeros(len(x), device=x.device)
            for window, _ in MEL_SCALES:
                found = self._spectra(x_hat, window)
                with torch.no_grad():
                    wanted = self._spectra(x, window)
                bank = self.get_buffer(f"bank{window}")
                pair = [(bank @ magnitude).clamp_min(_FLOOR).log10() for _, magnitude in (found, wanted)]
                mel = mel + (pair[0] - pair[1]).abs().mean((1, 2))
                if window in self.windows:
                    spectral = spectral + self._compressed_error(found, wanted, window)
            spectral = spectral / len(self.windows)
            loudness = x.square().mean(1).sqrt().clamp_min(_COMPRESSION_FLOOR)
            wave = (x_hat - x).abs().mean(1) / loudness
            return SoundErrors(self.mel * mel + self.spectral * spectral + self.wave * wave, mel, spectral, wave)

    def _spectra(self, x: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Return parts (B, K, F, 2) and magnitudes (B, K, F) of signals (B, T), mirrored at the ends."""
        padded = F.pad(x[:, None], (window // 2, window // 2), mode="reflect")[:, 0]
        shape = self.get_buffer(f"window{window}")
        spectra = torch.stft(padded, window, window // 4, window=shape, center=False, return_complex=True)
        parts = torch.view_as_real(spectra)
        # The root is infinitely steep at 0.
        return parts, (parts.square().sum(-1) + _FLOOR**2).sqrt()

    def _compressed_error(self, found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], window: int) -> Tensor:
        unit = float(self.get_buffer(f"window{window}").square().sum().sqrt())
        compressed = [
            parts / unit * ((magnitude / unit).square() + _COMPRESSION_FLOOR**2)[..., None] ** ((self.power - 1) / 2)
            for parts, magnitude in (found, wanted)
        ]
        return (compressed[0] - compressed[1]).square().mean((1, 2, 3))
