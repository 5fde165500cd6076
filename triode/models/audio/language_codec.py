"""``language-codec``: SEANet, masked-channel residual codes, and a Fourier decoder (Ji et al., 2024).

The defaults are the published network: 24 kHz, 75 frames a second, 8 codes each. The first three codes take a third of
the features' channels each, so there is no rate below them. The decoder is that of Vocos (Siuzdak, ICLR 2024): ConvNeXt
blocks, then magnitudes and phases of a spectrum.

The published decoder chose its norms by one of four bandwidths, which all were the same rate; here there is one.

The encoder's LSTM has no bounded reach: a chunk starts it ``warmup`` frames ahead of what its convolutions see. The
decoder's reach is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from triode.entropy.vq.masked import MaskedChannelResidualVQ
from triode.entropy.vq.plain import PlainVQ
from triode.models.audio.reach import encoder_reach
from triode.models.audio.vq_codec import VqCodec, VqConfig
from triode.models.layers.audio.convnext import ConvNeXtBackbone
from triode.models.layers.audio.istft_head import IstftHead
from triode.models.layers.audio.seanet import SeanetConfig, SeanetEncoder
from triode.models.registry import register_model

__all__ = ["FourierDecoder", "LanguageCodec", "LanguageCodecConfig"]


@dataclass(frozen=True, slots=True)
class LanguageCodecConfig(VqConfig):
    """Widths of :class:`LanguageCodec`.

    Attributes:
        dimension: Channels of the features.
        filters: Channels of the encoder at the signal's rate; they double at each stride.
        strides: Subsampling factors of the encoder, in its order.
        residual_layers: Residual blocks at each rate.
        lstm: Layers of the LSTM; 0 for none.
        stages: Stages of the quantiser.
        masked: Leading stages that see a part of the channels each.
        codebook_size: Entries of each codebook.
        decay: Of the moving averages that the codebooks learn by.
        decoder: Channels of the decoder.
        decoder_hidden: Channels inside of its blocks.
        decoder_blocks: Number of its blocks.
        spectrum_hops: Length of the spectra's windows, in frames.
        warmup: Frames that the LSTM sees beside those that a chunk's convolutions see.
    """

    dimension: int = 128
    filters: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    residual_layers: int = 1
    lstm: int = 2
    stages: int = 8
    masked: int = 3
    codebook_size: int = 1024
    decay: float = 0.99
    decoder: int = 384
    decoder_hidden: int = 1152
    decoder_blocks: int = 12
    spectrum_hops: int = 4
    warmup: int = 24

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If one is out of range.
        """
        object.__setattr__(self, "strides", tuple(self.strides))
        if min(self.decoder, self.decoder_hidden, self.decoder_blocks) < 1 or self.spectrum_hops < 2 or self.warmup < 0:
            raise ValueError(
                "The decoder's widths must be positive, `spectrum_hops` at least 2 and `warmup` not negative, "
                f"but got {self}"
            )

    def seanet(self) -> SeanetConfig:
        """Return the shape of the encoder."""
        return SeanetConfig(
            dimension=self.dimension,
            filters=self.filters,
            strides=self.strides,
            residual_layers=self.residual_layers,
            lstm=self.lstm,
            causal=False,
        )


class FourierDecoder(nn.Module):
    """ConvNeXt blocks, then an inverse short-time Fourier transform: features (B, D, F) to samples (B, 1, F * hop).

    Args:
        dimension: Channels D.
        channels: Channels of the blocks.
        hidden: Channels inside of them.
        blocks: Number of blocks.
        n_fft: Samples of a spectrum's window.
        hop: Samples of a frame.
    """

    def __init__(self, dimension: int, channels: int, hidden: int, blocks: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.backbone = ConvNeXtBackbone(dimension, channels, blocks, hidden)
        self.head = IstftHead(channels, n_fft, hop, normalized=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, F) to (B, 1, F * hop)."""
        y: Tensor = self.head(self.backbone(x))
        return y

    @property
    def reach(self) -> int:
        """Frames beyond a run of them, to the farther side, that its samples depend on."""
        framing = self.head.synthesis.framing
        spectra = max(-(-framing.left // framing.hop), -(-framing.lookahead // framing.hop))
        return max(self.backbone.reach) + spectra


class LanguageCodec(VqCodec):
    """See the module's text.

    Args:
        config: Widths.

    Raises:
        ValueError: If they do not suit each other.
    """

    config: LanguageCodecConfig

    def __init__(self, config: LanguageCodecConfig | None = None) -> None:
        c = config or LanguageCodecConfig()
        shape = c.seanet()
        encoder = SeanetEncoder(shape)
        decoder = FourierDecoder(
            c.dimension, c.decoder, c.decoder_hidden, c.decoder_blocks, c.spectrum_hops * shape.hop, shape.hop
        )
        books = [PlainVQ(c.dimension, c.codebook_size, decay=c.decay) for _ in range(c.stages)]
        super().__init__(
            c,
            encoder,
            MaskedChannelResidualVQ(books, c.masked),
            decoder,
            hop=shape.hop,
            analysis_halo=encoder_reach(encoder, shape.hop, warmup=c.warmup if c.lstm else 0),
            synthesis_halo=decoder.reach,
        )

    @property
    def rates(self) -> tuple[int, ...]:
        """Numbers of stages that rate points choose from: all that have a code for each part of the channels."""
        return tuple(range(self.config.masked, self.stages + 1))


@register_model("language-codec", LanguageCodecConfig, media="audio")
def language_codec(config: LanguageCodecConfig) -> nn.Module:
    """Build :class:`LanguageCodec`."""
    return LanguageCodec(config)
