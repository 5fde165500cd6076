"""Sound files: read and written whole or block by block, so that an hour of sound needs no hour of memory.

WAV is written here in plain Python; FLAC is written, and most formats are read, by libsndfile (soundfile); what it does
not know (AAC, WMA, sound of videos) is read by FFmpeg (PyAV). Integer samples and float ones meet as in libsndfile's
reading: -1 is the least integer, so that 16 and 24 bits come back from a file as they went in.
"""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError, LimitExceededError, TruncatedError, UnsupportedError
from triode.io.files import atomic_write
from triode.io.sound_source import import_soundfile, open_source
from triode.io.tags import KEYS, info_chunk
from triode.media import Sound, Tags

__all__ = [
    "MAX_SAMPLES",
    "READABLE",
    "SUBTYPES",
    "SoundReader",
    "SoundWriter",
    "find_format",
    "read_sound",
    "write_sound",
]

MAX_SAMPLES: Final = 1 << 29
"""Most samples, all channels together, that `read_sound` reads unless told otherwise: 2 GiB of memory."""

READABLE: Final = frozenset(
    {".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mp2"}
    | {
        ".mp3",
        ".oga",
        ".ogg",
        ".opus",
        ".rf64",
        ".snd",
        ".spx",
        ".tta",
        ".w64",
        ".wav",
        ".wave",
        ".weba",
        ".wma",
        ".wv",
    }
)
"""Suffixes by which sound files are found in a folder; a file that is named itself may have any."""

SUBTYPES: Final = ("pcm16", "pcm24", "float")
"""How samples are stored: 16-bit or 24-bit integers, or 32-bit floats, which FLAC does not hold."""

_BITS: Final = {"pcm16": 16, "pcm24": 24, "float": 32}
_FORMATS: Final = {"wav": "wav", "wave": "wav", "flac": "flac"}
_BLOCK: Final = 1 << 16
_SPOOL: Final = 1 << 26
_WAV_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH")
_RIFF_MOST: Final = 0xFFFF_FFFF - _WAV_HEADER.size - 8 - 1


class SoundReader:
    """Reads a sound file block by block; use it in a `with` statement, or close it.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.
        frames: Samples per channel that the file declares; None where it does not say.
        format: What the file is, such as ``WAV PCM_16``.
        tags: What it says of the recording.

    Args:
        source: A path, or a binary file, which is read from its beginning; one that cannot seek is copied to a
            temporary file. A binary file stays the caller's to close.

    Raises:
        UnsupportedError: Not a sound file that is read, or the package that reads it is missing.
        TruncatedError: The file ends too early.
        BitstreamError: It is damaged otherwise.
        OSError: It cannot be opened or read.
    """

    def __init__(self, source: Path | BinaryIO) -> None:
        with ExitStack() as stack:
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            if not file.seekable():
                spool = stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOL))
                shutil.copyfileobj(file, spool)
                file = cast(BinaryIO, spool)
            self._source = open_source(file)
            stack.callback(self._source.close)
            self._stack = stack.pop_all()
        self.rate, self.channels = self._source.rate, self._source.channels
        self.frames, self.format, self.tags = self._source.frames, self._source.format, self._source.tags
        self._read = 0
        self._closed = False

    def read(self, count: int) -> NDArray[np.float32]:
        """Read on.

        Args:
            count: Most samples per channel, at least 1.

        Returns:
            (C, T) float32, nominally in [-1, 1]; T is less than `count` only at the end, and 0 after it.

        Raises:
            ValueError: If `count` is not positive, or the reader is closed.
            TruncatedError: If the file ends before the samples that it declares.
            BitstreamError: If it is damaged, or holds infinite samples or such as are no number.
        """
        if count < 1:
            raise ValueError(f"Argument `count` must be positive, but got {count}")
        if self._closed:
            raise ValueError("The reader is closed")
        block = self._source.read(count)
        self._read += block.shape[1]
        if block.shape[1] < count and self.frames is not None and self._read < self.frames:
            raise TruncatedError(f"the sound file is cut short: {self._read} of {self.frames} samples are there")
        if not np.isfinite(block).all():
            raise BitstreamError("the sound file holds samples that are infinite or no number")
        return block

    def blocks(self, count: int) -> Iterator[NDArray[np.float32]]:
        """Yield the rest in blocks of `count` samples per channel, the last one shorter; see :meth:`read`."""
        while (block := self.read(count)).shape[1]:
            yield block

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


