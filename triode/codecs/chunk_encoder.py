"""From samples at the model's rate, as they come, to the units of their chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.codecs.chunks import Chunking, encode_chunk
from triode.codecs.levels import Levels, choose_rotation, gains, levels_of, rotate
from triode.container import SoundUnit, Unit
from triode.entropy.coder import CountingWriter
from triode.models.base import AudioModel

__all__ = ["ChunkEncoder"]

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Turned:
    """A chunk whose pairs are turned: (C, n) samples, the chunk's levels and rotations."""

    samples: Samples
    levels: Levels
    rotations: tuple[int, ...]


class ChunkEncoder:
    """Encodes the chunks of one sound.

    Args:
        model: The model.
        channels: Number of channels.
        point: Rate point, 0 to 63.
        chunking: The chunks.
    """

    def __init__(self, model: AudioModel, channels: int, point: int, chunking: Chunking) -> None:
        self._model, self._point, self._chunking = model, point, chunking
        self._channels = channels
        self._rest = np.zeros((channels, 0), dtype=np.float32)
        self._chunks: dict[int, _Turned] = {}
        self._made = 0
        self._sent = 0
        self._keep = 1 + -(-chunking.analysis_halo // chunking.frames)

    def push(self, x: Samples) -> list[Unit]:
        """Take the next samples (C, n); return the units that are complete with them."""
        self._rest = np.concatenate((self._rest, x), axis=1)
        size, units = self._chunking.samples, []
        while self._rest.shape[1] >= size:
            self._turn(self._rest[:, :size], size)
            self._rest = self._rest[:, size:]
            if self._made - self._sent > self._chunking.ahead_to_encode:
                units.append(self._encode(None))
        return units

    def finish(self, tail: Samples, samples: int) -> list[Unit]:
        """Return the units that are left; none at all where there are no samples.

        Args:
            tail: (C, n) the last samples, and what there is of the padding after them.
            samples: Samples in all, those of the padding not counted.
        """
        plan = self._chunking
        self._rest = np.concatenate((self._rest, tail), axis=1)
        units, total, frames = [], -(-samples // plan.hop), plan.frames
        while self._made * plan.frames < total:
            frames = min(plan.frames, total - self._made * plan.frames)
            size = plan.padded(frames) * plan.hop
            x, self._rest = self._rest[:, :size], self._rest[:, size:]
            x = np.pad(x, ((0, 0), (0, size - x.shape[1])))
            self._turn(x, min(size, samples - self._made * plan.samples))
            if self._made * plan.frames < total and self._made - self._sent > plan.ahead_to_encode:
                units.append(self._encode(None))
        while self._sent < self._made:
            last = self._sent + 1 == self._made
            units.append(self._encode(frames if last and frames < plan.frames else None))
        return units

    def _turn(self, x: Samples, real: int) -> None:
        """Take the samples of the next chunk, of which the first `real` are no padding."""
        rotations = tuple(choose_rotation(x[i : i + 2], self._cost) for i in range(0, self._channels - 1, 2))
        before = self._chunks[self._made - 1].rotations if self._made else rotations
        turned = rotate(x, before, rotations, self._chunking.samples)
        self._chunks[self._made] = _Turned(turned, levels_of(turned[:, :real], rotations), rotations)
        self._made += 1

    @torch.inference_mode()
    def _cost(self, pair: Samples, rotation: int) -> float:
        """Count the bits of a pair of channels on its own."""
        writer, q = CountingWriter(), torch.tensor([self._point])
        for x, level in zip(pair, levels_of(pair, (rotation,)), strict=True):
            if level is not None:
                scaled = torch.from_numpy(x * gains(None, level, None, len(x)))
                self._model.encode(self._model.analysis(scaled[None, None], q), q, writer)
        return writer.bits

    @torch.inference_mode()
    def _encode(self, short: int | None) -> Unit:
        """Encode the next chunk; `short` are its frames where it is shorter than others."""
        index, plan = self._sent, self._chunking
        chunk, total = self._chunks[index], (self._made - 1) * plan.frames + self._last_frames
        first = index * plan.frames
        frames = chunk.samples.shape[1] // plan.hop
        begin, end = max(0, first - plan.analysis_halo), min(total, first + frames + plan.analysis_halo)
        x, q = self._window(begin * plan.hop, end * plan.hop), torch.tensor([self._point])
        latents: list[Tensor | None] = []
        for channel, level in enumerate(chunk.levels):
            if level is None:
                latents.append(None)
                continue
            y = self._model.analysis(torch.from_numpy(x[channel].copy())[None, None], q)
            latents.append(y[..., first - begin : first - begin + frames].contiguous())
        unit = encode_chunk(
            self._model, index, self._point, latents, SoundUnit(short, chunk.levels, chunk.rotations, b"")
        )
        self._sent += 1
        self._chunks.pop(self._sent - self._keep - 1, None)
        return unit

    @property
    def _last_frames(self) -> int:
        return self._chunks[self._made - 1].samples.shape[1] // self._chunking.hop

    def _window(self, begin: int, end: int) -> Samples:
        """Return samples `begin` to `end`, turned and levelled."""
        size, pieces = self._chunking.samples, []
        for index in range(begin // size, -(-end // size)):
            chunk = self._chunks[index]
            before, after = self._levels(index - 1), self._levels(index + 1)
            n = chunk.samples.shape[1]
            gain = np.stack([gains(*three, size)[:n] for three in zip(before, chunk.levels, after, strict=True)])
            start = index * size
            pieces.append((chunk.samples * gain)[:, max(0, begin - start) : end - start])
        return np.concatenate(pieces, axis=1)

    def _levels(self, index: int) -> Levels:
        chunk = self._chunks.get(index)
        return (None,) * self._channels if chunk is None else chunk.levels
