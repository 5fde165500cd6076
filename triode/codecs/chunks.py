"""Chunks of a sound: where they lie, and the symbols of one.

A chunk's latent is made from its samples and some of its neighbours' samples; its samples are made from its latent and
some of its neighbours' latents. With margins as wide as the networks reach, both equal what the whole sound gives. The
windows lie at the same places whoever asks, so that whole files, ranges and streams give the same samples to the last
bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from triode.codecs.levels import Levels, ramp_length
from triode.container import AudioHead, SoundUnit, Unit, pack_sound_unit
from triode.entropy.coder import RangeReader, RangeWriter
from triode.errors import BitstreamError, UnsupportedError
from triode.models.base import AudioModel

__all__ = ["Chunk", "Chunking", "decode_chunk", "decoding_memory", "encode_chunk"]

Latents = tuple[Tensor | None, ...]

_WORK_BYTES = 512


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a sound is cut into chunks for a model.

    Attributes:
        hop: Samples of a frame.
        frames: Frames of a full chunk, a multiple of `multiple`.
        multiple: What numbers of frames must be multiples of.
        analysis_halo: Frames on either side that a chunk's latent depends on, rounded up to a multiple.
        synthesis_halo: Frames on either side that a chunk's samples depend on, likewise.
    """

    hop: int
    frames: int
    multiple: int
    analysis_halo: int
    synthesis_halo: int

    @classmethod
    def of(cls, model: AudioModel, frames: int) -> Self:
        """Return the chunks of `frames` frames that a model uses.

        Raises:
            UnsupportedError: If the model cannot have chunks of that many frames.
        """
        multiple = model.multiple
        if frames < 1 or frames % multiple:
            raise UnsupportedError(f"The model needs chunks of a multiple of {multiple} frames, but got {frames}")
        halos = (_up(model.analysis_halo, multiple), _up(model.synthesis_halo, multiple))
        return cls(model.hop, frames, multiple, *halos)

    @classmethod
    def of_file(cls, model: AudioModel, head: AudioHead) -> Self:
        """Return the chunks of a file.

        Raises:
            BitstreamError: If the file says other things of its model than are true.
            UnsupportedError: If the model cannot have such chunks.
        """
        if (head.model_rate, head.hop) != (model.sample_rate, model.hop):
            raise BitstreamError(
                f"HEAD says that the model has frames of {head.hop} samples at {head.model_rate} Hz; "
                f"they have {model.hop} at {model.sample_rate} Hz"
            )
        return cls.of(model, head.chunk_frames or _up(max(head.frames, 1), model.multiple))

    @property
    def samples(self) -> int:
        """Samples of a full chunk."""
        return self.frames * self.hop

    @property
    def ahead_to_encode(self) -> int:
        """Chunks after a chunk that must be complete before it can be encoded."""
        reach = self.analysis_halo * self.hop + ramp_length(self.samples)
        return max(1, -(-reach // self.samples))

    @property
    def ahead_to_decode(self) -> int:
        """Chunks on either side of a chunk that must be there to make its samples."""
        return max(1, -(-self.synthesis_halo // self.frames))

    def padded(self, frames: int) -> int:
        """Return a number of frames rounded up to what the model takes."""
        return _up(frames, self.multiple)


def decoding_memory(chunking: Chunking, channels: int) -> int:
    """Estimate the bytes that decoding allocates for the windows of a chunk, the samples that come out left aside."""
    window = (chunking.frames + 2 * chunking.synthesis_halo) * chunking.hop
    return window * (_WORK_BYTES + 16 * channels)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The decoded symbols of a chunk, or the place of one that was lost.

    Attributes:
        index: Its number.
        frames: Its frames, padded to what the model takes.
        point: Rate point.
        levels: Level of each channel; None where it is silent.
        rotations: Rotation of each pair of channels.
        latents: (1, M, 1, frames) dequantised, for each channel; None where it is silent.
        lost: Whether nothing is known of the chunk but its place.
    """

    index: int
    frames: int
    point: int
    levels: Levels
    rotations: tuple[int, ...]
    latents: Latents
    lost: bool = False

    @classmethod
    def missing(cls, index: int, frames: int, channels: int) -> Self:
        """Return the place of a lost chunk."""
        return cls(index, frames, 0, (None,) * channels, (0,) * (channels // 2), (None,) * channels, lost=True)


@torch.inference_mode()
def encode_chunk(
    model: AudioModel, index: int, point: int, latents: Sequence[Tensor | None], layout: SoundUnit
) -> Unit:
    """Code a chunk.

    Args:
        model: The model.
        index: Number of the chunk.
        point: Rate point.
        latents: (1, M, 1, F) for each channel; None where it is silent.
        layout: Levels and rotations; its coded bytes are replaced.

    Returns:
        The unit.
    """
    coder, q = RangeWriter(), torch.tensor([point])
    for latent in latents:
        if latent is not None:
            model.encode(latent, q, coder)
    coded = coder.getvalue() if coder.count else b""
    sound = SoundUnit(layout.frames, layout.levels, layout.rotations, coded)
    return Unit(index, point, coder.crc, pack_sound_unit(sound))


@torch.inference_mode()
def decode_chunk(model: AudioModel, unit: Unit, sound: SoundUnit, frames: int) -> Chunk:
    """Decode the symbols of a chunk.

    Args:
        model: The model.
        unit: The unit.
        sound: What its payload holds.
        frames: Its frames, padded to what the model takes.

    Raises:
        BitstreamError: If the coded bytes are damaged; `EntropyMismatchError` if the symbols' CRC-32 says so.
    """
    coder, q = RangeReader(sound.coded), torch.tensor([unit.rate_point])
    latents: list[Tensor | None] = []
    for level in sound.levels:
        if level is None or not frames:
            latents.append(None)
            continue
        latents.append(model.dequantise(model.decode(frames, q, coder), q))
    if sound.coded and all(latent is None for latent in latents):
        raise BitstreamError(f"{len(sound.coded)} coded bytes, but no channel has any")
    coder.check(unit.symbols_crc32)
    return Chunk(unit.index, frames, unit.rate_point, sound.levels, sound.rotations, tuple(latents))


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