class SoundWriter:
    """Writes a WAV or FLAC file block by block; to be used in a `with` statement.

    A file that is named appears when the block ends without an exception, and replaces what was there.

    Args:
        target: A path, or a binary file, which need not seek; then WAV's header says that the length is not known.
        rate: Samples per second.
        channels: Number of channels.
        subtype: One of :data:`SUBTYPES`. Samples are rounded to it; those outside its range are clipped.
        fmt: ``wav`` or ``flac``; None to go by the suffix of the path, WAV where there is none.
        tags: What the file shall say of the recording; WAV has no place for a licence.
        frames: Samples per channel that will be written, where that is known: a file that cannot hold them is refused
            at once, and a WAV header says it in a pipe too.

    Raises:
        ValueError: If an argument is out of its range.
        UnsupportedError: If the format is not written, or cannot hold the samples, or soundfile is missing for FLAC.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        rate: int,
        channels: int,
        subtype: str = "pcm16",
        fmt: str | None = None,
        tags: Tags = (),
        frames: int | None = None,
    ) -> None:
        if subtype not in SUBTYPES:
            raise ValueError(f"Argument `subtype` must be one of {', '.join(SUBTYPES)}, but got {subtype!r}")
        if not 1 <= rate < 1 << 32 or not 1 <= channels < 1 << 16:
            raise ValueError(f"Arguments `rate` and `channels` must be positive, but got {rate} and {channels}")
        kind = find_format(fmt or (target.suffix if isinstance(target, Path) else ""))
        if kind == "flac" and (subtype == "float" or channels > 8 or rate > 655_350):
            raise UnsupportedError(
                f"FLAC holds integers, 8 channels, 655350 Hz at most, not {subtype}, {channels}, {rate}; write .wav"
            )
        self._target, self._kind, self._subtype = target, kind, subtype
        self._rate, self._channels = rate, channels
        self._tags, self._info = tags, info_chunk(tags)
        self._bytes = 0
        self._expected = None if frames is None else frames * channels * _BITS[subtype] // 8
        self._check_size(self._expected or 0)
        self._sink: Any = None

    def __enter__(self) -> Self:
        """Open the file."""
        with ExitStack() as stack:
            self._file = self._open(stack)
            if self._kind == "flac":
                sound = import_soundfile()
                if sound is None:
                    raise UnsupportedError("FLAC needs soundfile, which is not installed: pip install 'triode[audio]'")
                form = {"subtype": f"PCM_{_BITS[self._subtype]}", "format": "FLAC"}
                self._sink = stack.enter_context(sound.SoundFile(self._file, "w", self._rate, self._channels, **form))
                for key, value in self._tags:
                    if key in KEYS:
                        setattr(self._sink, key.lower(), value)
            else:
                self._file.write(self._wav_header(0xFFFF_FFFF if self._expected is None else self._expected))
                self._sink = self._file
            self._stack = stack.pop_all()
        return self

    def write(self, samples: NDArray[np.float32]) -> None:
        """Write on.

        Args:
            samples: (C, T) floats, nominally in [-1, 1]; T may be 0.

        Raises:
            ValueError: If the shape does not fit, a sample is not finite, or the writer is not open.
            UnsupportedError: If a WAV file would pass 4 GiB.
            OSError: If the file cannot be written.
        """
        if self._sink is None:
            raise ValueError("The writer is not open; use it in a `with` statement")
        if samples.ndim != 2 or samples.shape[0] != self._channels:
            raise ValueError(f"Argument `samples` must be ({self._channels}, T), but got {samples.shape}")
        if not np.isfinite(samples).all():
            raise ValueError("Argument `samples` must be finite")
        self._bytes += samples.size * _BITS[self._subtype] // 8
        self._check_size(self._bytes)
        for start in range(0, samples.shape[1], _BLOCK):
            block = _stored(samples[:, start : start + _BLOCK].T, self._subtype)
            if self._kind == "flac":
                # libsndfile takes the upper bits of an integer.
                self._sink.write(block if self._subtype == "pcm16" else block << 8)
            else:
                self._sink.write(_pack(block, self._subtype))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the file, or remove it after an exception."""
        sink, self._sink = self._sink, None
        with self._stack as stack:
            if error is not None:
                stack.pop_all().__exit__(kind, error, trace)
            elif self._kind == "wav":
                sink.write(b"\0" * (self._bytes % 2))
                if self._seekable:
                    self._file.seek(self._start)
                    self._file.write(self._wav_header(self._bytes))
                    self._file.seek(0, io.SEEK_END)
            elif not self._bytes:
                raise UnsupportedError("FLAC does not hold a sound without samples; write .wav")

    def _check_size(self, size: int) -> None:
        if self._kind == "wav" and size + len(self._info) > _RIFF_MOST:
            raise UnsupportedError("a WAV file holds 4 GiB at most; write .flac")

    def _open(self, stack: ExitStack) -> BinaryIO:
        """Open what is written to; FLAC's writer must seek, so that a pipe gets its file at the end."""
        file = self._target
        if isinstance(file, Path):
            file = stack.enter_context(atomic_write(file, overwrite=True))
        self._seekable = file.seekable()
        self._start = file.tell() if self._seekable else 0
        if self._kind == "flac" and (not self._seekable or self._start):
            spool = cast(BinaryIO, stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOL)))  # noqa: SIM115
            stack.push(_copy_on_success(spool, file))
            return spool
        return file

    def _wav_header(self, size: int) -> bytes:
        """Return what stands in a WAV file before samples that take `size` bytes."""
        bits, width = _BITS[self._subtype], _BITS[self._subtype] // 8 * self._channels
        riff = min(0xFFFF_FFFF, size + size % 2 + _WAV_HEADER.size + len(self._info))
        tag = 3 if self._subtype == "float" else 1
        header = _WAV_HEADER.pack(
            *(b"RIFF", riff, b"WAVE", b"fmt ", 16, tag, self._channels, self._rate),
            *((self._rate * width) & 0xFFFF_FFFF, width & 0xFFFF, bits),
        )
        return header + self._info + b"data" + size.to_bytes(4, "little")


