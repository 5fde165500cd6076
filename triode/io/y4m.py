"""YUV4MPEG2 (``.y4m``), read in plain Python frame by frame, so that a pipe is coded as it flows; any other video."""

from __future__ import annotations

import io
import re
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

import numpy as np

from triode.errors import BitstreamError, LimitExceededError, TruncatedError, UnsupportedError
from triode.io.files import JoinedFile
from triode.io.video import MAX_PIXELS, STANDARD_HEIGHT, ClipReader
from triode.media import Clip

__all__ = ["SIGNATURE", "Y4mReader", "open_clip"]

SIGNATURE: Final = b"YUV4MPEG2"
"""What such a file begins with."""

_FRAME: Final = b"FRAME"
_LONGEST_LINE: Final = 1024
_CHROMA: Final = re.compile(r"420(jpeg|mpeg2|paldv)?")
_RATIO: Final = re.compile(r"(\d{1,9}):(\d{1,9})")


class Y4mReader:
    """Reads 8-bit 4:2:0 frames of a y4m file or pipe; use it in a `with` statement, or close it.

    The format has no colour matrix: it is BT.709 above 576 lines, or else BT.601, as :class:`ClipReader` takes it,
    which reads the same of it. Interlaced frames stay woven.

    Attributes:
        width: Pixels.
        height: Pixels.
        rate: Frames per second, 25 where the file does not say.
        matrix: ``bt709`` or ``bt601``.
        full_range: Whether luma runs from 0 to 255.
        frames: Number of frames by the size of the file; None of a pipe.
        tick: Seconds of a frame.
        primaries: 2: they are not known.
        transfer: 2, likewise.
        aspect: Width over height of the shape of a pixel.

    Args:
        source: A path, or a binary file, which is read from where it stands and stays the caller's to close.

    Raises:
        UnsupportedError: Samples that are not 8-bit 4:2:0.
        TruncatedError: The file ends too early; reading on may raise it too.
        BitstreamError: It is damaged otherwise, likewise.
        LimitExceededError: Frames above :data:`triode.io.video.MAX_PIXELS`.
        OSError: It cannot be opened or read.
    """

    def __init__(self, source: Path | BinaryIO) -> None:
        with ExitStack() as stack:
            self._file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            fields = _fields(_line(self._file, b""))
            _check_chroma(fields.get("C", "420"))
            self.width, self.height = _side(fields, "W"), _side(fields, "H")
            if self.width * self.height > MAX_PIXELS:
                area = self.width * self.height
                raise LimitExceededError(f"frames have {area} pixels, above the limit of {MAX_PIXELS}")
            self.rate = _ratio(fields.get("F", "")) or Fraction(25)
            self.aspect = _ratio(fields.get("A", "")) or Fraction(1)
            self.matrix = "bt709" if self.height > STANDARD_HEIGHT else "bt601"
            self.full_range = "COLORRANGE=FULL" in fields.get("X", "").split()
            self.tick = 1 / self.rate
            self.primaries = self.transfer = 2
            self._chroma = ((self.height + 1) // 2, (self.width + 1) // 2)
            self._bytes = self.width * self.height + 2 * self._chroma[0] * self._chroma[1]
            self.frames = self._count()
            self._done = 0
            self._stack = stack.pop_all()

    def read(self, count: int) -> Clip | None:
        """Read on.

        Args:
            count: Most frames, at least 1.

        Returns:
            A clip of at most `count` frames, fewer only at the end; None after it.

        Raises:
            ValueError: If `count` is not positive.
            CodecError: As the constructor.
        """
        if count < 1:
            raise ValueError(f"Argument `count` must be positive, but got {count}")
        frames: list[bytes] = []
        while len(frames) < count and (frame := self._frame()) is not None:
            frames.append(frame)
        if not frames:
            return None
        samples = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), self._bytes)
        ends = np.cumsum([self.width * self.height, self._chroma[0] * self._chroma[1]])
        y, u, v = np.split(samples, ends, axis=1)
        return Clip(
            y.reshape(-1, self.height, self.width).copy(),
            u.reshape(-1, *self._chroma).copy(),
            v.reshape(-1, *self._chroma).copy(),
            self.rate,
            self.matrix,
            self.full_range,
            aspect=self.aspect,
        )

    def close(self) -> None:
        """Close the file, if this reader opened it."""
        self._stack.close()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _frame(self) -> bytes | None:
        """Return the samples of the next frame; None after the last."""
        start = _exactly(self._file, len(_FRAME) + 1)
        if not start:
            return None
        if not start.startswith(_FRAME) or start[-1:] not in {b"\n", b" "}:
            if (_FRAME + b"\n").startswith(start):
                raise TruncatedError(f"the video is cut short after {self._done} frames")
            raise BitstreamError(f"the video is damaged: frame {self._done} begins with {start.hex(' ')}")
        if start[-1:] == b" ":
            _line(self._file, start)
        samples = _exactly(self._file, self._bytes)
        if len(samples) < self._bytes:
            raise TruncatedError(f"the video is cut short in frame {self._done}")
        self._done += 1
        return samples

    def _count(self) -> int | None:
        if not self._file.seekable():
            return None
        here = self._file.tell()
        left = self._file.seek(0, 2) - here
        self._file.seek(here)
        return left // (len(_FRAME) + 1 + self._bytes) or None


