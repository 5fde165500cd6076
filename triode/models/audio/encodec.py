"""``encodec``: SEANet with an LSTM around residual vector quantisation (Défossez et al., TMLR 2023).

The defaults are the causal network at 24 kHz; :data:`ENCODEC_48K` is the one of music, made for stereo, whose group
norms see all of their input. Here each channel is coded on its own, and a network of two channels is given it twice.

Neither LSTM nor group norm has a bounded reach. Each chunk starts them ``warmup`` frames ahead of what the
convolutions see of it, and they forget the rest; see :mod:`triode.models.audio.vq_codec`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from triode.entropy.vq.plain import PlainVQ
from triode.entropy.vq.residual import ResidualVQ
from triode.models.audio.reach import decoder_reach, encoder_reach
from triode.models.audio.vq_codec import VqCodec, VqConfig
from triode.models.layers.audio.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder
from triode.models.registry import register_model

__all__ = ["ENCODEC_48K", "Encodec", "EncodecConfig"]


@dataclass(frozen=True, slots=True)
class EncodecConfig(VqConfig):
    """Widths of :class:`Encodec`.

    Attributes:
        channels: Channels of the networks, 1 or 2.
        dimension: Channels of the features.
        filters: Channels at the signal's rate; they double at each stride.
        strides: Subsampling factors of the encoder, in its order.
        residual_layers: Residual blocks at each rate.
        lstm: Layers of each LSTM; 0 for none.
        causal: Whether the convolutions look ahead of no sample.
        norm: ``weight``, ``group`` or ``none``.
        stages: Stages of the quantiser.
        codebook_size: Entries of each codebook.
        decay: Of the moving averages that the codebooks learn by.
        warmup: Frames that LSTM and group norm see beside those that a chunk's convolutions see.
    """

    channels: int = 1
    dimension: int = 128
    filters: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    residual_layers: int = 1
    lstm: int = 2
    causal: bool = True
    norm: str = "weight"
    stages: int = 32
    codebook_size: int = 1024
    decay: float = 0.99
    warmup: int = 24

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If one is out of range.
        """
        object.__setattr__(self, "strides", tuple(self.strides))
        if self.channels not in (1, 2):
            raise ValueError(f"Argument `channels` must be 1 or 2, but got {self.channels}")
        if self.norm not in ("weight", "group", "none"):
            raise ValueError(f"Argument `norm` must be 'weight', 'group' or 'none', but got {self.norm!r}")
        if self.warmup < 0:
            raise ValueError(f"Argument `warmup` must be at least 0, but got {self.warmup}")

    def seanet(self) -> SeanetConfig:
        """Return the shape of the networks."""
        return SeanetConfig(
            channels=self.channels,
            dimension=self.dimension,
            filters=self.filters,
            strides=self.strides,
            residual_layers=self.residual_layers,
            lstm=self.lstm,
            causal=self.causal,
            norm=self.norm,  # type: ignore[arg-type]  # Checked above.
        )


ENCODEC_48K = EncodecConfig(
    sample_rate=48000, channels=2, causal=False, norm="group", stages=16, warmup=64, input_gain=10.0
)
"""The published network at 48 kHz; it takes sound of a root mean square of 1, which the codec brings to 0.1."""


class Encodec(VqCodec):
    """See the module's text.

    Args:
        config: Widths.

    Raises:
        ValueError: If they do not suit each other.
    """

    config: EncodecConfig

    def __init__(self, config: EncodecConfig | None = None) -> None:
        c = config or EncodecConfig()
        shape = c.seanet()
        encoder, decoder = SeanetEncoder(shape), SeanetDecoder(shape)
        warmup = c.warmup if c.lstm or c.norm == "group" else 0
        stages: list[PlainVQ] = [PlainVQ(c.dimension, c.codebook_size, decay=c.decay) for _ in range(c.stages)]
        super().__init__(
            c,
            encoder,
            ResidualVQ(stages, average=True),
            decoder,
            hop=shape.hop,
            analysis_halo=encoder_reach(encoder, shape.hop, warmup=warmup),
            synthesis_halo=decoder_reach(decoder, shape.hop, warmup=warmup),
        )

    def features(self, x: Tensor) -> Tensor:
        """Map samples (B, 1, F * hop) to features (B, D, F)."""
        return super().features(x.expand(-1, self.config.channels, -1))

    def sound(self, features: Tensor) -> Tensor:
        """Map features (B, D, F) to samples (B, 1, F * hop): the mean of the network's channels."""
        return super().sound(features).mean(1, keepdim=True)


@register_model("encodec", EncodecConfig, media="audio")
def encodec(config: EncodecConfig) -> nn.Module:
    """Build :class:`Encodec`."""
    return Encodec(config)