def find_format(name: str) -> str:
    """Return the format of a name or suffix, ``wav`` or ``flac``; WAV for an empty one.

    Raises:
        UnsupportedError: If sound is not written in it.
    """
    kind = _FORMATS.get(name.lower().lstrip(".") or "wav")
    if kind is None:
        raise UnsupportedError(f"sound is not written as {name!r}; known are .wav .flac")
    return kind


def read_sound(source: Path | BinaryIO, *, max_samples: int | None = MAX_SAMPLES) -> Sound:
    """Read a whole sound file.

    Args:
        source: As for :class:`SoundReader`.
        max_samples: Most samples, all channels together; None for no bound. Memory follows what is in the file, not
            what it declares.

    Raises:
        LimitExceededError: If there are more samples.
        CodecError: What :class:`SoundReader` raises, and OSError.
    """
    with SoundReader(source) as reader:
        if max_samples is not None and (reader.frames or 0) * reader.channels > max_samples:
            raise _too_long((reader.frames or 0) * reader.channels, max_samples)
        blocks = [np.empty((reader.channels, 0), np.float32)]
        total = 0
        for block in reader.blocks(_BLOCK):
            total += block.size
            if max_samples is not None and total > max_samples:
                raise _too_long(total, max_samples)
            blocks.append(block)
        return Sound(np.concatenate(blocks, axis=1), reader.rate, reader.tags)


def write_sound(target: Path | BinaryIO, sound: Sound, subtype: str = "pcm16", fmt: str | None = None) -> None:
    """Write a whole sound as WAV or FLAC; see :class:`SoundWriter`.

    Raises:
        ValueError: If `subtype` is not one of :data:`SUBTYPES`, or a sample is not finite.
        UnsupportedError: If the format is not written or cannot hold the sound.
        OSError: If the file cannot be written.
    """
    with SoundWriter(target, sound.rate, sound.channels, subtype, fmt, sound.tags) as writer:
        writer.write(sound.samples)


def _copy_on_success(source: BinaryIO, target: BinaryIO) -> Callable[..., None]:
    """Return an exit callback that copies one file to another unless there was an exception."""

    def copy(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            source.seek(0)
            shutil.copyfileobj(source, target)

    return copy


def _too_long(found: int, bound: int) -> LimitExceededError:
    return LimitExceededError(f"the sound has {found} samples or more, above the limit max_samples={bound}")


def _stored(samples: NDArray[np.float32], subtype: str) -> NDArray[Any]:
    """Return samples as integers of the width that they are stored in, or as floats."""
    if subtype == "float":
        return samples.astype("<f4")
    most = 1 << (_BITS[subtype] - 1)
    rounded: NDArray[np.float64] = np.rint(samples.astype(np.float64) * most).clip(-most, most - 1)
    return rounded.astype("<i2" if subtype == "pcm16" else "<i4")


def _pack(block: NDArray[Any], subtype: str) -> bytes:
    if subtype == "pcm24":
        return np.ascontiguousarray(block).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return np.ascontiguousarray(block).tobytes()
