"""``audio-light``: a variable-rate audio codec for one CPU core.

A lapped transform (MDCT) with companded coefficients, and beside it a few channels for the spectral envelope; light
networks over short-time spectra on both sides, which learn what a transform cannot; a hyperprior and a four-step
context over time in integers; per-rate-point gains. Before training it is a plain transform codec that gives back what
it was given, as :class:`~triode.models.image.image_light.ImageLight` starts from a linear transform. Magnitudes of
coefficients say far more of their neighbours than signs do, so contexts and hyper-analysis see both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.context.model import ContextModel
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.hyperprior import Hyperprior
from triode.entropy.rate import RateBias, RateGain
from triode.models.audio.features import Companding, EnvelopeBands, FrameTransform, InverseFrameTransform
from triode.models.audio.time_entropy import TimeHyperAnalysis, TimeHyperSynthesis, TimeParameters
from triode.models.base import AudioModel, Output
from triode.models.layers.audio.spectra import expand_power, reduce_power
from triode.models.layers.audio.stft import StftAnalysis, StftSynthesis
from triode.models.layers.blocks import DepthwiseBlocks
from triode.models.layers.precision import full_precision
from triode.models.registry import register_model

_FLOOR = 1e-3
_FRAMES = 4
_HIGH_RATE = 6 / math.log(2)


@dataclass(frozen=True, slots=True)
class AudioLightConfig:
    """Widths of :class:`AudioLight`.

    Attributes:
        sample_rate: Samples per second.
        hop: Samples of a frame; spectra are taken over two frames.
        block: Coefficients of the lapped transform; divides the hop.
        coefficients: How many coefficients of a frame are coded, the lowest ones of each block.
        envelope: Channels of the spectral envelope; with the coefficients a multiple of 4.
        bands: Bands that the envelope is taken of.
        hyper: Channels of z, one in four frames.
        encoder: Channels of the analysis.
        encoder_blocks: Blocks of the analysis.
        decoder: Channels of the synthesis.
        decoder_blocks: Blocks of the synthesis.
        kernel: Frames that the filter of a block sees, odd.
        context: Channels of the context over time.
        features: Channels of the hyper-decoder's features.
        parameters: Hidden channels of the parameter network.
        anchors: Learned rate points.
        power: Exponent of the magnitudes that the networks see.
        companding: Exponent of the coefficients.
        gain_min: Gain of the companded coefficients at rate point 0, before training.
        gain_max: The same at rate point 63.
        lambda_min: Weight of the distortion at rate point 0, against bits a frame.
        lambda_max: The same at rate point 63.
    """

    sample_rate: int = 16000
    hop: int = 320
    block: int = 160
    coefficients: int = 320
    envelope: int = 24
    bands: int = 32
    hyper: int = 48
    encoder: int = 192
    encoder_blocks: int = 3
    decoder: int = 256
    decoder_blocks: int = 6
    kernel: int = 5
    context: int = 128
    features: int = 192
    parameters: int = 128
    anchors: int = 8
    power: float = 0.3
    companding: float = 0.5
    gain_min: float = 2.0
    gain_max: float = 13.0
    lambda_min: float = 40.0
    lambda_max: float = 750.0


class _Analysis(nn.Module):
    """g_a: samples (B, 1, F * hop) to latent (B, M, 1, F), before the gain."""

    def __init__(self, c: AudioLightConfig) -> None:
        super().__init__()
        latent, bins = c.coefficients + c.envelope, c.hop + 1
        self.power = c.power
        self.transform = FrameTransform(c.hop, c.block, c.coefficients)
        self.spectra = StftAnalysis(2 * c.hop, c.hop)
        self.companding = Companding(c.companding)
        self.bands = EnvelopeBands(c.sample_rate, bins, c.bands, c.power)
        self.linear = nn.Conv2d(c.coefficients + c.bands, latent, 1)
        self.head = nn.Conv2d(c.coefficients + c.bands + 2 * bins, c.encoder, 1)
        self.head_gain = RateGain(c.encoder, c.anchors)
        self.head_bias = RateBias(c.encoder, c.anchors)
        self.blocks = DepthwiseBlocks(c.encoder, c.encoder_blocks, (1, c.kernel))
        self.tail = nn.Conv2d(c.encoder, latent, 1)
        _zero(self.tail)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the linear path sees, (B, N, 1, F), and compressed spectra (B, 2 K, 1, F)."""
        spectra = self.spectra(x)
        companded = self.companding(self.transform(x))
        linear = torch.cat([companded, self.bands(spectra)], 1)
        compressed = reduce_power(spectra, self.power, floor=_FLOOR, dim=2)
        return linear, compressed.flatten(1, 3)[:, :, None]

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        linear, compressed = self.features(x)
        t = self.head(torch.cat([linear, compressed], 1))
        t = self.tail(self.blocks(self.head_bias(self.head_gain(t, q), q)))
        y: Tensor = full_precision(self.linear, linear) + t.float()
        return y


