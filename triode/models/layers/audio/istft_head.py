"""Heads that turn features into a signal through an inverse transform (Vocos: Siuzdak, ICLR 2024)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from triode.models.layers.audio.mdct import MdctSynthesis
from triode.models.layers.audio.spectra import Method, SynthesisState, Window, expand_power
from triode.models.layers.audio.stft import StftSynthesis
from triode.models.layers.audio.streaming import StreamModule

__all__ = ["Curve", "IstftHead", "MdctHead"]

Curve = Literal["linear", "symexp", "power"]


class IstftHead(StreamModule[SynthesisState]):
    """Features (B, D, F) to a signal (B, C, T): a pointwise layer gives log-magnitudes and phases of a spectrum.

    With ``normalized=False`` and one channel it is Vocos' head; weights fit (``out.weight``, ``out.bias``).

    Args:
        features: Channels D.
        n_fft: Samples of a frame.
        hop: Samples that a feature spans.
        channels: Channels C of the signal.
        window: As in :class:`~triode.models.layers.audio.stft.StftSynthesis`, like the following.
        causal: See there.
        normalized: See there.
        method: See there.
        most: Greatest magnitude that comes out, so that an untrained network cannot overflow.
    """

    def __init__(
        self,
        features: int,
        n_fft: int,
        hop: int,
        *,
        channels: int = 1,
        window: Window = "hann",
        causal: bool = False,
        normalized: bool = True,
        method: Method = "fft",
        most: float = 100.0,
    ) -> None:
        super().__init__()
        self.channels, self.limit = channels, math.log(most)
        self.synthesis = StftSynthesis(n_fft, hop, window=window, causal=causal, normalized=normalized, method=method)
        self.out = nn.Linear(features, channels * 2 * self.synthesis.bins)

    def forward(self, x: Tensor, length: int | None = None) -> Tensor:
        """Map (B, D, F) to (B, C, T); the length is as in :meth:`StftSynthesis.forward`."""
        y: Tensor = self.synthesis(self.spectra(x), length)
        return y

    def spectra(self, x: Tensor) -> Tensor:
        """Return the spectra (B, C, 2, K, F) that are synthesised, for losses on them."""
        y: Tensor = self.out(x.transpose(1, 2))
        y = y.reshape(*y.shape[:-1], self.channels, 2, self.synthesis.bins)
        with torch.autocast(x.device.type, enabled=False):
            magnitude, phase = y.to(self.synthesis.window.dtype).unbind(-2)
            magnitude = magnitude.clamp(max=self.limit).exp()
            parts = torch.stack((magnitude * phase.cos(), magnitude * phase.sin()), 3)
        return parts.permute(0, 2, 3, 4, 1)

    def stream_state(self, batch: int = 1) -> SynthesisState:
        """Return the state before the first frame; see :meth:`StreamModule.stream_state`."""
        return self.synthesis.stream_state(batch, self.channels)

    def step(self, x: Tensor, state: SynthesisState) -> tuple[Tensor, SynthesisState]:
        """Take the next piece (B, D, f); see :meth:`StreamModule.step`."""
        return self.synthesis.step(self.spectra(x), state)

    def flush(self, state: SynthesisState) -> Tensor:
        """Return what is left; see :meth:`StreamModule.flush`."""
        return self.synthesis.flush(state)


class MdctHead(StreamModule[SynthesisState]):
    """Features (B, D, F) to a signal (B, C, T): a pointwise layer gives MDCT coefficients.

    Args:
        features: Channels D.
        size: Coefficients of a frame, which are the samples that a feature spans.
        channels: Channels C of the signal.
        curve: From the layer's output v to a coefficient: ``linear``; ``symexp``, sign(v) (exp(|v|) - 1) as in Vocos;
            or ``power``, the inverse of :func:`~triode.models.layers.audio.spectra.reduce_power`.
        power: Exponent of that.
        window: As in :class:`~triode.models.layers.audio.mdct.MdctSynthesis`, like the following.
        causal: See there.
        method: See there.
        most: Greatest magnitude that ``symexp`` gives.

    Raises:
        ValueError: If the curve is unknown, or the synthesis refuses an argument.
    """

    def __init__(
        self,
        features: int,
        size: int,
        *,
        channels: int = 1,
        curve: Curve = "linear",
        power: float = 0.3,
        window: Window = "sine",
        causal: bool = False,
        method: Method = "fft",
        most: float = 100.0,
    ) -> None:
        super().__init__()
        if curve not in ("linear", "symexp", "power"):
            raise ValueError(f"Argument `curve` must be 'linear', 'symexp' or 'power', but got {curve!r}")
        self.channels, self.curve, self.power, self.limit = channels, curve, power, math.log1p(most)
        self.synthesis = MdctSynthesis(size, window=window, causal=causal, method=method)
        self.out = nn.Linear(features, channels * size)

    def forward(self, x: Tensor, length: int | None = None) -> Tensor:
        """Map (B, D, F) to (B, C, T); the length is as in :meth:`MdctSynthesis.forward`."""
        y: Tensor = self.synthesis(self.coefficients(x), length)
        return y

    def coefficients(self, x: Tensor) -> Tensor:
        """Return the coefficients (B, C, N, F) that are synthesised, for losses on them."""
        y: Tensor = self.out(x.transpose(1, 2))
        y = y.reshape(*y.shape[:-1], self.channels, self.synthesis.size)
        with torch.autocast(x.device.type, enabled=False):
            y = y.to(self.synthesis.rise.dtype)
            if self.curve == "symexp":
                y = y.sign() * torch.expm1(y.abs().clamp(max=self.limit))
            elif self.curve == "power":
                y = expand_power(y, self.power)
        return y.permute(0, 2, 3, 1)

    def stream_state(self, batch: int = 1) -> SynthesisState:
        """Return the state before the first frame; see :meth:`StreamModule.stream_state`."""
        return self.synthesis.stream_state(batch, self.channels)

    def step(self, x: Tensor, state: SynthesisState) -> tuple[Tensor, SynthesisState]:
        """Take the next piece (B, D, f); see :meth:`StreamModule.step`."""
        return self.synthesis.step(self.coefficients(x), state)

    def flush(self, state: SynthesisState) -> Tensor:
        """Return what is left; see :meth:`StreamModule.flush`."""
        return self.synthesis.flush(state)
