"""Rate-distortion training of image models, one model for all rate points."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from triode.models.base import ImageModel, Output
from triode.models.registry import create_model
from triode.train.checkpoint import TrainingFacts, float_state, load_float_state, load_small_checkpoint
from triode.train.ema import Ema


class RateDistortion(L.LightningModule):
    """Minimises ``w(q) * (bits per pixel + lambda(q) * 255**2 * MSE)`` with a rate point drawn for each sample.

    ``w(q)`` is proportional to ``lambda(q) ** -balance``: the loss itself grows with lambda to a power of about 0.45,
    so a balance near that gives each rate the same relative say, which is what BD-rate averages.

    Args:
        model: Name of a registered model.
        config: Changes to the model's default configuration.
        lr: Peak learning rate of AdamW.
        linear_lr: Factor on it for the linear path, whose start is already good.
        steps: Length of the run; the rate is constant after the warm-up, then falls as a cosine.
        warmup: Steps of linear warm-up.
        decay: Share of the run that the fall takes.
        clip: Largest gradient norm.
        balance: See above.
        ema: Decay of the averaged weights.
        seconds: When given, wall-clock time takes the place of ``steps``: the rate falls over the last ``decay`` of
            these seconds, and the run ends with them.
        init: Small checkpoint to start from, if any; see :mod:`triode.train.checkpoint`. A resumed run ignores it.

    Attributes:
        start: Facts of the checkpoint that the run started from; None for a run from scratch.
        loaded: What :func:`~triode.train.export.export_checkpoint` reads of a Lightning checkpoint beside the weights.
        skipped: Steps left out because their gradient was not finite.
    """

    def __init__(
        self,
        model: str = "image-light",
        config: dict[str, Any] | None = None,
        lr: float = 1e-3,
        linear_lr: float = 0.1,
        steps: int = 10_000,
        warmup: int = 200,
        decay: float = 0.5,
        clip: float = 1.0,
        balance: float = 0.4,
        ema: float = 0.999,
        seconds: float | None = None,
        init: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = cast(ImageModel, create_model(model, **(config or {})))
        self.lr, self.linear_lr, self.steps, self.warmup, self.decay = lr, linear_lr, steps, warmup, decay
        self.clip, self.balance, self.init = clip, balance, init
        self.seconds, self.begun = seconds, time.monotonic()
        self.architecture = model
        self.start: TrainingFacts | None = None
        self.loaded: Mapping[str, Any] = {}
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = Ema(self.model, ema)
        self.skipped = 0

    def draw_rate_points(self, count: int) -> Tensor:
        """Draw stratified rate points, (count,) float in [0, 63]: one in each of ``count`` equal ranges."""
        return (torch.randperm(count) + torch.rand(count)) * (63.0 / count)

    def losses(self, x: Tensor, out: Output, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return bits per pixel and mean squared error, (B,) each."""
        pixels = x.shape[2] * x.shape[3]
        bpp = sum(out.bits.values(), torch.zeros(len(x), device=x.device)) / pixels
        return bpp, (out.x_hat.float() - x).square().mean((1, 2, 3))

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Return the loss of a batch of crops (B, 3, H, W) uint8."""
        x = (batch.float() / 255).to(memory_format=torch.channels_last)
        q = self.draw_rate_points(len(x)).to(x.device)
        bpp, mse = self.losses(x, self.model(x, q), q)
        lam = self.model.rate_lambda(q)
        weight = lam**-self.balance
        loss = (weight / weight.mean() * (bpp + lam * 255**2 * mse)).mean()
        self.log("loss", loss, prog_bar=True)
        self.log("bpp", bpp.mean())
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip to the norm, or drop the whole step where the norm is not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if not torch.isfinite(norm):
            self.skipped += 1
            for parameter in self.model.parameters():
                parameter.grad = None
        self.log("grad_norm", norm)
        self.log("skipped", float(self.skipped))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the step, then update the averaged weights, so that every callback sees them up to date."""
        super().optimizer_step(*args, **kwargs)
        self.ema.update(self.model)
        if self.seconds is not None and self.progress(self.global_step) >= 1:
            self.trainer.should_stop = True

    def validation_step(self, batch: Tensor, index: int) -> None:
        """Log the loss of the averaged weights at eight rate points, noise-free."""
        x = (batch.float() / 255).to(memory_format=torch.channels_last)
        with self.ema.applied(self.model):
            for point in torch.linspace(3.5, 59.5, 8).tolist():
                q = torch.full((len(x),), point, device=x.device)
                bpp, mse = self.losses(x, self.model(x, q), q)
                loss = bpp + self.model.rate_lambda(q) * 255**2 * mse
                weight = self.model.rate_lambda(q) ** -self.balance
                self.log(f"val/bpp_{point:g}", bpp.mean(), batch_size=len(x))
                self.log(f"val/psnr_{point:g}", (-10 * torch.log10(mse)).mean(), batch_size=len(x))
                self.log("val/loss", (weight * loss).mean(), batch_size=len(x))

    def progress(self, step: int) -> float:
        """Return the share of the run that is done at a step: of the seconds if they bound it, else of the steps."""
        done = step / self.steps if self.seconds is None else (time.monotonic() - self.begun) / self.seconds
        return min(1.0, done)

    def schedule(self, step: int) -> float:
        """Return the factor on the learning rate at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        fall = max(0.0, (self.progress(step) - (1 - self.decay)) / max(self.decay, 1e-9))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fall))

    def configure_optimizers(self) -> Any:
        """Return AdamW with the linear path in a slower group."""
        slow = [p for n, p in self.model.named_parameters() if ".linear." in n]
        fast = [p for n, p in self.model.named_parameters() if ".linear." not in n]
        groups = [{"params": fast, "lr": self.lr}, {"params": slow, "lr": self.lr * self.linear_lr}]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def averaged_state(self) -> dict[str, Tensor]:
        """Return the averaged parameters, and the float buffers as they are, by name."""
        return {**float_state(self.model), **self.ema.averages()}

    def settings(self) -> dict[str, Any]:
        """Return the arguments of this module, without those of the model and the folder of ``init``."""
        found = {k: v for k, v in self.hparams.items() if not k.startswith("_") and k not in ("model", "config")}
        return {**found, "init": None if self.init is None else Path(self.init).name}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a checkpoint says beside its weights."""
        names = ("global_step", "callbacks", L.LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY)
        self.loaded = {name: checkpoint[name] for name in names if name in checkpoint}

    def setup(self, stage: str) -> None:
        """Load the checkpoint to start from.

        Raises:
            ModelMismatchError: If it is none, or of another model.
        """
        if self.init is not None and self.start is None and self.trainer.ckpt_path is None:
            state, self.start = load_small_checkpoint(Path(self.init))
            load_float_state(self.model, state)
            self.ema.reset(self.model)

    def on_fit_start(self) -> None:
        """Start the linear path from the data's principal components, on a fresh run."""
        data = getattr(self.trainer, "datamodule", None)
        if self.trainer.ckpt_path is None and self.init is None and data is not None:
            self.model.init_from_data(data.cache.image(i) for i in data.training_images)
            self.ema.reset(self.model)
