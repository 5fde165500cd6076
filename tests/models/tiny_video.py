"""A tiny model of video without training: means over 4 x 4, rounding, and differences to the frame before; clips."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from models.tiny import smooth_image
from torch import Tensor

from triode.container import FrameKind
from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.tables import CdfTables
from triode.media import Clip
from triode.models.base import FrameStep, VideoLatent, VideoModel, VideoOutput, VideoState, Yuv
from triode.models.weights import Loaded, WeightsInfo

SCALES = (0.5, 2.0, 8.0)
INTRA_TABLE = 3


def _tables() -> CdfTables:
    symbols = np.arange(-200, 201)
    laplace = [np.append(np.exp(-np.abs(symbols) / s), 1e-4) for s in (*SCALES, 40.0)]
    return CdfTables.from_pmfs(laplace, [-200] * 4)


class TinyVideo(VideoModel):
    """See the module's text. The table of a symbol depends on the symbols of the frame before; every fourth refreshes.

    Args:
        kinds: Kinds of frames that it codes.
    """

    stride = 4
    multiple = 4

    def __init__(self, kinds: Sequence[FrameKind] = tuple(FrameKind)) -> None:
        super().__init__()
        self.kinds = frozenset(kinds)
        self.tables = _tables()

    @staticmethod
    def size(q: int) -> float:
        return 0.1 * 2.0 ** (-q / 16)

    def forward(self, frames: Sequence[Yuv], q: Tensor) -> VideoOutput:
        return VideoOutput(tuple(frames), {"y": torch.zeros(len(q), len(frames))})

    def rate_lambda(self, q: Tensor) -> Tensor:
        return q + 1

    def step(self, index: int, point: int) -> FrameStep:
        if not index or FrameKind.INTER not in self.kinds:
            return FrameStep(FrameKind.INTRA, point)
        return FrameStep(FrameKind.INTER if index % 4 else FrameKind.REFRESH, max(point - index % 2, 0))

    def _index(self, step: FrameStep, state: VideoState) -> np.ndarray[Any, Any]:
        fmt = state.format
        if step.kind is FrameKind.INTRA:
            return np.full(3 * fmt.height * fmt.width // 16, INTRA_TABLE)
        return np.minimum(state.integers[0].abs().numpy().reshape(-1), 2)

    def encode(self, frame: Yuv, step: FrameStep, state: VideoState, writer: SymbolWriter) -> VideoLatent:
        z = torch.cat([F.avg_pool2d(frame.y, 4), F.avg_pool2d(frame.uv, 2)], 1)
        before = 0.5 if step.kind is FrameKind.INTRA else state.features[0]
        symbols = ((z - before) / self.size(step.point)).round().int()
        coded = writer.write(symbols.numpy().reshape(-1), self._index(step, state), self.tables)
        return self._latent(coded, state)

    def decode(self, step: FrameStep, state: VideoState, reader: SymbolReader) -> VideoLatent:
        assert step.kind is FrameKind.INTRA or state.integers
        return self._latent(reader.read(self._index(step, state), self.tables), state)

    @staticmethod
    def _latent(coded: np.ndarray[Any, Any], state: VideoState) -> VideoLatent:
        shape = (1, 3, state.format.height // 4, state.format.width // 4)
        symbols = torch.from_numpy(coded.astype(np.int64)).reshape(shape)
        return VideoLatent((symbols.float(),), (symbols,))

    def synthesis(self, latent: VideoLatent, step: FrameStep, state: VideoState) -> tuple[Yuv, VideoState]:
        before = 0.5 if step.kind is FrameKind.INTRA else state.features[0]
        z = latent.values[0] * self.size(step.point) + before
        frame = Yuv(F.interpolate(z[:, :1], scale_factor=4.0), F.interpolate(z[:, 1:], scale_factor=2.0))
        state = self.skip(latent, state)
        return frame, VideoState(state.format, state.index, state.integers, (z,))

    def export(self) -> None:
        """There is nothing to freeze."""


def tiny_video(kinds: Sequence[FrameKind] = tuple(FrameKind), *, name: str = "tiny-video.v1") -> Loaded[TinyVideo]:
    """Return a tiny model as if it had been loaded."""
    info = WeightsInfo(
        name=name,
        media="video",
        architecture="tiny-video",
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
    return Loaded(TinyVideo(kinds).eval(), info)


def moving_clip(
    frames: int, width: int = 35, height: int = 21, *, scenes: Sequence[int] = (), seed: int = 0, **more: Any
) -> Clip:
    """Return a clip of a picture that moves slowly; another one, unlike it, begins at each of `scenes`."""
    ys, us, vs = [], [], []
    wide = frames + width + 2
    pictures = [smooth_image(height + 2, wide, seed=seed + number) // 2 for number in range(len(scenes) + 1)]
    for number in range(frames):
        scene = sum(number >= begin for begin in scenes)
        part = pictures[scene][:height, number : number + width] + np.uint8(90 * (scene % 2))
        ys.append(part[:, :, 0])
        us.append(part[::2, ::2, 1])
        vs.append(part[::2, ::2, 2])
    return Clip(np.stack(ys), np.stack(us), np.stack(vs), more.pop("rate", Fraction(25)), **more)
