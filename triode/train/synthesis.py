"""Training of the synthesis of an image codec alone, on the symbols that its encoder chooses.

What was coded decodes as before, only to other pixels: analysis and entropy networks stay as they are. It is how a
synthesis with fewer channels learns what the wider one knew.
"""

from __future__ import annotations

import time
from typing import Any, cast

import torch
from torch import Tensor

from triode.models.image.image_light import ImageLight
from triode.train.image import RateDistortion
from triode.train.symbols import chosen_latent

__all__ = ["SynthesisErrors"]


class SynthesisErrors(RateDistortion):
    """Minimises ``log(lambda(q) * 255**2 * MSE + floor)`` of crops: every crop counts alike, as PSNR counts them.

    Args:
        floor: What is added to the price of the error, in bits per pixel: crops with next to no error, of which there
            is little to learn, count for less.
        settings: Arguments of the base class. ``trainable`` should name layers of the synthesis, such as
            ``[g_s.fine.]``: nothing else gets gradients.

    Raises:
        TypeError: If the model is no image-light.
    """

    def __init__(self, floor: float = 0.05, **settings: Any) -> None:
        super().__init__(**settings)
        self.save_hyperparameters()
        if not isinstance(self.model, ImageLight):
            raise TypeError(f"Symbols are chosen by the entropy model of an image-light, but got {self.architecture}")
        self.floor = floor

    def errors(self, batch: Tensor, q: Tensor) -> Tensor:
        """Return mean squared errors, (B,), of crops (B, 3, H, W) uint8 at rate points (B,), full scale being 1."""
        model = cast(ImageLight, self.model)
        x = (batch.float() / 255).to(memory_format=torch.channels_last)
        with torch.no_grad():
            latent = model.dequantise(chosen_latent(model, x, q).out.y_hat, q)
        return (model.synthesis(latent, q).float() - x).square().mean((1, 2, 3))

    def cost(self, errors: Tensor, q: Tensor) -> Tensor:
        """Return what errors (B,) cost at rate points (B,)."""
        return (self.price([errors], q) + self.floor).log()

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Return the loss of a batch of crops (B, 3, H, W) uint8."""
        q = self.draw_rate_points(len(batch)).to(batch.device)
        loss = self.cost(self.errors(batch, q), q).mean()
        self.log("loss", loss, prog_bar=True)
        self.log("seconds", time.monotonic() - self.fit_begun)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        """Log PSNR and the loss of the averaged weights at eight rate points."""
        with self.ema.applied(self.model):
            for point in torch.linspace(3.5, 59.5, 8).tolist():
                q = torch.full((len(batch),), point, device=batch.device)
                errors = self.errors(batch, q)
                psnr = (-10 * torch.log10(errors)).mean()
                self.log(f"val/psnr_{point:g}", psnr, batch_size=len(batch), sync_dist=True)
                self.log("val/loss", self.cost(errors, q).mean(), batch_size=len(batch), sync_dist=True)
