"""Video files: read as 8-bit YUV 4:2:0, whole or a few frames at a time, and written without loss.

Anything that FFmpeg (PyAV) decodes is read; `triode.io.video_writing` writes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError, LimitExceededError, UnsupportedError
from triode.io.pyav import open_input, typed_errors
from triode.io.video_writing import COLORSPACES, FULL, LIMITED, SoundFeed, planes_to_frame, write_clip
from triode.media import Clip

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["MAX_BYTES", "MAX_PIXELS", "READABLE", "STANDARD_HEIGHT", "ClipReader", "SoundFeed", "frame_to_planes"]
__all__ += ["planes_to_frame", "read_clip", "write_clip"]

MAX_BYTES: Final = 4 << 30
"""Most memory that the planes of a clip take when it is read, in bytes, unless told otherwise: 4 GiB."""

MAX_PIXELS: Final = 178_956_970
"""Largest frame that is read, in pixels, as for images."""

READABLE: Final = frozenset(
    {".264", ".265", ".266", ".3gp", ".avi", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov"}
    | {".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogv", ".ts", ".webm", ".wmv", ".y4m"}
)
"""Suffixes by which video files are found in a folder; a file that is named itself may have any."""

Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Y, U and V of one frame: (H, W), and twice (ceil(H / 2), ceil(W / 2)), uint8."""

