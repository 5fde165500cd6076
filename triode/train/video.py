"""Rate-distortion training of video models on groups of frames, one model for all rate points."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, cast

import torch
from torch import Tensor, nn

from triode.errors import ModelMismatchError
from triode.models.base import Output, VideoModel, Yuv
from triode.train.checkpoint import load_float_state, load_small_checkpoint
from triode.train.clips import ClipFolder
from triode.train.exact import integer_networks
from triode.train.image import RateDistortion
from triode.train.packing import normalised, packed, samples, unpacked

__all__ = ["POINTS", "VideoRateDistortion", "plane_errors", "psnr_yuv"]

POINTS: Final = (8, 24, 40, 56)
"""Rate points of the validation."""

_WEIGHTS: Final = (6 / 8, 1 / 8, 1 / 8)
_START_BATCHES: Final = 32
_LEAST_ERROR: Final = 1e-4


def plane_errors(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return mean squared errors of luma, Cb and Cr, (..., 3), of frames (..., 6, h, w)."""
    planes = (x_hat - x).square().mean((-2, -1))
    return torch.cat([planes[..., :4].mean(-1, keepdim=True), planes[..., 4:]], -1)


def psnr_yuv(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return ``(6 PSNR_Y + PSNR_U + PSNR_V) / 8`` of frames (..., 6, h, w) uint8, (...) in dB; 88 where alike."""
    errors = plane_errors(x_hat.float(), x.float()).clamp_min(_LEAST_ERROR)
    return (10 * torch.log10(255**2 / errors)) @ torch.tensor(_WEIGHTS, device=x.device)


class VideoRateDistortion(RateDistortion):
    """Minimises ``w(q) * (bits per pixel + lambda(p) * 255**2 * D)``, the mean over the frames of a group.

    ``D = (6 MSE_Y + MSE_U + MSE_V) / 8`` on the scale of :class:`~triode.models.base.Yuv` (luma 0 to 1, chroma -0.5 to
    0.5). Pixels are those of luma. A rate point q is drawn for each group; p is the frame's own, where the model gives
    some frames more quality than others (``points`` of the model, or its ``step``). Gradients pass from each frame to
    those before it. All else is as in :class:`~triode.train.image.RateDistortion`.

    ``init`` may name a small checkpoint of this model, or one of the model of images that it holds.

    Args:
        model: Name of a registered video model.
        frozen: Submodules that keep the weights that they start with, such as ``image``.
        settings: Further arguments of the base class; those on the distortion are not for video.

    Raises:
        ValueError: If an argument is not for video, there is no such submodule, or the model is none of video.
    """

    def __init__(self, *, model: str = "video-light", frozen: Sequence[str] = (), **settings: Any) -> None:
        if settings.get("distortion", "mse") != "mse" or settings.get("mse_start"):
            raise ValueError("Arguments `distortion` and `mse_start` are for pictures")
        super().__init__(model=model, **settings)
        network: nn.Module = self.model
        if not isinstance(network, VideoModel):
            raise ValueError(f"Argument `model` must name a model of video, but got {model!r}")
        known = dict(network.named_modules())
        if not set(frozen) <= known.keys():
            raise ValueError(f"Argument `frozen` must name submodules of {model}, but got {list(frozen)}")
        self.still = tuple(frozen)
        for name in self.still:
            known[name].requires_grad_(False)
        self.started = False
        self.train(self.training)

    @property
    def video(self) -> VideoModel:
        """The model."""
        return cast(VideoModel, cast(nn.Module, self.model))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but what is frozen."""
        super().train(mode)
        for name in getattr(self, "still", ()):
            self.model.get_submodule(name).eval()
        return self

    def points(self, q: Tensor, frames: int) -> Tensor:
        """Return the rate point of each frame, (B, T) float, of groups that are asked for at points (B,)."""
        own: Callable[[Tensor, int], Tensor] | None = getattr(self.model, "points", None)
        if own is not None:
            return own(q, frames)
        asked = q.round().int().tolist()
        rows = [[float(self.video.step(index, point).point - point) for index in range(frames)] for point in asked]
        return (q[:, None] + torch.tensor(rows, device=q.device)).clamp(0, 63)

    def losses(self, x: Tensor, out: Output, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return bits per pixel and D, (B, T) each."""
        pixels = 4 * x.shape[-2] * x.shape[-1]
        bits = list(out.bits.values())
        errors = plane_errors(out.x_hat.float(), x)
        return sum(bits[1:], bits[0]) / pixels, errors @ torch.tensor(_WEIGHTS, device=x.device)

    def total(self, bpp: Tensor, distortion: Tensor, q: Tensor) -> Tensor:
        """Return rate plus price of the distortion, the mean over frames, (B,), of (B, T) each at points (B,)."""
        lam = self.video.rate_lambda(self.points(q, bpp.shape[1]))
        return (bpp + lam * 255**2 * distortion).mean(1)

    def code(self, batch: Tensor) -> tuple[Tensor, Tensor, Output]:
        """Draw rate points for clips (B, T, 6, h, w) uint8, then code and decode them.

        Returns:
            Clips as models see them, packed; points (B,); reconstructions, packed likewise, and bits (B, T).
        """
        x = normalised(batch)
        q = self.draw_rate_points(len(x)).to(x.device)
        if self.is_exact():
            q = q.round()
            with integer_networks(self.model):
                return x, q, self.run(x, q)
        return x, q, self.run(x, q)

    def run(self, x: Tensor, q: Tensor) -> Output:
        """Run the model on packed clips; return packed reconstructions and bits (B, T)."""
        out = self.video(unpacked(x), q)
        return Output(packed(out.frames), out.bits)

    def costs(self, x: Tensor, q: Tensor, out: Output) -> Tensor:
        """Return rate plus price of the distortion, (B,) in bits per pixel; log the rate, errors and the time."""
        bpp, distortion = self.losses(x, out, q)
        self.log("bpp", bpp.mean())
        self.log("bpp_first", bpp[:, 0].mean())
        self.log("distortion", distortion.mean())
        self.log("frames", float(bpp.shape[1]))
        self.log("seconds", time.monotonic() - self.fit_begun)
        return self.total(bpp, distortion, q)

    def validation_step(self, batch: Tensor, index: int) -> None:
        """Log rate and quality of the averaged weights at :data:`POINTS`, noise-free, in floats.

        ``psnr`` is taken of 8-bit samples, frame by frame. ``of_first`` is the mean rate of all frames over that of the
        first one, which knows no other.
        """
        x = normalised(batch)
        with self.ema.applied(self.model):
            for point in POINTS:
                q = torch.full((len(x),), float(point), device=x.device)
                out = self.run(x, q)
                bpp, distortion = self.losses(x, out, q)
                weight = self.model.rate_lambda(q) ** -self.balance
                for name, value in (
                    (f"val/bpp_{point}", bpp),
                    (f"val/psnr_{point}", psnr_yuv(samples(out.x_hat.float()), batch)),
                    (f"val/of_first_{point}", bpp.mean(1) / bpp[:, 0]),
                    ("val/loss", weight * self.total(bpp, distortion, q)),
                ):
                    self.log(name, value.mean(), batch_size=len(x), sync_dist=True)

    def setup(self, stage: str) -> None:
        """Load the checkpoint to start from, once.

        Raises:
            ModelMismatchError: If it is none, or neither of this model nor of its model of images.
        """
        if self.init is None or self.started or self.trainer.ckpt_path is not None:
            return
        self.started = True
        state, facts = load_small_checkpoint(Path(self.init))
        if facts.model == self.architecture:
            self.start = facts
            load_float_state(self.model, state)
        else:
            _take_image(self.video, state, facts.model)
        self.ema.reset(self.model)

    def on_fit_start(self) -> None:
        """Start the clock; unless a run of this model goes on, set what has a closed form from the clips."""
        self.fit_begun = time.monotonic()
        data = getattr(self.trainer, "datamodule", None)
        closed: Callable[[Iterator[Sequence[Yuv]]], None] | None = getattr(self.model, "init_from_data", None)
        fresh = self.trainer.ckpt_path is None and self.start is None and self.linear_start == "components"
        if fresh and closed is not None and isinstance(data, ClipFolder):
            self.model.cpu()
            closed(_groups(data))
            self.model.to(self.device)
            self.ema.reset(self.model)


def _groups(data: ClipFolder) -> Iterator[Sequence[Yuv]]:
    batches = data.batches()
    for index in range(min(_START_BATCHES, len(batches))):
        yield unpacked(normalised(batches[index]))


def _take_image(model: VideoModel, state: Mapping[str, Tensor], name: str) -> None:
    own: Callable[[Mapping[str, Tensor]], None] | None = getattr(model, "load_image", None)
    part = getattr(model, "image", None)
    if own is None and not isinstance(part, nn.Module):
        raise ModelMismatchError(f"The checkpoint is of {name}, and this model holds no model of images")
    try:
        if own is not None:
            own(state)
        else:
            load_float_state(cast(nn.Module, part), state)
    except ValueError as error:
        raise ModelMismatchError(f"The checkpoint of {name} does not fit: {error}") from error
