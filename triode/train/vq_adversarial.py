"""A second stage for codecs with vector quantisers: the decoder alone, against discriminators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from triode.train.discriminators import (
    Discriminator,
    DiscriminatorGroup,
    MultiBandDiscriminator,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleStftDiscriminator,
    feature_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from triode.train.turns import check_precision, codec_turn, critic_turn, optimizers_of_both
from triode.train.vq_audio import VqSound

__all__ = ["DISCRIMINATORS", "AdversarialVqSound"]

DISCRIMINATORS: Final[Mapping[str, type[Discriminator]]] = {
    "multi-band": MultiBandDiscriminator,
    "multi-period": MultiPeriodDiscriminator,
    "multi-resolution": MultiResolutionDiscriminator,
    "multi-scale-stft": MultiScaleStftDiscriminator,
}
"""Discriminators by name."""
_DECODER: Final = "decoder."


class AdversarialVqSound(VqSound):
    """Trains as :class:`~triode.train.vq_audio.VqSound` does, then the decoder alone for the ear.

    From ``adversarial_start`` on encoder, quantiser and prior stay as their averages are then, and in evaluation mode:
    streams do not change any more, and what was coded before decodes still (the two stages of AudioDec: Wu et al.,
    ICASSP 2023). To the cost come ``adversarial * mean max(0, 1 - D(x_hat))`` (hinge) and ``feature`` times the
    distance between the discriminators' activations, relative to those of the recording (EnCodec).

    Args:
        discriminators: Names of :data:`DISCRIMINATORS` with their arguments; together they are one.
        adversarial: Weight of the discriminators' say, against a distortion in which the mel distance weighs 1.
        feature: Weight of the distance between activations.
        adversarial_start: Share of the run at which they join; at least ``prior_start``, or with ``init`` any.
        discriminator_lr: Their peak learning rate, which follows the same schedule.
        discriminator_every: They learn at each step whose number is a multiple of this.
        settings: Arguments of the base class.

    Raises:
        ValueError: As the base class, or if an argument is out of its range, or there is no such discriminator.
    """

    def __init__(
        self,
        *,
        discriminators: dict[str, dict[str, Any]] | None = None,
        adversarial: float = 0.1,
        feature: float = 0.5,
        adversarial_start: float = 0.7,
        discriminator_lr: float = 2e-4,
        discriminator_every: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        chosen = discriminators or {"multi-scale-stft": {}}
        if not set(chosen) <= set(DISCRIMINATORS):
            raise ValueError(
                f"Argument `discriminators` must be of {', '.join(DISCRIMINATORS)}, but got {list(chosen)}"
            )
        earliest = self.prior_start if self.init is None else 0.0
        if not earliest <= adversarial_start <= 1:
            raise ValueError(f"Argument `adversarial_start` must be in [{earliest}, 1], but got {adversarial_start}")
        if min(adversarial, feature) < 0 or discriminator_every < 1:
            raise ValueError(
                "Arguments `adversarial`, `feature` and `discriminator_every` must be at least 0, 0 and 1, "
                f"but got {adversarial}, {feature} and {discriminator_every}"
            )
        self.discriminator = DiscriminatorGroup([DISCRIMINATORS[n](**(a or {})) for n, a in chosen.items()])
        self.adversarial, self.feature, self.adversarial_start = adversarial, feature, adversarial_start
        self.discriminator_lr, self.discriminator_every = discriminator_lr, discriminator_every
        # Two optimisers take turns within a step, which Lightning leaves to the module.
        self.automatic_optimization = False

    def on_fit_start(self) -> None:
        """Check the precision, then do as the base class does.

        Raises:
            ValueError: If it scales losses.
        """
        check_precision(self.trainer)
        super().on_fit_start()

    def _freeze(self) -> None:
        """Leave nothing to learn but the decoder; codebooks too learn in training mode alone."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(_DECODER))
        for part in (self.vq.encoder, self.vq.quantizer, self.vq.prior):
            part.eval()

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """Train the codec on a batch of crops (B, 1, T) float, then the discriminators on what came out."""
        codec, critic = cast("list[LightningOptimizer]", self.optimizers())
        if self.reaches("adversary", self.adversarial_start):
            self.ema.copy_to(self.model)
        joined = "adversary" in self.passed
        if joined:
            self._freeze()
        trial = self.attempt(batch)
        loss = trial.cost.mean()
        if joined:
            loss = loss + self._verdict(batch, trial.x_hat)
        self.log("loss", loss, prog_bar=True)
        codec_turn(self, codec, loss if trial.bits is None else loss + trial.bits.mean())
        if joined and index % self.discriminator_every == 0:
            self.discriminator.requires_grad_(requires_grad=True)
            real, fake = self.discriminator(batch), self.discriminator(trial.x_hat.detach())
            lr = self.discriminator_lr * self.schedule(self.global_step)
            critic_turn(self, critic, self.discriminator, hinge_discriminator_loss(real, fake), lr)
        return loss

    def _verdict(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return what reconstructions lose against the discriminators, a scalar."""
        self.discriminator.requires_grad_(requires_grad=False)
        with torch.no_grad():
            real = self.discriminator(x)
        fake = self.discriminator(x_hat)
        score, distance = hinge_generator_loss(fake), feature_loss(real, fake, relative=True)
        self.log("adversarial", score)
        self.log("feature", distance)
        return self.adversarial * score + self.feature * distance

    def configure_optimizers(self) -> Any:
        """Return the codec's optimiser, as the base class makes it, and the discriminators'."""
        return optimizers_of_both(super().configure_optimizers(), self.discriminator, self.discriminator_lr)