# ITU-T H.273 (2016), table 4: matrix coefficients. 0 are RGB, 2 unspecified.
_MATRICES: Final = {1: "bt709", 5: "bt601", 6: "bt601"}
_UNSAID: Final = (0, 2)
_RGB: Final = ("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "x2rgb", "x2bgr", "bayer")
# SWS_BICUBIC, SWSFULL_CHR_H_INP, SWS_ACCURATE_RND, SWS_BITEXACT: the same bytes on every machine.
_SCALER: Final = 0x4 | 0x4000 | 0x40000 | 0x80000
STANDARD_HEIGHT: Final = 576
"""Lines of the tallest frames that are taken for BT.601 where nothing is said."""
_SPOOL: Final = 1 << 26


class ClipReader:
    """Reads a video file a few frames at a time, in the order of display; use it in a `with` statement, or close it.

    Other samples than 8-bit 4:2:0 are converted by libswscale (bicubic, deeper ones by ordered dither): matrix and
    range stay what they are, RGB becomes BT.709 in the limited range. Where the file names no matrix it is BT.709 above
    576 lines, or else BT.601, as players take it. A rotation by quarter turns that the file asks for is applied. Pixels
    that are not square stay so, and interlaced frames stay woven. Where frames do not come at their mean rate, as far
    as the clock of the file can tell, clips have the times of the file.

    Attributes:
        width: Width in pixels, of frames as they are shown.
        height: Height in pixels.
        rate: Frames per second.
        matrix: ``bt709`` or ``bt601``.
        full_range: Whether luma runs from 0 to 255.
        frames: Number of frames that the file declares; None where it does not say.
        tick: Seconds of a tick of the file's clock.
        primaries: Colour primaries, a code of ITU-T H.273; 2 where the file does not say.
        transfer: Transfer characteristics, likewise.
        aspect: Width over height of the shape of a pixel, of frames as they are shown.
        format: What the file is, such as ``matroska,webm ffv1 yuv420p``.

    Args:
        source: A path, or a binary file, which is read from its beginning; one that cannot seek is copied to a
            temporary file. A binary file stays the caller's to close.
        form: FFmpeg's name of the format, for elementary streams such as ``h264``; None to find it.

    Raises:
        UnsupportedError: Not video that is read (such as BT.2020 and other matrices), or PyAV is missing.
        TruncatedError: The file ends too early.
        BitstreamError: It is damaged otherwise.
        LimitExceededError: Frames above :data:`MAX_PIXELS`.
        OSError: It cannot be opened or read.
    """

    def __init__(self, source: Path | BinaryIO, form: str | None = None) -> None:
        with ExitStack() as stack:
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            if not file.seekable():
                spool = stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOL))
                shutil.copyfileobj(file, spool)
                file = cast(BinaryIO, spool)
            container = open_input(file, "video", "video", form=form)
            stack.callback(container.close)
            if not container.streams.video:
                raise UnsupportedError("there is no video in this file")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UnsupportedError("this FFmpeg does not decode the video in this file")
            area = stream.codec_context.width * stream.codec_context.height
            if area > MAX_PIXELS:
                raise LimitExceededError(f"frames have {area} pixels, above the limit of {MAX_PIXELS}")
            self._decoded = container.decode(stream)
            with typed_errors("video"):
                self._next = next(self._decoded, None)
            if self._next is None:
                raise BitstreamError("there are no frames in this video")
            self._kind = _kind(self._next)
            self._turns = round(self._next.rotation / 90) % 4
            size = (self._next.width, self._next.height)
            self.width, self.height = size[::-1] if self._turns % 2 else size
            rate = stream.average_rate or stream.guessed_rate or stream.base_rate
            self.rate = Fraction(rate) if rate else Fraction(25)
            self.matrix, self.full_range = _colour(self._next)
            self.frames = stream.frames or None
            self.tick = Fraction(stream.time_base or 1 / self.rate)
            self.primaries = int(self._next.color_primaries) or 2
            self.transfer = int(self._next.color_trc) or 2
            # What the container says goes before what the codec does, if either says anything.
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            self.aspect = 1 / aspect if self._turns % 2 else aspect
            self._clock = _Clock(self.rate, self.tick)
            self.format = f"{container.format.name} {stream.codec_context.name} {self._next.format.name}"
            self._stack = stack.pop_all()
        self._closed = False

    def planes(self) -> Iterator[Planes]:
        """Yield the rest of the frames as planes, which are the caller's own.

        Raises:
            ValueError: If the reader is closed.
            UnsupportedError: If size or format change on the way.
            BitstreamError: If a frame is damaged, and the decoder tells; some conceal it.
        """
        while (frame := self._take()) is not None:
            y, u, v = _planes(frame, self.matrix, full_range=self.full_range)
            yield _turned(y, self._turns), _turned(u, self._turns), _turned(v, self._turns)

    def read(self, count: int) -> Clip | None:
        """Read on.

        Args:
            count: Most frames, at least 1.

        Returns:
            A clip of at most `count` frames, fewer only at the end; None after it.

        Raises:
            ValueError: If `count` is not positive, or the reader is closed.
            CodecError: What :meth:`planes` raises.
        """
        if count < 1:
            raise ValueError(f"Argument `count` must be positive, but got {count}")
        frames, times = [], []
        for planes in islice(self.planes(), count):
            frames.append(planes)
            times.append(self._clock.time)
        return self._clip(frames, times) if frames else None

    def skip(self, count: int) -> int:
        """Pass over frames; return how many there were to pass over, at most `count`."""
        passed = 0
        while passed < count and self._take() is not None:
            passed += 1
        return passed

    def __iter__(self) -> Iterator[Clip]:
        """Yield the rest, each frame as a clip of one."""
        while (clip := self.read(1)) is not None:
            yield clip

    def close(self) -> None:
        """Close the file, if this reader opened it."""
        self._closed = True
        self._stack.close()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _take(self) -> VideoFrame | None:
        """Return the next frame as it was decoded, and decode the one after it."""
        if self._closed:
            raise ValueError("The reader is closed")
        frame = self._next
        if frame is None:
            return None
        if frame.is_corrupt:
            raise BitstreamError("the video is damaged")
        if _kind(frame) != self._kind:
            raise UnsupportedError("size or format of the frames change in the middle of the video")
        with typed_errors("video"):
            self._next = next(self._decoded, None)
        self._clock.see(frame.pts)
        return frame

    def _clip(self, frames: list[Planes], times: list[Fraction | None]) -> Clip:
        y, u, v = (np.stack(planes) for planes in zip(*frames, strict=True))
        # Once the clock is off the grid it stays so; frames of a batch before that lie on it.
        known = tuple(self._clock.grid(n, len(times)) if time is None else time for n, time in enumerate(times))
        return Clip(
            y,
            u,
            v,
            self.rate,
            self.matrix,
            self.full_range,
            None if times[-1] is None else known,
            self.primaries,
            self.transfer,
            self.aspect,
        )


class _Clock:
    """Tells when frames are shown, in seconds since the first.

    Attributes:
        time: When the last frame seen is shown; None as long as frame n is shown at n / rate, to a tick.
    """

    def __init__(self, rate: Fraction, tick: Fraction) -> None:
        self._rate, self._tick = rate, tick
        self._first: int | None = None
        self._seen = 0
        self._last = Fraction(-1)
        self._regular = True
        self.time: Fraction | None = None

    def see(self, stamp: int | None) -> None:
        """Take the time stamp of the next frame; None, or one that goes back, is put at the usual distance."""
        if self._first is None:
            self._first = stamp or 0
        usual = self._seen / self._rate
        time = usual if stamp is None else (stamp - self._first) * self._tick
        self._regular = self._regular and abs(time - usual) <= self._tick
        self.time = None if self._regular else (time if time > self._last else self._last + 1 / self._rate)
        self._last = usual if self.time is None else self.time
        self._seen += 1

    def grid(self, place: int, count: int) -> Fraction:
        """Return when frame `place` of the last `count` would be shown at the mean rate."""
        return (self._seen - count + place) / self._rate


