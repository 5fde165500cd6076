"""``dac``: convolutions with Snake around residual, factorised codes (Kumar et al., "RVQGAN", NeurIPS 2023).

The defaults are the published network at 44.1 kHz; :data:`DAC_24K` and :data:`DAC_16K` are the others. For odd strides
our decoder gives the samples at the very end that the published one leaves out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from triode.entropy.vq.factorised import FactorisedVQ
from triode.entropy.vq.residual import ResidualVQ
from triode.models.audio.chain import DecoderChain, EncoderChain
from triode.models.audio.reach import decoder_reach, encoder_reach
from triode.models.audio.vq_codec import VqCodec, VqConfig
from triode.models.layers.audio.conv import weight_norm
from triode.models.layers.audio.snake import DownBlock, Snake1d, UpBlock
from triode.models.registry import register_model

__all__ = ["DAC_16K", "DAC_24K", "Dac", "DacConfig"]

_INIT_STD = 0.02


def check_widths(encoder: int, strides: tuple[int, ...], decoder: int, decoder_strides: tuple[int, ...]) -> None:
    """Check the widths of an encoder and a decoder.

    Args:
        encoder: Channels at the signal's rate.
        strides: Factors of the encoder.
        decoder: Channels at the features' rate.
        decoder_strides: Factors of the decoder.

    Raises:
        ValueError: If a number is not positive, widths do not halve as often as they must, or the factors of both sides
            differ in their product.
    """
    if encoder < 1 or not strides or min(*strides, *decoder_strides) < 1:
        raise ValueError(f"Channels and strides must be positive, but got {encoder}, {strides} and {decoder_strides}")
    if decoder < 1 or decoder % (1 << len(decoder_strides)):
        raise ValueError(
            f"Argument `decoder` must be a multiple of {1 << len(decoder_strides)} for {len(decoder_strides)} strides, "
            f"but got {decoder}"
        )
    if math.prod(strides) != math.prod(decoder_strides):
        raise ValueError(f"Strides must have equal products, but got {strides} and {decoder_strides}")


@dataclass(frozen=True, slots=True)
class DacConfig(VqConfig):
    """Widths of :class:`Dac`.

    Attributes:
        encoder: Channels at the signal's rate; they double at each stride.
        strides: Subsampling factors of the encoder, in its order.
        decoder: Channels at the features' rate; they halve at each stride.
        decoder_strides: Factors of the decoder, in its order; those of the encoder reversed where empty.
        stages: Stages of the quantiser.
        codebook_size: Entries of each codebook.
        codebook_dim: Their dimension.
        commitment: Weight of the commitment loss beside the codebook loss.
    """

    sample_rate: int = 44100
    encoder: int = 64
    strides: tuple[int, ...] = (2, 4, 8, 8)
    decoder: int = 1536
    decoder_strides: tuple[int, ...] = ()
    stages: int = 9
    codebook_size: int = 1024
    codebook_dim: int = 8
    commitment: float = 0.25

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If widths do not halve as often as they must, or strides of both sides differ in their product.
        """
        check_widths(self.encoder, self.strides, self.decoder, self.decoder_strides or tuple(reversed(self.strides)))
        object.__setattr__(self, "strides", tuple(self.strides))
        object.__setattr__(self, "decoder_strides", tuple(self.decoder_strides) or tuple(reversed(self.strides)))


DAC_24K = DacConfig(sample_rate=24000, strides=(2, 4, 5, 8), stages=32)
"""The published network at 24 kHz."""
DAC_16K = DacConfig(sample_rate=16000, strides=(2, 4, 5, 8), stages=12)
"""The published network at 16 kHz."""


def _encoder(c: DacConfig) -> EncoderChain:
    width = c.encoder
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, width, 7, padding=3))]
    for stride in c.strides:
        layers.append(DownBlock(width, 2 * width, stride))
        width *= 2
    return EncoderChain(*layers, Snake1d(width), weight_norm(nn.Conv1d(width, width, 3, padding=1)))


def _decoder(c: DacConfig) -> DecoderChain:
    width = c.decoder
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(c.encoder << len(c.strides), width, 7, padding=3))]
    for stride in c.decoder_strides:
        layers.append(UpBlock(width, width // 2, stride, exact=True))
        width //= 2
    return DecoderChain(*layers, Snake1d(width), weight_norm(nn.Conv1d(width, 1, 7, padding=3)), nn.Tanh())


class Dac(VqCodec):
    """See the module's text.

    Args:
        config: Widths.

    Raises:
        ValueError: If they do not suit each other.
    """

    config: DacConfig

    def __init__(self, config: DacConfig | None = None) -> None:
        c = config or DacConfig()
        dim, hop = c.encoder << len(c.strides), math.prod(c.strides)
        encoder, decoder = _encoder(c), _decoder(c)
        init_dac(encoder, decoder)
        stages = [FactorisedVQ(dim, c.codebook_size, c.codebook_dim, commitment=c.commitment) for _ in range(c.stages)]
        super().__init__(
            c,
            encoder,
            ResidualVQ(stages),
            decoder,
            hop=hop,
            analysis_halo=encoder_reach(encoder, hop),
            synthesis_halo=decoder_reach(decoder, hop),
        )


def init_dac(*networks: nn.Module) -> None:
    """Start convolutions as DAC does: normal weights of standard deviation 0.02, biases of zero."""
    for network in networks:
        for layer in network.modules():
            if isinstance(layer, nn.Conv1d):
                with torch.no_grad():
                    layer.weight = nn.init.normal_(layer.weight, std=_INIT_STD)  # Through the weight norm.
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


@register_model("dac", DacConfig, media="audio")
def dac(config: DacConfig) -> nn.Module:
    """Build :class:`Dac`."""
    return Dac(config)
