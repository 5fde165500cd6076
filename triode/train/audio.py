"""Rate-distortion training of audio models, one model for all rate points."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.eval.metrics.signal import si_sdr
from triode.models.audio.audio_light import AudioLight
from triode.models.base import AudioModel, Output
from triode.train.audio_loss import SoundDistortion
from triode.train.exact import integer_networks
from triode.train.image import RateDistortion
from triode.train.sounds import SoundFolder

_POINTS = (0.0, 12.0, 24.0, 36.0, 48.0, 63.0)


class SoundRateDistortion(RateDistortion):
    """Minimises ``w(q) * (bits a frame + lambda(q) * D)`` with a rate point drawn for each crop.

    D is the weighted sum of :class:`~triode.train.audio_loss.SoundDistortion`. The loss is stated a sample, not a
    frame, so that gradients are about as large as for pictures. All else is as in
    :class:`~triode.train.image.RateDistortion`.

    Args:
        model: Name of a registered audio model.
        mel: Weight of the mel distance in D.
        spectral: Weight of compressed complex spectra in D.
        wave: Weight of the waveform in D.
        windows: Windows of the compressed spectra, in samples.
        settle: Share of the run, at its start, in which rates do not reach the analysis (``settling`` of the model).
        settings: Further arguments of the base class; those on the distortion are not for sound.

    Raises:
        ValueError: If an argument is out of its range, or not for sound, or the model is none of sound.
    """

    def __init__(
        self,
        *,
        model: str = "audio-light",
        mel: float = 1.0,
        spectral: float = 25.0,
        wave: float = 0.5,
        windows: Sequence[int] = (256, 512, 1024),
        settle: float = 0.0,
        **settings: Any,
    ) -> None:
        if settings.get("distortion", "mse") != "mse" or settings.get("mse_start"):
            raise ValueError("Arguments `distortion` and `mse_start` are for pictures")
        if not 0 <= settle < 1:
            raise ValueError(f"Argument `settle` must be in [0, 1), but got {settle}")
        super().__init__(model=model, **settings)
        network: nn.Module = self.model
        if not isinstance(network, AudioModel):
            raise ValueError(f"Argument `model` must name a model of sound, but got {model!r}")
        self.settle = settle
        self.distance = SoundDistortion(network.sample_rate, mel, spectral, wave, windows)

    @property
    def audio(self) -> AudioModel:
        """The model."""
        return cast(AudioModel, cast(nn.Module, self.model))

    def _settle(self, *, settling: bool) -> None:
        if isinstance(self.audio, AudioLight):
            self.audio.settling = settling

    def bits_a_frame(self, x: Tensor, out: Output) -> Tensor:
        """Return bits of samples (B, 1, T) per frame, (B,)."""
        frames = x.shape[2] / self.audio.hop
        return sum(out.bits.values(), torch.zeros(len(x), device=x.device)) / frames

    def code(self, batch: Tensor) -> tuple[Tensor, Tensor, Output]:
        """Draw rate points for crops (B, 1, T) float, then code and decode them; return crops, points, result."""
        q = self.draw_rate_points(len(batch)).to(batch.device)
        self._settle(settling=self.settle > 0 and self.progress(self.global_step) < self.settle)
        if self.is_exact():
            q = q.round()
            with integer_networks(self.model):
                return batch, q, self.model(batch, q)
        return batch, q, self.model(batch, q)

    def costs(self, x: Tensor, q: Tensor, out: Output) -> Tensor:
        """Return rate plus price of the distortion, (B,) in bits a sample; log both, and the time."""
        bits, errors = self.bits_a_frame(x, out), self.distance(out.x_hat, x)
        self.log("kbps", self.kbps(bits).mean())
        self.log("mel", errors.mel.mean())
        self.log("spectral", errors.spectral.mean())
        self.log("wave", errors.wave.mean())
        self.log("seconds", time.monotonic() - self.fit_begun)
        return self._sum(bits, errors.total, q)

    def _sum(self, bits: Tensor, distortion: Tensor, q: Tensor) -> Tensor:
        total: Tensor = (bits + self.audio.rate_lambda(q) * distortion) / self.audio.hop
        return total

    def kbps(self, bits: Tensor) -> Tensor:
        """Return bits a frame as thousand bits per second."""
        return bits * (self.audio.sample_rate / self.audio.hop / 1000)

    def validation_step(self, batch: Tensor, index: int) -> None:
        """Log rate, mel distance and SI-SDR of the averaged weights at six rate points, noise-free, in floats."""
        self._settle(settling=False)
        with self.ema.applied(self.model):
            for point in _POINTS:
                q = torch.full((len(batch),), point, device=batch.device)
                out = self.model(batch, q)
                bits, errors = self.bits_a_frame(batch, out), self.distance(out.x_hat, batch)
                loss = self._sum(bits, errors.total, q)
                weight = self.audio.rate_lambda(q) ** -self.balance
                heard = batch.square().sum((1, 2)) > 0  # SI-SDR of silence is not defined.
                ratios = si_sdr(out.x_hat[heard], batch[heard]) if bool(heard.any()) else torch.zeros(1)
                for name, value in (
                    (f"val/kbps_{point:g}", self.kbps(bits)),
                    (f"val/mel_{point:g}", errors.mel),
                    (f"val/spectral_{point:g}", errors.spectral),
                    (f"val/si_sdr_{point:g}", ratios.float()),
                    ("val/loss", weight * loss),
                ):
                    self.log(name, value.mean(), batch_size=len(batch), sync_dist=True)

    def on_fit_start(self) -> None:
        """Start the clock; on a fresh run, start the linear path from the recordings."""
        self.fit_begun = time.monotonic()
        data = getattr(self.trainer, "datamodule", None)
        if self.trainer.ckpt_path is None and self.init is None and isinstance(data, SoundFolder):
            self.audio.cpu().init_from_data(_floats(data))
            self.model.to(self.device)
            self.ema.reset(self.model)


def _floats(data: SoundFolder) -> Iterator[NDArray[np.float32]]:
    for i in data.training_recordings:
        yield data.cache.sound(i).astype(np.float32) / 32768
