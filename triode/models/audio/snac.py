"""``snac``: DAC's body with depthwise filters around a quantiser of several rates in time (Siuzdak et al., 2024).

The defaults are the published network at 24 kHz; :data:`SNAC_32K` and :data:`SNAC_44K` are the others, with attention
at the features' rate. Where the decoder has noise it is drawn while training and left out at inference: what a file
decodes to is a function of the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from triode.entropy.vq.multiscale import MultiScaleResidualVQ
from triode.models.audio.chain import DecoderChain, EncoderChain
from triode.models.audio.dac import check_widths
from triode.models.audio.reach import decoder_reach, encoder_reach
from triode.models.audio.vq_codec import VqCodec, VqConfig
from triode.models.layers.audio.conv import weight_norm
from triode.models.layers.audio.local_attention import LocalAttention
from triode.models.layers.audio.snake import DownBlock, Snake1d, UpBlock
from triode.models.layers.audio.streaming import Pointwise
from triode.models.registry import register_model

__all__ = ["SNAC_32K", "SNAC_44K", "NoiseBlock", "Snac", "SnacConfig"]


@dataclass(frozen=True, slots=True)
class SnacConfig(VqConfig):
    """Widths of :class:`Snac`.

    Attributes:
        encoder: Channels at the signal's rate; they double at each stride.
        strides: Subsampling factors of the encoder, in its order.
        decoder: Channels at the features' rate; they halve at each stride.
        decoder_strides: Factors of the decoder, in its order; those of the encoder reversed where empty.
        depthwise: Whether residual units and outer convolutions filter each channel alone.
        noise: Whether the decoder has blocks that add noise, while training.
        window: Frames of a window of attention; 0 for no attention.
        head: Channels of a head.
        vq_strides: Frames that one code of each stage stands for, slowest first.
        codebook_size: Entries of each codebook.
        codebook_dim: Their dimension.
        commitment: Weight of the commitment loss beside the codebook loss.
    """

    encoder: int = 48
    strides: tuple[int, ...] = (2, 4, 8, 8)
    decoder: int = 1024
    decoder_strides: tuple[int, ...] = ()
    depthwise: bool = True
    noise: bool = True
    window: int = 0
    head: int = 64
    vq_strides: tuple[int, ...] = (4, 2, 1)
    codebook_size: int = 4096
    codebook_dim: int = 8
    commitment: float = 0.25

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If widths do not halve as often as they must, or strides of both sides differ in their product.
        """
        check_widths(self.encoder, self.strides, self.decoder, self.decoder_strides or tuple(reversed(self.strides)))
        if self.window < 0:
            raise ValueError(f"Argument `window` must be at least 0, but got {self.window}")
        object.__setattr__(self, "strides", tuple(self.strides))
        object.__setattr__(self, "decoder_strides", tuple(self.decoder_strides) or tuple(reversed(self.strides)))
        object.__setattr__(self, "vq_strides", tuple(self.vq_strides))


SNAC_32K = SnacConfig(
    sample_rate=32000, encoder=64, strides=(2, 3, 8, 8), decoder=1536, window=32, vq_strides=(8, 4, 2, 1)
)
"""The published network at 32 kHz."""
SNAC_44K = SnacConfig(
    sample_rate=44100, encoder=64, strides=(2, 3, 8, 8), decoder=1536, window=32, vq_strides=(8, 4, 2, 1)
)
"""The published network at 44.1 kHz."""


class NoiseBlock(Pointwise):
    """``x + n W x`` with a noise n for each time, shared by the channels; x itself in evaluation.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = weight_norm(nn.Conv1d(channels, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape."""
        if not self.training:
            return x
        y: Tensor = x + torch.randn_like(x[:, :1]) * self.linear(x)
        return y


def _encoder(c: SnacConfig) -> EncoderChain:
    width = c.encoder
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, width, 7, padding=3))]
    for stride in c.strides:
        layers.append(DownBlock(width, 2 * width, stride, width if c.depthwise else 1))
        width *= 2
    layers += [LocalAttention(width, c.window, c.head)] if c.window else []
    return EncoderChain(*layers, weight_norm(nn.Conv1d(width, width, 7, padding=3, groups=width if c.depthwise else 1)))


def _decoder(c: SnacConfig) -> DecoderChain:
    dim, width = c.encoder << len(c.strides), c.decoder
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(dim, width, 7, padding=3))]
    if c.depthwise:
        layers = [weight_norm(nn.Conv1d(dim, dim, 7, padding=3, groups=dim)), weight_norm(nn.Conv1d(dim, width, 1))]
    layers += [LocalAttention(width, c.window, c.head)] if c.window else []
    for stride in c.decoder_strides:
        half = width // 2
        noise = NoiseBlock(half) if c.noise else None
        layers.append(UpBlock(width, half, stride, half if c.depthwise else 1, exact=True, injected=noise))
        width = half
    return DecoderChain(*layers, Snake1d(width), weight_norm(nn.Conv1d(width, 1, 7, padding=3)), nn.Tanh())


class Snac(VqCodec):
    """See the module's text.

    Args:
        config: Widths.

    Raises:
        ValueError: If they do not suit each other.
    """

    config: SnacConfig

    def __init__(self, config: SnacConfig | None = None) -> None:
        c = config or SnacConfig()
        dim, hop = c.encoder << len(c.strides), math.prod(c.strides)
        encoder, decoder, run = _encoder(c), _decoder(c), c.window or 1
        super().__init__(
            c,
            encoder,
            MultiScaleResidualVQ(dim, c.codebook_size, c.codebook_dim, c.vq_strides, commitment=c.commitment),
            decoder,
            hop=hop,
            analysis_halo=encoder_reach(encoder, hop, run=run),
            synthesis_halo=decoder_reach(decoder, hop, run=run),
            multiple=run,
        )


@register_model("snac", SnacConfig, media="audio")
def snac(config: SnacConfig) -> nn.Module:
    """Build :class:`Snac`."""
    return Snac(config)
