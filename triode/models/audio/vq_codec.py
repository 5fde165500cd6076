"""What codecs with vector quantisers share: an encoder, a quantiser in stages, a prior of its codes, a decoder.

A rate point is a number of stages, so that a lower rate is a prefix of a higher one, stage by stage. What the entropy
path carries are codes, integers; vectors come from them at the scale of the features (``dequantise``).

Chunks are exact where networks reach a bounded number of frames: the codec gives each chunk a margin as wide. Layers
without a bound (LSTM, normalisation over all of time) start anew at the margin's outer edge, which for recurrent ones
is a warm-up. The edges lie where the chunks lie, whoever asks, so a part decodes to the very samples of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.vq.base import Quantized, VectorQuantizer
from triode.entropy.vq.context_prior import ContextPrior
from triode.entropy.vq.prior import CodePrior
from triode.entropy.vq.static_prior import StaticPrior
from triode.models.base import AudioModel, Output

__all__ = ["RATE_POINTS", "Coded", "VqCodec", "VqConfig", "make_prior"]

RATE_POINTS = 64


@dataclass(frozen=True, slots=True)
class VqConfig:
    """What every codec with a vector quantiser can be told.

    Attributes:
        sample_rate: Samples per second.
        input_gain: What samples are multiplied by before the encoder, and divided by after the decoder. The codec
            gives sound of a root mean square of 0.1 or less and of peaks up to 2, which a gain of 0.5 keeps inside of
            a last layer that is limited to 1.
        prior: ``static``, a table a stage, or ``context``, integer networks over stages and frames before.
        prior_width: Channels of the context prior's code embeddings.
        prior_hidden: Channels inside of its networks.
        prior_reach: Frames that it sees to each side.
        prior_depth: Leading stages that have a network, the others being static; 0 for all.
    """

    sample_rate: int = 24000
    input_gain: float = 1.0
    prior: str = "static"
    prior_width: int = 32
    prior_hidden: int = 64
    prior_reach: int = 3
    prior_depth: int = 0


def make_prior(config: VqConfig, codebook_sizes: Sequence[int], strides: Sequence[int] | None = None) -> CodePrior:
    """Build the prior that a configuration asks for.

    Args:
        config: The configuration.
        codebook_sizes: Number of entries of each stage's codebook.
        strides: Frames that one code of each stage stands for; all 1 when absent.

    Returns:
        The prior.

    Raises:
        ValueError: If it asks for none that there is.
    """
    if config.prior == "static":
        return StaticPrior(codebook_sizes, strides)
    if config.prior == "context":
        return ContextPrior(
            codebook_sizes,
            strides,
            width=config.prior_width,
            hidden=config.prior_hidden,
            reach=config.prior_reach,
            depth=min(config.prior_depth, len(codebook_sizes)) or None,
        )
    raise ValueError(f"Argument `prior` must be 'static' or 'context', but got {config.prior!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Result of a training pass with codes.

    Attributes:
        x_hat: (B, 1, T) reconstruction.
        features: (B, D, F) what was quantised, differentiable.
        quantized: Values, codes, losses (B,), usage and perplexity of the quantiser.
        counts: (B,) int64, stages of each sample.
    """

    x_hat: Tensor
    features: Tensor
    quantized: Quantized
    counts: Tensor