class _Synthesis(nn.Module):
    """g_s: latent (B, M, 1, F), gain taken out, to samples (B, 1, F * hop).

    The network corrects the compressed spectrum of what the linear path gives: it scales every bin and adds to it.
    """

    def __init__(self, c: AudioLightConfig) -> None:
        super().__init__()
        latent, self.bins = c.coefficients + c.envelope, c.hop + 1
        self.power = c.power
        self.transform = InverseFrameTransform(c.hop, c.block, c.coefficients)
        self.expand = Companding(1 / c.companding)
        self.spectra = StftAnalysis(2 * c.hop, c.hop)
        self.inverse = StftSynthesis(2 * c.hop, c.hop)
        self.linear = nn.Conv2d(latent, c.coefficients, 1)
        self.head = nn.Conv2d(latent + 2 * self.bins, c.decoder, 1)
        self.head_gain = RateGain(c.decoder, c.anchors)
        self.head_bias = RateBias(c.decoder, c.anchors)
        self.blocks = DepthwiseBlocks(c.decoder, c.decoder_blocks, (1, c.kernel))
        self.tail = nn.Conv2d(c.decoder, 3 * self.bins, 1)
        _zero(self.tail)

    def forward(self, y: Tensor, q: Tensor) -> Tensor:
        plain = self.transform(self.expand(full_precision(self.linear, y)))
        spectra = reduce_power(self.spectra(plain), self.power, floor=_FLOOR, dim=2)
        b, _, _, _, frames = spectra.shape
        t = self.head(torch.cat([y, spectra.reshape(b, -1, 1, frames)], 1))
        t = self.tail(self.blocks(self.head_bias(self.head_gain(t, q), q))).float()
        scale, more = t.reshape(b, 3, self.bins, frames).split((1, 2), 1)
        corrected = spectra * (1 + scale)[:, None] + more[:, None]
        x: Tensor = self.inverse(expand_power(corrected, self.power, floor=_FLOOR, dim=2))
        return x


