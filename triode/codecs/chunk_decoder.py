"""From the symbols of chunks, as they come, to samples at the model's rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.codecs.chunks import Chunk, Chunking
from triode.codecs.conceal import FADE_IN, FADE_OUT, extend, fade_in, fade_out
from triode.codecs.levels import Levels, gains, rotate
from triode.errors import BitstreamError
from triode.models.base import AudioModel

__all__ = ["ChunkDecoder"]

Samples = NDArray[np.float32]

_LOUDEST = 1e9


class ChunkDecoder:
    """Makes the samples of the chunks of one sound.

    A lost chunk is concealed: see :mod:`triode.codecs.conceal`.

    Args:
        model: The model.
        channels: Number of channels.
        chunking: The chunks.
        first: The chunk whose samples are wanted first; those before it that are pushed serve as its neighbours.
    """

    def __init__(self, model: AudioModel, channels: int, chunking: Chunking, *, first: int = 0) -> None:
        self._model, self._channels, self._chunking = model, channels, chunking
        self._chunks: dict[int, Chunk] = {}
        self._next = first

    def push(self, chunk: Chunk) -> list[Samples]:
        """Take the next chunk; return the samples (C, n) of each chunk that has its neighbours now."""
        self._chunks[chunk.index] = chunk
        ready = []
        while self._next + self._chunking.ahead_to_decode <= chunk.index:
            ready.append(self._make())
        return ready

    def finish(self) -> list[Samples]:
        """Return the samples of the chunks that are left, as nothing comes after them."""
        left = []
        while self._next in self._chunks:
            left.append(self._make())
        return left

    @torch.inference_mode()
    def _make(self) -> Samples:
        chunk = self._chunks[self._next]
        with np.errstate(over="ignore", invalid="ignore"):
            x = self._bridge(chunk) if chunk.lost else self._plain(chunk)
        if not np.abs(x).max(initial=0) < _LOUDEST:
            raise BitstreamError(f"chunk {chunk.index} decodes to samples beyond any loudness")
        self._next += 1
        self._chunks.pop(self._next - self._chunking.ahead_to_decode - 1, None)
        return x

    def _plain(self, chunk: Chunk) -> Samples:
        halo, frames, size = self._chunking.synthesis_halo, chunk.frames, self._chunking.samples
        x = np.zeros((self._channels, frames * self._chunking.hop), dtype=np.float32)
        before, after = self._neighbour(chunk.index - 1), self._neighbour(chunk.index + 1)
        for channel, latent in enumerate(chunk.latents):
            if latent is None:
                continue
            left = self._beside(chunk.index, channel, halo, -1)
            right = self._beside(chunk.index, channel, halo, 1)
            y = self._synthesise([*reversed(left), latent, *right], chunk.point)
            start = sum(piece.shape[-1] for piece in left) * self._chunking.hop
            x[channel] = y[start : start + x.shape[1]]
            levels = (self._level(before, channel), chunk.levels[channel], self._level(after, channel))
            x[channel] /= gains(*levels, size)[: x.shape[1]]
        known = before is not None and not before.lost
        return rotate(x, before.rotations if before and known else chunk.rotations, chunk.rotations, size, back=True)

    def _bridge(self, chunk: Chunk) -> Samples:
        """Make something for a lost chunk out of its neighbours."""
        count, rate, hop = chunk.frames * self._chunking.hop, self._model.sample_rate, self._chunking.hop
        x = np.zeros((self._channels, count), dtype=np.float32)
        before, after = self._neighbour(chunk.index - 1), self._neighbour(chunk.index + 1)
        if before is not None and not before.lost:
            length = min(count, round(FADE_OUT * rate))
            x[:, :length] += self._continue(before, -(-length // hop), forward=True)[:, :length] * fade_out(length)
        if after is not None and not after.lost:
            length = min(count, round(FADE_IN * rate))
            y = self._continue(after, -(-length // hop), forward=False)
            x[:, count - length :] += y[:, y.shape[1] - length :] * fade_in(length)
        return x

    def _continue(self, chunk: Chunk, frames: int, *, forward: bool) -> Samples:
        """Return samples (C, frames * hop) that go on behind a chunk, or lead to it."""
        hop, halo = self._chunking.hop, self._chunking.synthesis_halo
        frames = self._chunking.padded(frames)
        x = np.zeros((self._channels, frames * hop), dtype=np.float32)
        for channel, (latent, level) in enumerate(zip(chunk.latents, chunk.levels, strict=True)):
            if latent is None or level is None:
                continue
            more = extend(latent, frames + halo, forward=forward)
            edge = min(halo, latent.shape[-1])
            pieces = [latent[..., latent.shape[-1] - edge :], more] if forward else [more, latent[..., :edge]]
            y = self._synthesise(pieces, chunk.point)
            start = (edge if forward else halo) * hop
            x[channel] = y[start : start + x.shape[1]] / gains(None, level, None, 1)
        return rotate(x, chunk.rotations, chunk.rotations, x.shape[1], back=True)

    def _beside(self, index: int, channel: int, count: int, step: int) -> list[Tensor]:
        """Collect up to `count` frames of the latents before (`step` -1) or behind (1) a chunk, nearest first."""
        pieces: list[Tensor] = []
        own = self._chunks[index].latents[channel]
        nearest = own
        while count > 0 and own is not None:
            index += step
            chunk = self._neighbour(index)
            if chunk is None:
                break
            take = min(count, chunk.frames)
            latent = chunk.latents[channel]
            if chunk.lost and nearest is not None:
                pieces.append(extend(nearest, take, forward=step > 0))
            elif latent is None:
                pieces.append(own.new_zeros((*own.shape[:3], take)))
            else:
                pieces.append(latent[..., :take] if step > 0 else latent[..., chunk.frames - take :])
            nearest, count = latent, count - take
        return pieces

    def _synthesise(self, pieces: Sequence[Tensor], point: int) -> Samples:
        y = self._model.synthesis(torch.cat(list(pieces), dim=3), torch.tensor([point]))
        samples: Samples = y[0, 0].float().numpy()
        return samples

    def _neighbour(self, index: int) -> Chunk | None:
        return self._chunks.get(index)

    @staticmethod
    def _level(chunk: Chunk | None, channel: int) -> int | None:
        """Return the level of a channel in a neighbour; None, which makes no ramp, where it is not known."""
        levels: Levels = () if chunk is None else chunk.levels
        return levels[channel] if levels else None