def open_clip(source: Path | BinaryIO) -> ClipReader | Y4mReader:
    """Open a video: y4m as it comes, anything else through FFmpeg.

    Args:
        source: A path, or a binary file, which stays the caller's to close. One that can seek is read from its
            beginning; of one that cannot, only 8-bit 4:2:0 y4m is read while it flows, all else copied to a temporary
            file first.

    Raises:
        CodecError: As :class:`ClipReader` and :class:`Y4mReader`.
        OSError: It cannot be opened or read.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            flat = _is_read(_exactly(file, _LONGEST_LINE))
        return Y4mReader(source) if flat else ClipReader(source)
    if source.seekable():
        source.seek(0)
        flat = _is_read(_exactly(source, _LONGEST_LINE))
        source.seek(0)
        return Y4mReader(source) if flat else ClipReader(source)
    start = _exactly(source, len(SIGNATURE))
    while start.startswith(SIGNATURE) and start[-1:] != b"\n" and len(start) < _LONGEST_LINE:
        more = source.read(1)
        if not more:
            break
        start += more
    joined = cast(BinaryIO, io.BufferedReader(JoinedFile(start, source)))
    return Y4mReader(joined) if _is_read(start) else ClipReader(joined)


def _is_read(start: bytes) -> bool:
    """Say whether a file that begins so is y4m of samples that are read here; damage in its header counts as such."""
    if not start.startswith(SIGNATURE):
        return False
    try:
        _check_chroma(_fields(start.partition(b"\n")[0]).get("C", "420"))
    except UnsupportedError:
        return False
    return True


def _check_chroma(name: str) -> None:
    if not _CHROMA.fullmatch(name):
        raise UnsupportedError(f"y4m of the samples C{name} is not read here; C420 is")


def _fields(line: bytes) -> dict[str, str]:
    """Return the fields of a header by their letters, comments (X) joined by blanks.

    Raises:
        BitstreamError: It is no such header.
    """
    words = line.decode("latin-1").split()
    if not words or words[0].encode("latin-1") != SIGNATURE:
        raise BitstreamError(f"not y4m: it begins with {line[:10].hex(' ')}")
    found: dict[str, str] = {}
    for word in words[1:]:
        key, value = word[0], word[1:]
        found[key] = f"{found[key]} {value}" if key in found else value
    return found


def _line(file: BinaryIO, start: bytes) -> bytes:
    """Return the rest of a line, without its end."""
    line = bytearray()
    while (byte := file.read(1)) != b"\n":
        if not byte:
            raise TruncatedError("the video is cut short in a header")
        line += byte
        if len(start) + len(line) > _LONGEST_LINE:
            raise BitstreamError(f"a header of y4m is longer than {_LONGEST_LINE} bytes")
    return bytes(line)


def _exactly(file: BinaryIO, count: int) -> bytes:
    """Return so many bytes, fewer only at the end."""
    parts = []
    while count and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _side(fields: dict[str, str], key: str) -> int:
    text = fields.get(key, "")
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)):
        raise BitstreamError(f"a header of y4m says {key}{text}, which is no size")
    return int(text)


def _ratio(text: str) -> Fraction | None:
    """Return a ratio, None where it is 0, not known, or none."""
    match = _RATIO.fullmatch(text)
    return Fraction(int(match[1]), int(match[2])) or None if match and int(match[2]) else None
