"""A group of pictures to the coded frames of its unit."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from triode.codecs.gop import Gop
from triode.codecs.matrices import matrix_name
from triode.codecs.planes import from_planes
from triode.container import CodedFrame, FrameKind, Unit, VideoHead, VideoUnit, pack_video_unit
from triode.entropy.coder import RangeWriter
from triode.models.base import GopFormat, VideoModel, Yuv

__all__ = ["ASTRAY", "CodedGop", "crc_of", "encode_gop", "format_of"]

ASTRAY: Final = 4.0
"""Steps of the quantiser by which no element may miss: a frame that does is coded on its own."""


@dataclass(frozen=True, slots=True)
class CodedGop:
    """A group of pictures, coded.

    Attributes:
        index: Number of its unit.
        first: Number of its first frame.
        start: Time of that frame in ticks.
        durations: Ticks from each frame to the next one; None where each lasts as long as `HEAD` says.
        ticks: Sum of the durations.
        point: Rate point that was asked for.
        crc: CRC-32 of the symbols.
        frames: The coded frames.
    """

    index: int
    first: int
    start: int
    durations: tuple[int, ...] | None
    ticks: int
    point: int
    crc: int
    frames: tuple[CodedFrame, ...]

    @property
    def size(self) -> int:
        """Bytes of the coded frames."""
        return sum(len(frame.coded) for frame in self.frames)

    def unit(self, sound: bytes = b"") -> Unit:
        """Return its unit with the sound that belongs to it."""
        video = VideoUnit(self.first, self.start, self.frames, self.durations, sound)
        return Unit(self.index, self.point, self.crc, pack_video_unit(video))


def format_of(model: VideoModel, head: VideoHead) -> GopFormat:
    """Return what a model must know of the frames; its sides are padded to what the model takes."""
    height, width = (-(-side // model.multiple) * model.multiple for side in (head.height, head.width))
    return GopFormat(height, width, matrix_name(head.matrix))


def crc_of(frames: Sequence[int]) -> int:
    """Return the CRC-32 of a unit's symbols from those of its frames."""
    return zlib.crc32(b"".join(crc.to_bytes(4, "little") for crc in frames))


@torch.inference_mode()
def encode_gop(
    model: VideoModel, head: VideoHead, gop: Gop, point: int, check: Callable[[], None] | None = None
) -> CodedGop:
    """Code a group of pictures.

    Args:
        model: The model.
        head: What `HEAD` says of the video.
        gop: The frames.
        point: Rate point, 0 to 63.
        check: Called before each frame; what it raises ends the work.
    """
    fmt = format_of(model, head)
    state = model.start(fmt)
    coded, crcs = [], []

    def frame(index: int) -> Yuv:
        return from_planes(gop.frames[index], (fmt.height, fmt.width), full_range=head.full_range)

    for index, step in enumerate(model.plan(len(gop.frames), frame, point)):
        if check:
            check()
        writer = RangeWriter()
        latent = model.encode(frame(index), step, state, writer)
        if latent.astray > ASTRAY and step.kind is not FrameKind.INTRA:
            # What frames know of each other would carry it on, and make more of it.
            step, writer = replace(step, kind=FrameKind.INTRA), RangeWriter()
            latent = model.encode(frame(index), step, state, writer)
        # Where samples are made of symbols alone nobody needs to know what the decoder will have.
        last = index + 1 == len(gop.frames) or model.independent
        state = model.skip(latent, state) if last else model.synthesis(latent, step, state)[1]
        coded.append(CodedFrame(step.kind, step.point, writer.getvalue()))
        crcs.append(writer.crc)
    plain = all(ticks == head.frame_ticks for ticks in gop.durations)
    durations = None if plain else gop.durations
    ticks = sum(gop.durations)
    return CodedGop(gop.index, gop.first, gop.start, durations, ticks, point, crc_of(crcs), tuple(coded))
