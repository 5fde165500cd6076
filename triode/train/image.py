"""Rate-distortion training of image models, one model for all rate points."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import lightning as L
import torch
from torch import Tensor, nn

from triode.entropy.context.model import ContextModel
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.quantize import QUANTISERS, Quantiser
from triode.models.base import ImageModel, Output
from triode.models.registry import create_model
from triode.train.checkpoint import TrainingFacts, float_state, load_float_state, load_small_checkpoint
from triode.train.distortion import Distortion, SquaredError, create_distortion
from triode.train.ema import Ema
from triode.train.exact import integer_networks

_BETAS: Final = (0.9, 0.99)
CLOCKS: Final[Mapping[str, Callable[[], float]]] = {"wall": time.monotonic, "processor": time.process_time}
OPTIMIZERS: Final[Mapping[str, Callable[..., torch.optim.Optimizer]]] = {
    "adamw": partial(torch.optim.AdamW, betas=_BETAS, weight_decay=0.0, fused=True),
    "nadam": partial(torch.optim.NAdam, betas=_BETAS),
    "radam": partial(torch.optim.RAdam, betas=_BETAS),
}
"""Optimisers by name; each takes groups of parameters with their learning rates."""
_RATE_POINTS: Final = ("stratified", "uniform", "log-edge")
_STARTS: Final = ("components", "random")


class RateDistortion(L.LightningModule):
    """Minimises ``w(q) * (bits per pixel + lambda(q) * 255**2 * MSE)`` with a rate point drawn for each sample.

    Other distortions take the place of ``255**2 * MSE`` with their own scale; see :mod:`triode.train.distortion`.
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
        seconds: When given, time takes the place of ``steps``: the rate falls over the last ``decay`` of these
            seconds, and the run ends with them.
        clock: What ``seconds`` counts: ``wall``, or the ``processor`` time of this process, all threads together,
            which runs that share their cores with other work have in common.
        init: Small checkpoint to start from, if any; see :mod:`triode.train.checkpoint`. A resumed run ignores it.
        distortion: Name of a distortion, or names with weights, whose scaled sum is minimised.
        mse_start: Share that squared errors take of the distortion at the start; falls linearly to none at half of the
            run.
        quantiser: Stand-in for rounding; see :func:`triode.entropy.quantize.quantised`.
        rate_points: How rate points are drawn: ``stratified`` (one in each of as many equal ranges as there are
            samples), ``uniform``, or ``log-edge`` (stratified, under the arcsine law: more often at both ends, whose
            gains learn from one side only).
        rate_range: Lowest and highest rate point that is drawn; the same twice trains one rate alone.
        linear_start: Where a run without ``init`` starts the linear path: at the ``components`` (principal ones of the
            data) or ``random``, as layers are by default.
        optimizer: One of :data:`OPTIMIZERS`.
        exact_finetune: Share of the run, at its end, with the entropy networks in integers (see
            :func:`triode.train.exact.integer_networks`) and whole rate points.
        trainable: Beginnings of the names of the parameters that learn; all when None. ``[g_a., entropy.h_a.]``
            trains the encoder for a decoder that stays as it is, and with it all that was ever coded for it.

    Raises:
        ValueError: If an argument is not one of its choices or out of its range, or nothing would learn.

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
        clock: Literal["wall", "processor"] = "wall",
        init: str | None = None,
        distortion: str | dict[str, float] = "mse",
        mse_start: float = 0.0,
        quantiser: Quantiser = "mixed",
        rate_points: Literal["stratified", "uniform", "log-edge"] = "stratified",
        rate_range: tuple[float, float] = (0.0, 63.0),
        linear_start: Literal["components", "random"] = "components",
        optimizer: str = "adamw",
        exact_finetune: float = 0.0,
        trainable: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        _choose("quantiser", quantiser, QUANTISERS)
        _choose("rate_points", rate_points, _RATE_POINTS)
        _choose("linear_start", linear_start, _STARTS)
        _choose("optimizer", optimizer, OPTIMIZERS)
        _choose("clock", clock, CLOCKS)
        if not 0 <= rate_range[0] <= rate_range[1] <= 63:
            raise ValueError(f"Argument `rate_range` must be two rising rate points in [0, 63], but got {rate_range}")
        for name, share in (("mse_start", mse_start), ("exact_finetune", exact_finetune)):
            if not 0 <= share <= 1:
                raise ValueError(f"Argument `{name}` must be in [0, 1], but got {share}")
        weights = {distortion: 1.0} if isinstance(distortion, str) else distortion
        if not weights or min(weights.values()) < 0 or sum(weights.values()) == 0:
            raise ValueError(f"Argument `distortion` must have weights of which one is positive, but got {distortion}")
        self.distortions = nn.ModuleList(create_distortion(name) for name in weights)
        self.distortion_weights = tuple(weights.values())
        self.mse_start, self.rate_points, self.rate_range = mse_start, rate_points, rate_range
        self.linear_start = linear_start
        self.optimizer, self.exact_finetune = optimizer, exact_finetune
        self.model = cast(ImageModel, create_model(model, **(config or {})))
        _freeze(self.model, trainable)
        self.lr, self.linear_lr, self.steps, self.warmup, self.decay = lr, linear_lr, steps, warmup, decay
        self.clip, self.balance, self.init = clip, balance, init
        self.seconds, self.clock = seconds, CLOCKS[clock]
        self.begun, self.fit_begun = self.clock(), time.monotonic()
        for part in self.model.modules():
            if isinstance(part, ContextModel | FactorizedPrior):
                part.quantiser = quantiser
        self.architecture = model
        self.start: TrainingFacts | None = None
        self.loaded: Mapping[str, Any] = {}
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = Ema(self.model, ema)
        self.skipped = 0

    def draw_rate_points(self, count: int) -> Tensor:
        """Draw rate points, (count,) float in ``rate_range``, in the chosen way."""
        low, high = self.rate_range
        if self.rate_points == "uniform":
            return low + torch.rand(count) * (high - low)
        stratified = (torch.randperm(count) + torch.rand(count)) / count
        if self.rate_points == "log-edge":
            stratified = 0.5 * (1 - torch.cos(stratified * math.pi))
        return low + stratified * (high - low)

    def losses(self, x: Tensor, out: Output, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return bits per pixel and mean squared error, (B,) each."""
        pixels = x.shape[2] * x.shape[3]
        bpp = sum(out.bits.values(), torch.zeros(len(x), device=x.device)) / pixels
        return bpp, (out.x_hat.float() - x).square().mean((1, 2, 3))

    def distances(self, x: Tensor, out: Output, mse: Tensor) -> list[Tensor]:
        """Return the distortions of reconstructions of ``x``, (B,) each; ``mse`` is known already."""
        x_hat = out.x_hat.float()
        return [mse if isinstance(d, SquaredError) else d(x_hat, x) for d in self.distortions]

    def price(self, distances: list[Tensor], q: Tensor) -> Tensor:
        """Return what distortions cost at rate points ``q`` (B,), in bits per pixel, (B,)."""
        lam = self.model.rate_lambda(q)
        pairs = zip(self.distortions, self.distortion_weights, distances, strict=True)
        terms = [lam * (weight * cast(float, d.scale)) * distance for d, weight, distance in pairs]
        return sum(terms[1:], terms[0])

    def importance(self, q: Tensor) -> Tensor:
        """Return ``w(q)`` of a batch, (B,), one on average."""
        weight = self.model.rate_lambda(q) ** -self.balance
        return weight / weight.mean()

    def is_exact(self) -> bool:
        """Say whether this step belongs to the part of the run with entropy networks in integers."""
        return self.exact_finetune > 0 and self.progress(self.global_step) >= 1 - self.exact_finetune

    def code(self, batch: Tensor) -> tuple[Tensor, Tensor, Output]:
        """Draw rate points for crops (B, 3, H, W) uint8, then code and decode them; return pixels, points, result."""
        x = (batch.float() / 255).to(memory_format=torch.channels_last)
        q = self.draw_rate_points(len(x)).to(x.device)
        if self.is_exact():
            q = q.round()
            with integer_networks(self.model):
                return x, q, self.model(x, q)
        return x, q, self.model(x, q)

    def costs(self, x: Tensor, q: Tensor, out: Output) -> Tensor:
        """Return rate plus price of the distortion, (B,) in bits per pixel; log the rate and the time."""
        bpp, mse = self.losses(x, out, q)
        price = self.price(self.distances(x, out, mse), q)
        share = self.mse_start * max(0.0, 1 - 2 * self.progress(self.global_step)) if self.mse_start else 0.0
        if share:
            price = (1 - share) * price + share * self.model.rate_lambda(q) * 255**2 * mse
        self.log("bpp", bpp.mean())
        self.log("seconds", time.monotonic() - self.fit_begun)
        return bpp + price

    def on_train_start(self) -> None:
        """Have each process of several draw rate points and noise of its own."""
        if self.trainer.world_size > 1:
            torch.manual_seed(torch.initial_seed() + self.trainer.global_rank)

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Return the loss of a batch of crops (B, 3, H, W) uint8."""
        x, q, out = self.code(batch)
        loss = (self.importance(q) * self.costs(x, q, out)).mean()
        self.log("loss", loss, prog_bar=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def clipped_together(self) -> list[list[nn.Parameter]]:
        """Return the parameters whose gradients share a norm, the codec's first."""
        return [list(self.model.parameters())]

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip to the norm, or drop the whole step where a norm is not finite."""
        norms = [torch.nn.utils.clip_grad_norm_(part, self.clip) for part in self.clipped_together()]
        if not all(bool(torch.isfinite(norm)) for norm in norms):
            self.skipped += 1
            for parameter in self.model.parameters():
                parameter.grad = None
        self.log("grad_norm", norms[0])
        self.log("skipped", float(self.skipped))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the step, then update the averaged weights, so that every callback sees them up to date."""
        super().optimizer_step(*args, **kwargs)
        self.after_step()

    def after_step(self) -> None:
        """Update the averaged weights, and end a run whose time is over."""
        self.ema.update(self.model)
        if self.seconds is not None and self.progress(self.global_step) >= 1:
            self.trainer.should_stop = True

    def validation_step(self, batch: Tensor, index: int) -> None:
        """Log the loss of the averaged weights at eight rate points, noise-free, entropy networks in floats."""
        x = (batch.float() / 255).to(memory_format=torch.channels_last)
        with self.ema.applied(self.model):
            for point in torch.linspace(3.5, 59.5, 8).tolist():
                q = torch.full((len(x),), point, device=x.device)
                out = self.model(x, q)
                bpp, mse = self.losses(x, out, q)
                distances = self.distances(x, out, mse)
                loss = bpp + self.price(distances, q)
                weight = self.model.rate_lambda(q) ** -self.balance
                self.log(f"val/bpp_{point:g}", bpp.mean(), batch_size=len(x), sync_dist=True)
                self.log(f"val/psnr_{point:g}", (-10 * torch.log10(mse)).mean(), batch_size=len(x), sync_dist=True)
                self.log("val/loss", (weight * loss).mean(), batch_size=len(x), sync_dist=True)
                for d, distance in zip(self.distortions, distances, strict=True):
                    if not isinstance(d, SquaredError):
                        reading = cast(Distortion, d).readable(distance).mean()
                        self.log(f"val/{d.label}_{point:g}", reading, batch_size=len(x), sync_dist=True)

    def progress(self, step: int) -> float:
        """Return the share of the run that is done at a step: of the seconds if they bound it, else of the steps."""
        done = step / self.steps if self.seconds is None else (self.clock() - self.begun) / self.seconds
        return min(1.0, done)

    def schedule(self, step: int) -> float:
        """Return the factor on the learning rate at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        fall = max(0.0, (self.progress(step) - (1 - self.decay)) / max(self.decay, 1e-9))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fall))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what is trained, with peak learning rates: the linear path in a slower group."""
        learning = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        slow = [p for n, p in learning if ".linear." in n]
        fast = [p for n, p in learning if ".linear." not in n]
        groups = [{"params": fast, "lr": self.lr}, {"params": slow, "lr": self.lr * self.linear_lr}]
        return [group for group in groups if group["params"]]

    def configure_optimizers(self) -> Any:
        """Return the optimiser of :meth:`parameter_groups` and its schedule."""
        optimizer = OPTIMIZERS[self.optimizer](self.parameter_groups())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def averaged_state(self) -> dict[str, Tensor]:
        """Return the averaged parameters, and the float buffers as they are, by name."""
        return {**float_state(self.model), **self.ema.averages()}

    def settings(self) -> dict[str, Any]:
        """Return the arguments of this module, without those of the model and the folder of ``init``."""
        everything = {**self.loaded.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {}), **self.hparams}
        found = {k: v for k, v in everything.items() if not k.startswith("_") and k not in ("model", "config")}
        return {**found, "init": None if self.init is None else Path(self.init).name}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a checkpoint says beside its weights; the learning rate is this module's own."""
        keys = (self.CHECKPOINT_HYPER_PARAMS_KEY, L.LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY)
        self.loaded = {name: checkpoint[name] for name in ("global_step", "callbacks", *keys) if name in checkpoint}
        rates = [group["lr"] for group in self.parameter_groups()]
        for scheduler in checkpoint.get("lr_schedulers", [])[:1]:
            scheduler["base_lrs"] = rates
        own, state = self.state_dict(), checkpoint["state_dict"]
        # What an adversarial run has learned beside the codec is of no use to others: export, plain fine-tuning.
        checkpoint["state_dict"] = {n: t for n, t in state.items() if n in own or not n.startswith("discriminator.")}

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
        """Start the clock; on a fresh run, start the linear path as told."""
        self.fit_begun = time.monotonic()
        data = getattr(self.trainer, "datamodule", None)
        fresh = self.trainer.ckpt_path is None and self.init is None and self.linear_start == "components"
        if fresh and data is not None:
            self.model.init_from_data(data.cache.image(i) for i in data.training_images)
            self.ema.reset(self.model)


def _choose(argument: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ValueError(f"Argument `{argument}` must be one of {', '.join(choices)}, but got {value!r}")


def _freeze(model: nn.Module, trainable: list[str] | None) -> None:
    """Let only the parameters learn whose names begin with one of ``trainable``; all of them when None."""
    if trainable is None:
        return
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(trainable)))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"Argument `trainable` must begin names of parameters, but none begins with {trainable}")
