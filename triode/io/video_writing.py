"""Video files, written without loss: through FFmpeg's libraries (PyAV), or as y4m in plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, cast

import numpy as np

from triode.errors import UnsupportedError
from triode.io.files import atomic_write
from triode.io.pyav import import_av
from triode.io.tracks import PacketWriter
from triode.media import Clip, SoundPacket

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["COLORSPACES", "FULL", "LIMITED", "SoundFeed", "find_format", "planes_to_frame", "write_clip"]

# ITU-T H.273 (2016), table 4: matrix coefficients; and FFmpeg's codes of the ranges.
COLORSPACES: Final = {"bt709": 1, "bt601": 5}
FULL, LIMITED = 2, 1
_SLICED_SIZE: Final = 64
_FINE: Final = Fraction(1, 90_000)
_MOST: Final = (1 << 31) - 1
_FORMATS: Final = {"mkv": "matroska", "mp4": "mp4", "y4m": "y4m"}


class SoundFeed(Protocol):
    """What gives the packets of a sound track while a clip is written.

    Attributes:
        header: What :attr:`triode.io.tracks.PacketReader.header` said.
        tick: Seconds of a tick of the sound.
    """

    header: bytes
    tick: Fraction

    def take(self) -> list[SoundPacket]:
        """Return the packets that came with the parts of the clip that were given since the last call."""


def write_clip(
    target: Path | BinaryIO, clips: Clip | Iterable[Clip], fmt: str | None = None, sound: SoundFeed | None = None
) -> None:
    """Write a clip without loss.

    It becomes FFV1 in Matroska (every frame on its own, from 64 x 64 with checksums), H.264 without loss in MP4, which
    takes even sizes and an encoder that FFmpeg may lack, or y4m. Times of frames are kept to the clock of the
    container, a thousandth of a second in Matroska; y4m has none, nor a colour matrix, which a reader guesses by the
    height, nor sound.

    Args:
        target: A path, replaced if it exists, with no partial file if writing fails; or a binary file.
        clips: The clip, or its parts in order, so that it need not be in memory.
        fmt: ``mkv``, ``mp4`` or ``y4m``; None to go by the suffix of the path, Matroska where there is none.
        sound: Packets of a sound track that are copied into the file.

    Raises:
        ValueError: If there are no parts, or they differ in size, rate or colour.
        UnsupportedError: If the format is not written, holds no such sound or size, or PyAV or an encoder is missing.
        OSError: If the file cannot be written.
    """
    kind = _FORMATS[find_format(fmt or (target.suffix if isinstance(target, Path) else ""))]
    parts = _alike((clips,) if isinstance(clips, Clip) else clips)
    first = next(parts, None)
    if first is None:
        raise ValueError("Argument `clips` must hold a clip, but it is empty")
    if kind == "mp4" and (first.width % 2 or first.height % 2):
        raise UnsupportedError(f"mp4 takes even sizes, and this video is {first.width} x {first.height}; mkv takes any")
    with ExitStack() as stack:
        file = stack.enter_context(atomic_write(target, overwrite=True)) if isinstance(target, Path) else target
        if kind == "y4m":
            if sound is not None:
                raise UnsupportedError("y4m holds no sound")
            _write_y4m(file, first, parts)
        else:
            av = import_av("video")
            try:
                clock = _clock_of(first) if isinstance(clips, Clip) else _fine_clock_of(first)
                _write_av(file, first, parts, kind, sound, clock)
            except OverflowError as error:
                said = f"{first.rate} frames a second, pixels of {first.aspect}, or times"
                raise UnsupportedError(f"{kind} does not hold numbers as large as this video's: {said}") from error
            except av.FFmpegError as error:  # those of the file itself are others
                raise UnsupportedError(f"{kind} does not take this video with its sound: {error.strerror}") from error


def find_format(name: str) -> str:
    """Return ``mkv``, ``mp4`` or ``y4m``, which a name or a suffix means; ``mkv`` where it is empty.

    Raises:
        UnsupportedError: If video is not written in it.
    """
    found = name.lower().lstrip(".") or "mkv"
    if found not in _FORMATS:
        raise UnsupportedError(f"video is not written as {name!r}; known are .mkv .mp4 .y4m")
    return found


def planes_to_frame(clip: Clip, index: int) -> VideoFrame:
    """Return frame `index` of a clip for an encoder of PyAV, with its time, matrix and range.

    Raises:
        UnsupportedError: If PyAV is missing.
    """
    av = import_av("video")
    frame: VideoFrame = av.VideoFrame(clip.width, clip.height, "yuv420p")
    for plane, values in zip(frame.planes, (clip.y[index], clip.u[index], clip.v[index]), strict=True):
        padded = np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, plane.line_size)
        padded[:, : plane.width] = values
    frame.pts = index
    frame.time_base = 1 / clip.rate
    frame.colorspace = COLORSPACES[clip.matrix]
    frame.color_range = FULL if clip.full_range else LIMITED
    return frame


def _alike(parts: Iterable[Clip]) -> Iterator[Clip]:
    """Pass on parts of one clip, and refuse what does not fit the first."""
    first: tuple[Any, ...] | None = None
    for part in parts:
        facts = (part.width, part.height, part.rate, part.matrix, part.full_range)
        first = first or facts
        if facts != first:
            raise ValueError(f"Parts of a clip must agree in size, rate and colour, but got {first} and {facts}")
        yield part


def _write_y4m(file: BinaryIO, first: Clip, rest: Iterator[Clip]) -> None:
    colour = "FULL" if first.full_range else "LIMITED"
    rate = f"F{first.rate.numerator}:{first.rate.denominator}"
    shape = f"A{first.aspect.numerator}:{first.aspect.denominator}"
    head = f"YUV4MPEG2 W{first.width} H{first.height} {rate} Ip {shape} C420mpeg2 XCOLORRANGE={colour}\n"
    file.write(head.encode("ascii"))
    part: Clip | None = first
    while part is not None:
        for planes in zip(part.y, part.u, part.v, strict=True):
            file.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in planes))
        part = next(rest, None)


def _write_av(
    file: BinaryIO, first: Clip, rest: Iterator[Clip], form: str, sound: SoundFeed | None, clock: Fraction
) -> None:
    av = import_av("video")
    # No random identifiers: the same clip makes the same file.
    with ExitStack() as stack:
        container = stack.enter_context(av.open(file, "w", format=form, options={"fflags": "+bitexact"}))
        stream = _lossless(container, first, form, clock)
        tracks = None if sound is None else PacketWriter(container, sound.header, sound.tick)
        if tracks is not None:
            stack.callback(tracks.close)
        done = 0
        part: Clip | None = first
        while part is not None:
            for index in range(part.frames):
                frame = planes_to_frame(part, index)
                time = done / part.rate if part.times is None else part.times[index]
                frame.pts, frame.time_base = (
                    round(time / stream.codec_context.time_base),
                    stream.codec_context.time_base,
                )
                container.mux(stream.encode(frame))
                done += 1
            if tracks is not None and sound is not None:
                tracks.write(sound.take())
            part = next(rest, None)
        container.mux(stream.encode(None))
        if tracks is not None and sound is not None:
            tracks.write(sound.take())


def _lossless(container: Any, clip: Clip, form: str, clock: Fraction) -> Any:
    """Add a stream for a clip whose times are given by a clock."""
    codec = "ffv1" if form == "matroska" else "libx264"
    try:
        stream = container.add_stream(codec, rate=clip.rate)
    except ValueError as error:
        raise UnsupportedError(f"this FFmpeg lacks the encoder {codec}, which .mp4 needs; .mkv needs none") from error
    stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
    if codec == "ffv1":
        # FFmpeg's version 3 cuts a frame into slices, for which a small one has no room.
        small = min(clip.width, clip.height) < _SLICED_SIZE
        stream.options = {"level": "1" if small else "3", "g": "1", **({} if small else {"slicecrc": "1"})}
    else:
        stream.options = {"qp": "0", "preset": "veryfast"}
    context = stream.codec_context
    context.colorspace = COLORSPACES[clip.matrix]
    context.color_range = FULL if clip.full_range else LIMITED
    context.color_primaries, context.color_trc = clip.primaries, clip.transfer
    context.sample_aspect_ratio = clip.aspect
    context.time_base = clock
    return stream


def _clock_of(clip: Clip) -> Fraction:
    """Return the clock that a clip is encoded by: that of its rate, or a finer one where frames come at other times."""
    return 1 / clip.rate if clip.times is None else _FINE


def _fine_clock_of(first: Clip) -> Fraction:
    """Return a clock for a clip in parts: of its rate or a multiple, as frames of later parts may come at any time."""
    if first.times is not None:
        return _FINE
    clock = 1 / (first.rate * math.ceil(1 / (first.rate * _FINE)))
    return clock if clock.denominator <= _MOST else _FINE
