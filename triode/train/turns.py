"""Two optimisers that take turns within a step: a codec's, and that of the discriminator it plays against."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from triode.train.image import OPTIMIZERS, RateDistortion

__all__ = ["check_precision", "codec_turn", "critic_turn", "optimizers_of_both"]


def check_precision(trainer: L.Trainer) -> None:
    """Check that the precision suits two optimisers.

    Raises:
        ValueError: If it scales losses, which the discriminator's turn does not undo.
    """
    if trainer.precision == "16-mixed":
        raise ValueError("Adversarial training needs precision 32 or bf16-mixed, but got 16-mixed")


def optimizers_of_both(codec: Any, discriminator: nn.Module, lr: float) -> Any:
    """Return what ``configure_optimizers`` gives for a codec, and beside it AdamW for its discriminator."""
    group = {"params": list(discriminator.parameters()), "lr": lr}
    return codec, {"optimizer": OPTIMIZERS["adamw"]([group])}


def codec_turn(module: RateDistortion, optimizer: LightningOptimizer, loss: Tensor) -> None:
    """Take a step of the codec, which Lightning counts, and move its averages and its schedule on.

    Args:
        module: Module with manual optimisation.
        optimizer: The codec's.
        loss: Scalar.
    """
    optimizer.zero_grad()
    module.manual_backward(loss)
    module.configure_gradient_clipping(optimizer)
    optimizer.step()
    module.after_step()
    module.log("lr", optimizer.param_groups[0]["lr"])
    cast(LambdaLR, module.lr_schedulers()).step()


def critic_turn(
    module: RateDistortion, optimizer: LightningOptimizer, discriminator: nn.Module, loss: Tensor, lr: float
) -> None:
    """Take a step of the discriminator; not through Lightning's optimiser, which would count it as a step.

    A step whose gradient is not finite is left out.

    Args:
        module: Module with manual optimisation.
        optimizer: The discriminator's.
        discriminator: Its network, which needs gradients in this turn.
        loss: Scalar.
        lr: Learning rate of this step.
    """
    optimizer.param_groups[0]["lr"] = lr
    optimizer.optimizer.zero_grad()
    module.manual_backward(loss)
    if torch.isfinite(torch.nn.utils.clip_grad_norm_(discriminator.parameters(), module.clip)):
        optimizer.optimizer.step()
    module.log("critic", loss)