class VqCodec(AudioModel):
    """See the module's text.

    Latents are features (B, D, 1, F) before the quantiser and after :meth:`dequantise`. Between the two, what
    :meth:`encode` and :meth:`decode` give are codes, (1, stages, 1, F) float32 whole numbers; one that stands for
    several frames is repeated. The parts' attributes may be trained, frozen and replaced one by one.

    Args:
        config: Configuration, a :class:`VqConfig` or what has its fields.
        encoder: Network, samples (B, 1, F * hop) to features (B, D, F).
        quantizer: Quantiser of the features.
        decoder: Network, features (B, D, F) to samples (B, 1, F * hop).
        hop: Samples of a frame.
        analysis_halo: Frames beyond a chunk that its features depend on.
        synthesis_halo: Frames beyond a chunk that its samples depend on.
        multiple: Frames that the networks need a multiple of, beside what the quantiser's strides need.
        prior: Prior of the codes; what the configuration asks for when absent.

    Raises:
        ValueError: If there are more stages than rate points, or the configuration is out of range.
    """

    level = 0.1
    """Root mean square that training brings recordings to, and that a codec brings them to."""
    bounded = True

    def __init__(
        self,
        config: Any,
        encoder: nn.Module,
        quantizer: VectorQuantizer,
        decoder: nn.Module,
        *,
        hop: int,
        analysis_halo: int,
        synthesis_halo: int,
        multiple: int = 1,
        prior: CodePrior | None = None,
    ) -> None:
        super().__init__()
        if quantizer.stages > RATE_POINTS:
            raise ValueError(f"Argument `quantizer` must have at most {RATE_POINTS} stages, but got {quantizer.stages}")
        if not config.input_gain > 0:
            raise ValueError(f"Argument `input_gain` must be positive, but got {config.input_gain}")
        self.config = config
        self.sample_rate, self.hop = config.sample_rate, hop
        self.multiple = math.lcm(multiple, *quantizer.strides)
        self.analysis_halo, self.synthesis_halo = analysis_halo, synthesis_halo
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder
        self.prior = prior or make_prior(config, quantizer.codebook_sizes, quantizer.strides)

    @property
    def stages(self) -> int:
        """Number of stages of the quantiser."""
        return self.quantizer.stages

    @property
    def rates(self) -> tuple[int, ...]:
        """Numbers of stages that rate points choose from, rising: 1 to all, unless an architecture has fewer."""
        return tuple(range(1, self.stages + 1))

    def stage_counts(self, q: Tensor) -> Tensor:
        """Return the stages that rate points use: the fewest at 0, all at 63, evenly between.

        Args:
            q: (B,) rate points in [0, 63].

        Returns:
            (B,) int64.
        """
        count = len(self.rates)
        index = (q * count / RATE_POINTS).floor().long().clamp(0, count - 1)
        return torch.tensor(self.rates, device=q.device)[index]

    def rate_point(self, stages: int) -> int:
        """Return the lowest rate point that uses this many stages.

        Raises:
            ValueError: If none does.
        """
        if stages not in self.rates:
            first, last = self.rates[0], self.rates[-1]
            raise ValueError(f"Argument `stages` must be in {first}..{last}, and one of {self.rates}, but got {stages}")
        return -(-self.rates.index(stages) * RATE_POINTS // len(self.rates))

    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return ones (B,): what a stage costs is fixed, so rate points do not weigh the distortion."""
        return torch.ones_like(q, dtype=torch.float32)

    def features(self, x: Tensor) -> Tensor:
        """Map samples (B, 1, F * hop) to the features (B, D, F) that the quantiser sees."""
        y: Tensor = self.encoder(x * self.config.input_gain)
        return y

    def sound(self, features: Tensor) -> Tensor:
        """Map features (B, D, F), quantised or not, to samples (B, 1, F * hop)."""
        x: Tensor = self.decoder(features) / self.config.input_gain
        return x

    def quantised(self, x: Tensor, stages: int | Tensor | None = None) -> Coded:
        """Code and decode a batch through the quantiser; for training, with its losses.

        Args:
            x: (B, 1, T) float; T a multiple of ``hop * multiple``.
            stages: Number of leading stages, or (B,) integers, one a sample; all when absent.

        Returns:
            Reconstruction with straight-through gradients, features, codes and losses.
        """
        y = self.features(x)
        quantized = self.quantizer(y, stages)
        count = self.stages if stages is None else stages
        counts = torch.as_tensor(count, device=y.device).long().expand(len(y))
        return Coded(self.sound(quantized.values), y, quantized, counts)

    def unquantised(self, x: Tensor) -> Tensor:
        """Pass a batch by the quantiser, through its projections and pooling alone: to start training with.

        Args:
            x: (B, 1, T) float; T a multiple of ``hop * multiple``.

        Returns:
            (B, 1, T) reconstruction.
        """
        return self.sound(self.quantizer.bypass(self.features(x)))

    def code_bits(self, codes: Sequence[Tensor], counts: Tensor) -> dict[str, Tensor]:
        """Measure codes by the prior, differentiable with respect to the prior alone.

        Args:
            codes: One (B, F_s) int64 tensor a stage.
            counts: (B,) int64, stages of each sample.

        Returns:
            (B,) bits of each stage given, ``stage1`` first; 0 where a sample does not use it.
        """
        bits = self.prior.stage_bits(codes)
        used = torch.arange(bits.shape[1], device=bits.device) < counts[:, None]
        return {f"stage{n}": part for n, part in enumerate((bits * used).unbind(1), 1)}

    def forward(self, x: Tensor, q: Tensor) -> Output:
        """Code and decode a batch, differentiably; bits by stage. See :meth:`quantised` for the losses."""
        coded = self.quantised(x, self.stage_counts(q))
        return Output(coded.x_hat, self.code_bits(coded.quantized.codes, coded.counts))

    @torch.no_grad()
    def codes(self, x: Tensor, stages: int | None = None) -> tuple[Tensor, ...]:
        """Find the codes of samples (B, 1, F * hop): one (B, F_s) int64 tensor a stage, all of them when absent."""
        return self.quantizer.encode(self.features(x), stages)

    @torch.no_grad()
    def fit_prior(self, sounds: Iterable[NDArray[np.float32]]) -> None:
        """Set the prior's distributions to how often codes occur: after training, or for weights from elsewhere.

        Args:
            sounds: (T,) float32 each, at :attr:`sample_rate`, brought to :attr:`level` here; those that are silent, or
                shorter than ``hop * multiple``, are passed over.

        Raises:
            ValueError: If there are none.
        """
        device, batches = next(self.parameters()).device, []
        was, run = self.training, self.hop * self.multiple
        self.eval()
        for sound in sounds:
            length = len(sound) // run * run
            loudness = float(np.sqrt(np.square(sound, dtype=np.float64).mean())) if length else 0.0
            if loudness > 0:
                scaled = np.ascontiguousarray(sound[:length]) * np.float32(self.level / loudness)
                batches.append(self.codes(torch.from_numpy(scaled).to(device)[None, None]))
        self.train(was)
        if not batches:
            raise ValueError("Argument `sounds` must hold sound that is not silent, but got none")
        self.prior.fit(batches)

    def analysis(self, x: Tensor, q: Tensor) -> Tensor:
        """Map samples (B, 1, F * hop) to features (B, D, 1, F); all rate points share them."""
        return self.features(x)[:, :, None]

    @torch.no_grad()
    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        """Find and write the codes of features (1, D, 1, F); return them (1, stages, 1, F) float32."""
        codes = self.quantizer.encode(y[:, :, 0], int(self.stage_counts(q)[0]))
        self.prior.encode(codes, writer)
        return self._laid_out(codes, y.shape[3])

    @torch.no_grad()
    def decode(self, frames: int, q: Tensor, reader: SymbolReader) -> Tensor:
        """Read the codes (1, stages, 1, F) float32 of this many frames."""
        codes = self.prior.decode(frames, int(self.stage_counts(q)[0]), reader)
        return self._laid_out(codes, frames)

    def dequantise(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """Map codes (B, stages, 1, F) to the features (B, D, 1, F) that they stand for."""
        whole = y_hat[:, :, 0].round().long()
        strides = self.quantizer.strides
        codes = [whole[:, stage, :: strides[stage]] for stage in range(whole.shape[1])]
        return self.quantizer.decode(codes, whole.shape[2])[:, :, None]

    def synthesis(self, y: Tensor, q: Tensor) -> Tensor:
        """Map features (B, D, 1, F) to samples (B, 1, F * hop)."""
        return self.sound(y[:, :, 0])

    def export(self) -> None:
        """Freeze the prior's integer networks and tables."""
        self.prior.export()

    def _laid_out(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        strides = self.quantizer.strides
        rows = [code.repeat_interleave(strides[s], 1)[:, :frames] for s, code in enumerate(codes)]
        return torch.stack(rows, 1)[:, :, None].float()