class AudioLight(AudioModel):
    """See the module's text.

    Args:
        config: Widths.

    Raises:
        ValueError: If lengths or widths do not suit each other.
    """

    level = 0.1
    """Root mean square that training brings recordings to, and that a codec had better bring them to."""
    rdoq = 0.0
    """Rate-distortion optimised quantisation: price of the error against that at high rates; 0 rounds to nearest.

    What bits it saves, the mel distance loses: the synthesis fills in what it takes for rounding to nearest.
    """
    settling = False
    """Whether rates train the entropy model alone, and distortions nothing but the transforms; see :meth:`forward`."""
    multiple = _FRAMES
    config: AudioLightConfig

    def __init__(self, config: AudioLightConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or AudioLightConfig()
        latent = c.coefficients + c.envelope
        if latent % 4:
            raise ValueError(f"Coefficients and envelope must be a multiple of 4, but are {latent}")
        if c.kernel % 2 == 0:
            raise ValueError(f"Argument `kernel` must be odd, but got {c.kernel}")
        self.sample_rate, self.hop = c.sample_rate, c.hop
        # Spectra and transform reach half a frame over theirs; so do the spectra that the synthesis adds up.
        self.analysis_halo = c.encoder_blocks * (c.kernel // 2) + 1
        self.synthesis_halo = c.decoder_blocks * (c.kernel // 2) + 2
        gain = c.gain_min * (c.gain_max / c.gain_min) ** torch.linspace(0, 1, c.anchors)
        self.g_a, self.g_s = _Analysis(c), _Synthesis(c)
        self.gain = RateGain(latent, c.anchors, gain)
        self.inverse_gain = RateGain(latent, c.anchors, 1 / gain)
        parameters = TimeParameters(latent, c.context, c.features, c.parameters, gain)
        self.entropy = Hyperprior(
            TimeHyperAnalysis(latent, c.parameters, c.hyper, c.anchors),
            TimeHyperSynthesis(c.hyper, c.parameters, c.features, c.anchors),
            FactorizedPrior(c.hyper),
            ContextModel(parameters.schedule, parameters),
            stride=(1, _FRAMES),
        )
        self.init_linear(torch.eye(c.bands)[: c.envelope], torch.zeros(c.bands), torch.ones(latent))

    def order(self) -> Tensor:
        """Return where each coefficient (in order of frequency), and each envelope channel behind them, goes: (M,).

        They are dealt in turn to the four groups of the context, so that each group has neighbours in the others.
        """
        c = self.config
        parts = torch.arange(c.coefficients), torch.arange(c.coefficients, c.coefficients + c.envelope)
        dealt = torch.cat([part[g::4] for g in range(4) for part in parts])
        # Groups must be of equal size, which dealing gives up to a channel.
        place = torch.empty_like(dealt)
        place[dealt] = torch.arange(len(dealt))
        return place

    @torch.no_grad()
    def init_linear(self, components: Tensor, mean: Tensor, deviations: Tensor) -> None:
        """Start the linear path: coefficients go through as they are, the envelope to its principal components.

        Args:
            components: (E, bands) orthonormal.
            mean: (bands,) mean of the bands.
            deviations: (M,) standard deviations, coefficients first, then the envelope's components.
        """
        c, place = self.config, self.order()
        n = c.coefficients
        forward, back = self.g_a.linear, self.g_s.linear
        bias = cast(nn.Parameter, forward.bias)
        for tensor in (forward.weight, bias, back.weight, cast(nn.Parameter, back.bias)):
            tensor.zero_()
        forward.weight[place[:n], torch.arange(n), 0, 0] = 1.0
        forward.weight[place[n:], n:, 0, 0] = components
        bias[place[n:]] = -(components @ mean)
        back.weight[torch.arange(n), place[:n], 0, 0] = 1.0
        dealt = torch.empty(len(place))
        dealt[place] = deviations
        cast(TimeParameters, self.entropy.context.parameter_net).init_deviations(dealt)

    @torch.no_grad()
    def init_from_data(self, sounds: Iterable[NDArray[np.float32]]) -> None:
        """Start the linear path from recordings, each brought to :attr:`level`; those under a frame are passed over.

        Args:
            sounds: (T,) float32 each, at :attr:`sample_rate`.

        Raises:
            ValueError: If there are none, or fewer frames than bands.
        """
        c = self.config
        squares, found = torch.zeros(c.coefficients, dtype=torch.float64), []
        for sound in sounds:
            frames = len(sound) // c.hop
            loudness = float(np.sqrt(np.square(sound, dtype=np.float64).mean())) if frames else 0.0
            if loudness > 0:
                x = torch.from_numpy(np.ascontiguousarray(sound[: frames * c.hop])) * (self.level / loudness)
                linear = self.g_a.features(x[None, None])[0][0, :, 0].double()
                squares += linear[: c.coefficients].square().sum(1)
                found.append(linear[c.coefficients :])
        envelopes = torch.cat([torch.zeros(c.bands, 0, dtype=torch.float64), *found], 1)
        if envelopes.shape[1] < c.bands:
            raise ValueError(f"Need at least {c.bands} frames of sound, but got {envelopes.shape[1]}")
        mean = envelopes.mean(1)
        values, vectors = torch.linalg.eigh(torch.cov(envelopes))
        components = vectors.flip(1)[:, : c.envelope].t()
        spread = torch.cat([squares / envelopes.shape[1], values.flip(0)[: c.envelope].clamp_min(0)]).sqrt()
        self.init_linear(components.float(), mean.float(), spread.float())

    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return the weight of the distortion at rate points ``q`` (B,), as (B,) float."""
        c = self.config
        return c.lambda_min * (c.lambda_max / c.lambda_min) ** (q / 63.0)

    def forward(self, x: Tensor, q: Tensor) -> Output:
        """Code and decode a batch, differentiably.

        While ``settling``, rates do not reach the analysis, nor errors the gains and the entropy model: so both learn
        from the start as it is, before the rate takes away what the synthesis has yet to find a use for.

        Args:
            x: (B, 1, T) float, of about :attr:`level`; T a multiple of ``4 * hop``.
            q: (B,) rate points in [0, 63].

        Returns:
            Reconstruction and bits.
        """
        y = self.g_a(x, q)
        scaled = self.gain(y, q)
        with torch.autocast(x.device.type, enabled=False):
            if self.settling:
                latent = self.entropy(scaled.detach(), q, side=y.detach())
                scaled = y * self.gain.gain(q).detach()[:, :, None, None]
                y_hat = scaled + (latent.y_hat - scaled).detach()
            else:
                latent = self.entropy(scaled, q, side=y)
                y_hat = latent.y_hat
        return Output(self.g_s(self.inverse_gain(y_hat, q), q), latent.bits)

    def analysis(self, x: Tensor, q: Tensor) -> Tensor:
        """Return the latent (B, M, 1, F), gain not applied, of samples (B, 1, F * hop)."""
        y: Tensor = self.g_a(x, q)
        return y

    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        """Write one latent (1, M, 1, F), gain not applied, at an integer rate point (1,); see :class:`Hyperprior`."""
        price = torch.full((y.shape[1],), self.rdoq * _HIGH_RATE, dtype=torch.float64) if self.rdoq else None
        return self.entropy.encode(self.gain(y, q), q, writer, side=y, weight=price)

    def decode(self, frames: int, q: Tensor, reader: SymbolReader) -> Tensor:
        """Read one quantised latent (1, M, 1, F), gain applied, given its number of frames."""
        return self.entropy.decode((1, frames), q, reader)

    def dequantise(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """Take the gain out of a quantised latent (B, M, 1, F)."""
        y: Tensor = self.inverse_gain(y_hat, q)
        return y

    def synthesis(self, y: Tensor, q: Tensor) -> Tensor:
        """Return samples (B, 1, F * hop) of a dequantised latent (B, M, 1, F)."""
        x: Tensor = self.g_s(y, q)
        return x

    def export(self) -> None:
        """Freeze the integer entropy networks and tables."""
        self.entropy.export()


def _zero(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


@register_model("audio-light", AudioLightConfig, media="audio")
def audio_light(config: AudioLightConfig) -> AudioLight:
    """Build :class:`AudioLight`."""
    return AudioLight(config)
