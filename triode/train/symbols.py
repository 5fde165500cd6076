"""Training of the entropy model of an image codec on the symbols that its encoder chooses.

Encoders move symbols towards zero where that saves more bits than it costs (:mod:`triode.entropy.rdoq`). A model that
was trained on rounding expects others than these. Here transforms stay as they are, symbols are chosen as encoders do,
and the entropy networks alone learn: no pixel is made, so that a step takes a fraction of the time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from triode.entropy.outputs import HyperOutput
from triode.models.image.image_light import ImageLight
from triode.train.image import RateDistortion

__all__ = ["ChosenLatent", "SymbolRates", "chosen_latent"]


@dataclass(frozen=True, slots=True)
class ChosenLatent:
    """Symbols as an encoder chooses them.

    Attributes:
        out: Quantised latent, gain applied, and bits; the entropy networks get gradients of the latter.
        wanted: (B, M, h, w) latent before quantisation, gain applied.
        weight: (B, M) price of a squared error of one unit in each channel, in bits.
    """

    out: HyperOutput
    wanted: Tensor
    weight: Tensor


def chosen_latent(model: ImageLight, x: Tensor, q: Tensor) -> ChosenLatent:
    """Choose the symbols of pixels (B, 3, H, W) in [0, 1] at rate points (B,); analysis gets no gradient."""
    with torch.no_grad():
        y = model.analysis(x, q).float()
        scaled = model.scale(y, q)
        # What encoders reckon with; one rate point at a time.
        weight = torch.stack([cast(Tensor, model.error_weight(point[None])) for point in q])
    with torch.autocast(x.device.type, enabled=False):
        return ChosenLatent(model.entropy(scaled, q, side=y, weight=weight), scaled, weight)


class SymbolRates(RateDistortion):
    """Minimises bits and the price of errors of the latent, for transforms that stay.

    Args:
        share: Price of a squared error of the latent over that of the error it makes by way of the linear synthesis;
            the whole synthesis makes about half of it (measured on held-back photos).
        settings: Arguments of the base class. ``trainable`` should be ``[entropy.]``: nothing else gets gradients.
    """

    def __init__(self, share: float = 0.5, **settings: Any) -> None:
        super().__init__(**settings)
        self.save_hyperparameters()
        if not isinstance(self.model, ImageLight):
            raise TypeError(f"Symbols are chosen by the entropy model of an image-light, but got {self.architecture}")
        self.share = share

    def symbol_costs(self, batch: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return bits per pixel of crops (B, 3, H, W) uint8 at rate points (B,), and the price of their errors."""
        model = cast(ImageLight, self.model)
        x = (batch.float() / 255).to(memory_format=torch.channels_last)
        chosen = chosen_latent(model, x, q)
        pixels = x.shape[2] * x.shape[3]
        errors = (chosen.out.y_hat - chosen.wanted).square().sum((2, 3))
        price = (chosen.weight * (self.share / model.rdoq) * errors).sum(1) / pixels
        return sum(chosen.out.bits.values(), torch.zeros(len(x))) / pixels, price

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Return the loss of a batch of crops (B, 3, H, W) uint8."""
        q = self.draw_rate_points(len(batch)).to(batch.device)
        bpp, price = self.symbol_costs(batch, q)
        loss = (self.importance(q) * (bpp + price)).mean()
        self.log("loss", loss, prog_bar=True)
        self.log("bpp", bpp.mean())
        self.log("seconds", time.monotonic() - self.fit_begun)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        """Log bits and the price of errors of the averaged weights at eight rate points."""
        with self.ema.applied(self.model):
            for point in torch.linspace(3.5, 59.5, 8).tolist():
                q = torch.full((len(batch),), point, device=batch.device)
                bpp, price = self.symbol_costs(batch, q)
                weight = self.model.rate_lambda(q) ** -self.balance
                self.log(f"val/bpp_{point:g}", bpp.mean(), batch_size=len(batch), sync_dist=True)
                self.log(f"val/price_{point:g}", price.mean(), batch_size=len(batch), sync_dist=True)
                self.log("val/loss", (weight * (bpp + price)).mean(), batch_size=len(batch), sync_dist=True)