def read_clip(
    source: Path | BinaryIO,
    start: int = 0,
    stop: int | None = None,
    *,
    max_bytes: int | None = MAX_BYTES,
    form: str | None = None,
) -> Clip:
    """Read a video file, or the frames `start` to `stop` - 1 of it.

    Args:
        source: As for :class:`ClipReader`.
        start: First frame, counted from 0 in the order of display. What comes before is decoded too.
        stop: Frame after the last; None for all. A video that ends before it gives what it has.
        max_bytes: Most memory that the planes take; None for no bound.
        form: As for :class:`ClipReader`.

    Raises:
        ValueError: If not 0 <= `start` < `stop`.
        UnsupportedError: If the video has no frame `start`.
        LimitExceededError: If the planes take more than `max_bytes`.
        CodecError: What :class:`ClipReader` raises, and OSError.
    """
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"Arguments `start` and `stop` must be 0 <= start < stop, but got {start} and {stop}")
    frames: list[Planes] = []
    times: list[Fraction | None] = []
    with ClipReader(source, form) as reader:
        found = reader.skip(start)
        size = 0
        for planes in islice(reader.planes(), None if stop is None else stop - start):
            size += sum(plane.nbytes for plane in planes)
            if max_bytes is not None and size > max_bytes:
                raise LimitExceededError(f"the video takes more memory than max_bytes={max_bytes}; read a part of it")
            frames.append(planes)
            times.append(reader._clock.time)
        if not frames:
            raise UnsupportedError(f"the video has {found} frames, and none at {start}")
        return reader._clip(frames, times)


def frame_to_planes(frame: VideoFrame) -> Planes:
    """Copy the planes of a frame in ``yuv420p`` or ``yuvj420p``."""
    y, u, v = _copies(frame)
    return y, u, v


def _kind(frame: VideoFrame) -> tuple[str, int, int]:
    return frame.format.name, frame.width, frame.height


def _is_rgb(frame: VideoFrame) -> bool:
    return frame.format.name.startswith(_RGB)


def _is_grey(frame: VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "mono"))


def _colour(frame: VideoFrame) -> tuple[str, bool]:
    """Return matrix and range of a frame."""
    if _is_rgb(frame):
        return "bt709", False
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    full = full or (_is_grey(frame) and frame.color_range != LIMITED)
    code = int(frame.colorspace)
    if code in _UNSAID:
        return ("bt709" if frame.height > STANDARD_HEIGHT else "bt601"), full
    if code not in _MATRICES:
        raise UnsupportedError(f"the colour matrix {code} of H.273 is not read; convert the video to BT.709 first")
    return _MATRICES[code], full


def _planes(frame: VideoFrame, matrix: str, *, full_range: bool) -> Planes:
    """Return the planes of a frame, converted to 8-bit 4:2:0 where it is something else."""
    if frame.format.name in ("yuv420p", "yuvj420p"):
        return frame_to_planes(frame)
    with typed_errors("video"):
        if _is_grey(frame):
            # libswscale takes all grey for full range, whatever it is said to be.
            (y,) = _copies(frame.reformat(format="gray", interpolation=_SCALER))
            neutral = np.full(((y.shape[0] + 1) // 2, (y.shape[1] + 1) // 2), 128, np.uint8)
            return y, neutral, neutral.copy()
        there = FULL if full_range else LIMITED
        converted = frame.reformat(
            format="yuv420p",
            src_colorspace=COLORSPACES[matrix],
            dst_colorspace=COLORSPACES[matrix],
            interpolation=_SCALER,
            src_color_range=FULL if _is_rgb(frame) else there,
            dst_color_range=there,
        )
        return frame_to_planes(converted)


def _copies(frame: VideoFrame) -> list[NDArray[np.uint8]]:
    """Return copies of the planes, one byte a sample."""
    return [
        np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()
        for plane in frame.planes
    ]


def _turned(plane: NDArray[np.uint8], turns: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(plane, turns)) if turns else plane
