"""``hifi-codec``: HiFi-GAN's generator and its mirror image around group-residual codes (Yang et al., 2023).

The defaults are the published network at 24 kHz with 75 frames a second, 3 kb/s before entropy coding;
:data:`HIFI_CODEC_24K_240` and :data:`HIFI_CODEC_16K` are the others. They were trained at the higher of the two rates
alone; the lower one has the first stage of every group.

The encoder's group norms see all of their input, here a chunk and the margin that its convolutions see. The decoder has
a bounded reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from triode.entropy.vq.group import GroupResidualVQ
from triode.models.audio.reach import decoder_reach, encoder_reach
from triode.models.audio.vq_codec import VqCodec, VqConfig
from triode.models.layers.audio.hifigan import HifiDecoder, HifiEncoder
from triode.models.registry import register_model

__all__ = ["HIFI_CODEC_16K", "HIFI_CODEC_24K_240", "HifiCodec", "HifiCodecConfig"]


@dataclass(frozen=True, slots=True)
class HifiCodecConfig(VqConfig):
    """Widths of :class:`HifiCodec`.

    Attributes:
        filters: Channels of the encoder at the signal's rate; they double at each stride.
        dimension: Channels of the features, a multiple of ``groups``.
        channels: Channels of the decoder at the features' rate; they halve at each stride.
        strides: Upsampling factors, in the decoder's order.
        kernels: Taps of the convolution that upsamples by each; its counterpart in the encoder has as many.
        residual_kernels: Taps of the residual blocks at each rate, in the decoder's order.
        dilations: Distance of the taps in each of them.
        groups: Groups of channels that are quantised apart.
        depth: Residual stages of each group.
        codebook_size: Entries of each codebook.
        commitment: Weight of the commitment loss beside the codebook loss.
    """

    filters: int = 32
    dimension: int = 512
    channels: int = 512
    strides: tuple[int, ...] = (8, 5, 4, 2)
    kernels: tuple[int, ...] = (16, 11, 8, 4)
    residual_kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)
    groups: int = 2
    depth: int = 2
    codebook_size: int = 1024
    commitment: float = 0.25

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If one is out of range.
        """
        for name in ("strides", "kernels", "residual_kernels", "dilations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        counts = (self.filters, self.channels, *self.strides, *self.residual_kernels, *self.dilations)
        if not self.strides or not self.residual_kernels or not self.dilations or min(counts) < 1:
            raise ValueError(f"Channels, strides, kernels and dilations must be positive, but got {self}")


HIFI_CODEC_24K_240 = HifiCodecConfig(strides=(8, 5, 3, 2), kernels=(16, 11, 7, 4))
"""The published network at 24 kHz with 100 frames a second: 4 kb/s before entropy coding."""
HIFI_CODEC_16K = HifiCodecConfig(sample_rate=16000)
"""The published network at 16 kHz with 50 frames a second: 2 kb/s before entropy coding."""


class HifiCodec(VqCodec):
    """See the module's text.

    Args:
        config: Widths.

    Raises:
        ValueError: If they do not suit each other.
    """

    config: HifiCodecConfig

    def __init__(self, config: HifiCodecConfig | None = None) -> None:
        c = config or HifiCodecConfig()
        hop = math.prod(c.strides)
        encoder = HifiEncoder(
            c.filters, c.dimension, c.strides[::-1], c.kernels[::-1], c.residual_kernels[::-1], c.dilations
        )
        decoder = HifiDecoder(c.dimension, c.channels, c.strides, c.kernels, c.residual_kernels, c.dilations)
        super().__init__(
            c,
            encoder,
            GroupResidualVQ(c.dimension, c.codebook_size, c.groups, c.depth, commitment=c.commitment),
            decoder,
            hop=hop,
            analysis_halo=encoder_reach(encoder, hop),
            synthesis_halo=decoder_reach(decoder, hop),
        )

    @property
    def rates(self) -> tuple[int, ...]:
        """Numbers of stages that rate points choose from: whole rows of groups."""
        return tuple(range(self.config.groups, self.stages + 1, self.config.groups))


@register_model("hifi-codec", HifiCodecConfig, media="audio")
def hifi_codec(config: HifiCodecConfig) -> nn.Module:
    """Build :class:`HifiCodec`."""
    return HifiCodec(config)
