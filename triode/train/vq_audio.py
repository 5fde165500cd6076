"""Training of codecs of sound with vector quantisers: bypass, codes, and the prior that learns beside them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from triode.entropy.vq.base import VectorQuantizer
from triode.entropy.vq.codebook import Codebook
from triode.entropy.vq.context_prior import ContextPrior
from triode.entropy.vq.prior import code_vectors
from triode.eval.metrics.signal import si_sdr
from triode.models.audio.vq_codec import Coded, VqCodec
from triode.models.base import Output
from triode.train.audio import SoundRateDistortion

__all__ = ["Trial", "VqSound"]

_PRIOR: Final = "prior."
_ALL: Final = 63.0
_PASSED: Final = "milestones"


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a batch gave.

    Attributes:
        x_hat: (B, 1, T) float32 reconstruction.
        cost: (B,) distortion and commitment, what the codec is to lower.
        bits: (B,) bits a frame by the prior, with a gradient for it alone; None while it does not learn.
    """

    x_hat: Tensor
    cost: Tensor
    bits: Tensor | None


class VqSound(SoundRateDistortion):
    """Minimises ``D + commitment * C`` with a number of stages drawn for each crop; the prior minimises its own bits.

    D is the weighted sum of :class:`~triode.train.audio_loss.SoundDistortion`, C the quantiser's own losses. The rate
    is fixed by the stages and no part of the cost: codes are integers, and no gradient of the prior's bits reaches the
    encoder.

    A run goes through milestones, each a share of it. Up to ``bypass`` the quantiser's projections alone are trained
    (ESC: Gu & Diao, EMNLP 2024). Then codebooks start by k-means on the crops of the last few steps, and from then on
    look after themselves step by step. At ``prior_start`` the prior starts from how often the codes of the last crops
    occurred, and learns beside the codec from then on. A run from a small checkpoint (``init``) starts with both
    behind it.

    Args:
        model: Name of a registered codec with a vector quantiser.
        commitment: Weight of the quantiser's losses. DAC weighs 15 mel distances against one of them, which is 0.07.
        dropout: Share of crops whose number of stages is drawn, the others using all (EnCodec 1, ESC 0.75, DAC 0.5).
        bypass: See above, in [0, 1).
        prior_start: See above, in [bypass, 1].
        prior_lr: Peak learning rate of the prior.
        start_batches: Batches whose crops start codebooks and prior.
        kmeans_iterations: Rounds of the k-means start of all codebooks; as the model says when absent.
        restart_ratio: Entries used less than this share of the mean move to where vectors are; as the model says when
            absent.
        settings: Further arguments of the base class; ``settle`` and ``exact_finetune`` are not for codes.

    Raises:
        ValueError: If an argument is out of its range, or the model has no vector quantiser.
    """

    def __init__(
        self,
        *,
        model: str = "encodec",
        commitment: float = 0.07,
        dropout: float = 0.5,
        bypass: float = 0.1,
        prior_start: float = 0.3,
        prior_lr: float = 3e-3,
        start_batches: int = 4,
        kmeans_iterations: int | None = None,
        restart_ratio: float | None = None,
        **settings: Any,
    ) -> None:
        if settings.get("settle") or settings.get("exact_finetune"):
            raise ValueError("Arguments `settle` and `exact_finetune` are not for codecs with a vector quantiser")
        if not 0 <= dropout <= 1:
            raise ValueError(f"Argument `dropout` must be in [0, 1], but got {dropout}")
        if not 0 <= bypass < 1 or not bypass <= prior_start <= 1:
            raise ValueError(
                "Arguments `bypass` and `prior_start` must be in [0, 1) and [bypass, 1], "
                f"but got {bypass} and {prior_start}"
            )
        if commitment < 0 or start_batches < 1:
            raise ValueError(
                "Arguments `commitment` and `start_batches` must be at least 0 and 1, "
                f"but got {commitment} and {start_batches}"
            )
        super().__init__(model=model, **settings)
        network: nn.Module = self.model
        if not isinstance(network, VqCodec):
            raise ValueError(f"Argument `model` must name a codec with a vector quantiser, but got {model!r}")
        self.commitment, self.dropout, self.bypass = commitment, dropout, bypass
        self.prior_start, self.prior_lr = prior_start, prior_lr
        for book in self.codebooks():
            book.swift = True
            book.kmeans_iterations = book.kmeans_iterations if kmeans_iterations is None else kmeans_iterations
            book.restart_ratio = book.restart_ratio if restart_ratio is None else restart_ratio
        self.passed: set[str] = set()
        self._recent: deque[Tensor] = deque(maxlen=start_batches)

    @property
    def vq(self) -> VqCodec:
        """The model."""
        return cast(VqCodec, self.audio)

    def codebooks(self) -> list[Codebook]:
        """Return all codebooks of the model."""
        return [part for part in self.model.modules() if isinstance(part, Codebook)]

    def reaches(self, milestone: str, share: float) -> bool:
        """Say whether this step is the first one at or behind a share of the run, and note that it has been."""
        if milestone in self.passed or self.progress(self.global_step) < share:
            return False
        self.passed.add(milestone)
        return True

    def draw_rate_points(self, count: int) -> Tensor:
        """Draw rate points, (count,) float; all but the share ``dropout`` are the highest of ``rate_range``."""
        drawn = super().draw_rate_points(count)
        return torch.where(torch.rand(count) < self.dropout, drawn, self.rate_range[1])

    def attempt(self, x: Tensor) -> Trial:
        """Code and decode crops (B, 1, T) as far as the run has come; log rate, losses and use of the codes."""
        q = self.draw_rate_points(len(x)).to(x.device)
        if "prior" not in self.passed:
            self._recent.append(x)
        if self.reaches("codes", self.bypass):
            self._start_codes()
        if "codes" not in self.passed:
            out = Output(self.vq.unquantised(x), {})
            return Trial(out.x_hat.float(), self.costs(x, q, out), None)
        everything = not self.dropout and self.rate_range[1] == _ALL
        coded = self.vq.quantised(x, None if everything else self.vq.stage_counts(q))
        if self.reaches("prior", self.prior_start):
            self._start_prior()
        fixed = self.fixed_bits(coded)
        learns = "prior" in self.passed
        bits = self.vq.code_bits(coded.quantized.codes, coded.counts) if learns else {"fixed": fixed}
        out = Output(coded.x_hat, bits)
        cost = self.costs(x, q, out) + self.commitment * coded.quantized.loss
        self.log("commitment", coded.quantized.loss.mean())
        self.log("usage", coded.quantized.usage.mean())
        self.log("perplexity", coded.quantized.perplexity.mean())
        spent = self.bits_a_frame(x, out)
        self.log("saved", 1 - spent.mean() / self.bits_a_frame(x, Output(out.x_hat, {"fixed": fixed})).mean())
        return Trial(coded.x_hat.float(), cost, spent if spent.requires_grad else None)

    def fixed_bits(self, coded: Coded) -> Tensor:
        """Return what the codes of a batch cost without entropy coding, (B,) in bits, whole bits a code."""
        lengths = [code.shape[1] for code in coded.quantized.codes]
        sizes = self.vq.quantizer.codebook_sizes
        costs = [(size - 1).bit_length() * length for size, length in zip(sizes, lengths, strict=False)]
        total = torch.tensor([0, *costs], dtype=torch.float32, device=coded.counts.device).cumsum(0)
        return total[coded.counts.clamp(max=len(costs))]

    @torch.no_grad()
    def _start_codes(self) -> None:
        """Start all codebooks at once: more vectors than a batch has make better centres."""
        if any(not book.started for book in self.codebooks()):
            self.vq.quantised(torch.cat(list(self._recent)))
        self.ema.reset(self.model)

    @torch.no_grad()
    def _start_prior(self) -> None:
        prior, quantizer = self.vq.prior, self.vq.quantizer
        if isinstance(prior, ContextPrior) and isinstance(quantizer, VectorQuantizer):
            prior.init_from_vectors(code_vectors(quantizer))
        prior.fit([self.vq.codes(x) for x in self._recent])
        self.ema.restart(self.model, _PRIOR)
        self._recent.clear()

    def _sum(self, bits: Tensor, distortion: Tensor, q: Tensor) -> Tensor:
        return distortion

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Return the loss of a batch of crops (B, 1, T) float; the logged one is without the prior's bits."""
        trial = self.attempt(batch)
        loss = trial.cost.mean()
        self.log("loss", loss, prog_bar=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss if trial.bits is None else loss + trial.bits.mean()

    def validation_step(self, batch: Tensor, index: int) -> None:
        """Log what the base class does; before there are codes, distances alone (``val/mel_bypass``)."""
        if "codes" in self.passed:
            super().validation_step(batch, index)
            return
        with self.ema.applied(self.model):
            x_hat = self.vq.unquantised(batch).float()
            heard = batch.square().sum((1, 2)) > 0
            ratios = si_sdr(x_hat[heard], batch[heard]) if bool(heard.any()) else torch.zeros(1)
            self.log("val/mel_bypass", self.distance(x_hat, batch).mel.mean(), batch_size=len(batch), sync_dist=True)
            self.log("val/si_sdr_bypass", ratios.float().mean(), batch_size=len(batch), sync_dist=True)

    def _split(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the parameters of the codec, and those of its prior."""
        named = list(self.model.named_parameters())
        prior = [p for n, p in named if n.startswith(_PRIOR)]
        return [p for n, p in named if not n.startswith(_PRIOR)], prior

    def clipped_together(self) -> list[list[nn.Parameter]]:
        """Return the codec's parameters and the prior's: gradients of bits must not shrink the codec's."""
        return list(self._split())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the codec's parameters and the prior's, with their peak learning rates."""
        codec, prior = self._split()
        return [{"params": codec, "lr": self.lr}, {"params": prior, "lr": self.prior_lr}]

    def setup(self, stage: str) -> None:
        """Load the checkpoint to start from, whose codebooks and prior have begun.

        Raises:
            ModelMismatchError: If it is none, or of another model.
        """
        super().setup(stage)
        if self.start is not None and not self.passed:
            self.passed |= {"codes", "prior"}
            for book in self.codebooks():
                book.mark_started()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how far the run has come."""
        checkpoint[_PASSED] = sorted(self.passed)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where a run has come to."""
        super().on_load_checkpoint(checkpoint)
        found: Mapping[str, Any] = checkpoint
        self.passed = set(found.get(_PASSED, ()))
