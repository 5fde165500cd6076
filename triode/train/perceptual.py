"""Training for the eye: squared error, a distance between deep features, and a discriminator that joins later."""

from __future__ import annotations

from typing import Any, Final, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from triode.train.discriminator import PatchDiscriminator, critic_loss, generator_loss
from triode.train.image import RateDistortion
from triode.train.turns import check_precision, codec_turn, critic_turn, optimizers_of_both

LAMBDA_REFERENCE: Final = 0.0023
"""Weight of the distortion for which the adversarial weight is stated: that of HiFiC's middle model."""


class PerceptualRateDistortion(RateDistortion):
    """Adds ``a(q) * (-D(x_hat, q))`` to what :class:`~triode.train.image.RateDistortion` minimises.

    One discriminator D serves all rate points, and one model comes out.
    ``a(q) = adversarial * (lambda(q) / 0.0023) ** adversarial_power``. Rate plus distortion grow with lambda to a power
    of about 0.45, so with a power of 0.5 the discriminator has about the same say at all rate points; with 0 it has
    less and less at high rates, where there is less to add. The recipe is that of HiFiC (Mentzer et al., NeurIPS 2020:
    0.15 at lambda 0.0023, with LPIPS) at the size that fits on a CPU; hinge losses, one step of each network a batch.

    Args:
        adversarial: Weight of the discriminator's score, in bits per pixel; see above.
        adversarial_power: See above.
        adversarial_start: Step at which the discriminator joins.
        freeze_encoder: Once it has joined, train nothing but the synthesis (``g_s``). What was coded before decodes
            still, and new bitstreams are the same but for the encoder's rate-distortion optimised rounding.
        discriminator_width: See :class:`~triode.train.discriminator.PatchDiscriminator`.
        discriminator_lr: Its peak learning rate; it follows the same schedule.
        distortion: As for the base class.
        settings: Further arguments of the base class.

    Raises:
        ValueError: As the base class, or if the start is negative, or ``freeze_encoder`` meets ``trainable``.
    """

    def __init__(
        self,
        *,
        adversarial: float = 0.1,
        adversarial_power: float = 0.5,
        adversarial_start: int = 2000,
        freeze_encoder: bool = False,
        discriminator_width: int = 40,
        discriminator_lr: float = 4e-4,
        distortion: str | dict[str, float] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(distortion=distortion or {"mse": 1.0, "lite0": 1.0}, **settings)
        if freeze_encoder and settings.get("trainable") is not None:
            raise ValueError("Arguments `freeze_encoder` and `trainable` both say what learns; give one of them")
        if adversarial_start < 0:
            raise ValueError(f"Argument `adversarial_start` must be >= 0, but got {adversarial_start}")
        self.adversarial, self.adversarial_power = adversarial, adversarial_power
        self.adversarial_start, self.freeze_encoder = adversarial_start, freeze_encoder
        self.discriminator = PatchDiscriminator(discriminator_width)
        self.discriminator_lr = discriminator_lr
        # Two optimisers take turns within a step, which Lightning leaves to the module.
        self.automatic_optimization = False

    def on_fit_start(self) -> None:
        """Check the precision, then do as the base class does.

        Raises:
            ValueError: If it scales losses.
        """
        check_precision(self.trainer)
        super().on_fit_start()

    def adversarial_weight(self, q: Tensor) -> Tensor:
        """Return the weight ``a(q)`` of the discriminator at rate points ``q`` (B,)."""
        return self.adversarial * (self.model.rate_lambda(q) / LAMBDA_REFERENCE) ** self.adversarial_power

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Train the codec on a batch of crops (B, 3, H, W) uint8, then the discriminator on what came out."""
        codec, critic = cast("list[LightningOptimizer]", self.optimizers())
        joined = self.global_step >= self.adversarial_start
        if self.freeze_encoder:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(not joined or name.startswith("g_s."))
        x, q, out = self.code(batch)
        cost = self.costs(x, q, out)
        if joined:
            self.discriminator.requires_grad_(requires_grad=False)
            score = generator_loss(self.discriminator(out.x_hat.float(), q))
            cost = cost + self.adversarial_weight(q) * score
            self.log("adversarial", score.mean())
        loss = (self.importance(q) * cost).mean()
        self.log("loss", loss, prog_bar=True)
        codec_turn(self, codec, loss)
        if joined:
            self.discriminator.requires_grad_(requires_grad=True)
            real, fake = self.discriminator(torch.cat([x, out.x_hat.detach().float()]), torch.cat([q, q])).chunk(2)
            lr = self.discriminator_lr * self.schedule(self.global_step)
            critic_turn(self, critic, self.discriminator, critic_loss(real, fake), lr)
        return loss

    def configure_optimizers(self) -> Any:
        """Return the codec's optimiser, as the base class makes it, and the discriminator's."""
        return optimizers_of_both(super().configure_optimizers(), self.discriminator, self.discriminator_lr)
