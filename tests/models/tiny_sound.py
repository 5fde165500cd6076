"""A tiny model of sound without training: a lapped transform, rounding, and frames that mix a little; sounds for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.tables import CdfTables
from triode.errors import BitstreamError
from triode.models.base import AudioModel, Output
from triode.models.layers.audio.mdct import MdctAnalysis, MdctSynthesis
from triode.models.weights import Loaded, WeightsInfo

RATE = 1000
HOP = 8


SCALES = 0.02 * 2.0 ** np.arange(16)


def _tables() -> CdfTables:
    """One table a scale, and a last one for the number of the scale."""
    symbols = np.arange(-200, 201)
    laplace = [np.append(np.exp(-np.abs(symbols) / s), 1e-4) for s in SCALES]
    return CdfTables.from_pmfs([*laplace, np.append(np.ones(16), 1e-4)], [-200] * 16 + [0])


class TinySound(AudioModel):
    """See the module's text.

    Args:
        multiple: What numbers of frames must be multiples of.
        reach: Frames on either side that mix into one.
        rate: Samples per second.
    """

    def __init__(self, multiple: int = 1, reach: int = 2, rate: int = RATE) -> None:
        super().__init__()
        self.sample_rate, self.hop, self.multiple = rate, HOP, multiple
        self.analysis_halo = self.synthesis_halo = 1 + reach
        self.tables = _tables()
        self.to_latent, self.from_latent = MdctAnalysis(HOP), MdctSynthesis(HOP)
        kernel = 0.04 * torch.randn(HOP, 1, 1, 2 * reach + 1, generator=torch.Generator().manual_seed(1))
        kernel[:, :, :, reach] = 1
        self.register_buffer("kernel", kernel)
        self.reach = reach

    def _mix(self, y: Tensor) -> Tensor:
        return F.conv2d(y, self.kernel, padding=(0, self.reach), groups=HOP)

    @staticmethod
    def step(q: Tensor) -> float:
        return 0.3 * 2.0 ** (-float(q[0]) / 9)

    def forward(self, x: Tensor, q: Tensor) -> Output:
        y = self.analysis(x, q)
        return Output(self.synthesis(y, q), {"y": y.new_zeros(len(x))})

    def rate_lambda(self, q: Tensor) -> Tensor:
        return q + 1

    def analysis(self, x: Tensor, q: Tensor) -> Tensor:
        assert x.shape[-1] % (self.hop * self.multiple) == 0
        return self._mix(self.to_latent(x).transpose(1, 2))

    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        assert y.shape[:3] == (1, HOP, 1)
        assert y.shape[3] % self.multiple == 0
        symbols = (y / self.step(q)).round().int().numpy().reshape(-1)
        scale = int(np.searchsorted(SCALES, np.abs(symbols).mean()).clip(0, 15))
        writer.write(np.array([scale]), np.array([16]), self.tables)
        coded = writer.write(symbols, np.full(len(symbols), scale), self.tables)
        return torch.from_numpy(coded.astype(np.float32)).reshape(y.shape)

    def decode(self, frames: int, q: Tensor, reader: SymbolReader) -> Tensor:
        assert frames % self.multiple == 0
        scale = int(reader.read(np.array([16]), self.tables)[0])
        if not 0 <= scale < 16:
            raise BitstreamError(f"a scale of {scale}")
        symbols = reader.read(np.full(HOP * frames, scale), self.tables)
        return torch.from_numpy(symbols.astype(np.float32)).reshape(1, HOP, 1, frames)

    def dequantise(self, y_hat: Tensor, q: Tensor) -> Tensor:
        return y_hat * self.step(q)

    def synthesis(self, y: Tensor, q: Tensor) -> Tensor:
        return self.from_latent(self._mix(y).transpose(1, 2))

    def export(self) -> None:
        """There is nothing to freeze."""


def tiny_sound(
    multiple: int = 1, reach: int = 2, rate: int = RATE, *, name: str = "tiny-sound.v1"
) -> Loaded[TinySound]:
    """Return a tiny model as if it had been loaded."""
    info = WeightsInfo(
        name=name,
        media="audio",
        architecture="tiny-sound",
        config={},
        parameters=0,
        entropy_digest="a1b2c3d4" * 8,
        synthesis_digest="0badcafe" * 8,
        known_answer=0,
        kmac_encode=0.0,
        kmac_decode=0.0,
        training={},
        path=Path("none"),
        bytes=0,
    )
    return Loaded(TinySound(multiple, reach, rate).eval(), info)


def smooth_sound(channels: int, samples: int, rate: int = RATE, seed: int = 0) -> NDArray[np.float32]:
    """Return (C, T) float32: a few tones whose loudness comes and goes, related between channels, and some noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / rate
    common = sum(
        rng.uniform(0.05, 0.2) * np.sin(2 * np.pi * rng.uniform(20, 0.3 * RATE) * t + rng.uniform(0, 6))
        for _ in range(4)
    )
    loud = 0.55 + 0.45 * np.sin(2 * np.pi * 0.21 * t + rng.uniform(0, 6))
    own = rng.normal(0, 0.01, (channels, samples))
    weights = rng.uniform(0.7, 1.0, (channels, 1))
    return (weights * common * loud + own).astype(np.float32)
