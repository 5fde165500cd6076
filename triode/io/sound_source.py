"""What reads the samples of a sound file: libsndfile for most formats, FFmpeg for what it does not know or refuses.

Without libsndfile WAV is read in plain Python.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError, CodecError, TruncatedError, UnsupportedError
from triode.io.ogg import counts_oddly
from triode.io.pyav import import_av, open_input, typed_errors
from triode.io.tags import to_tags
from triode.io.wav import WavSource, is_wav
from triode.media import Tags

if TYPE_CHECKING:
    from av import AudioFrame

__all__ = ["FfmpegSource", "SoundSource", "import_soundfile", "open_source"]

# Programs that write to a pipe put something near 2^31 or 2^32 where the size should be.
_UNKNOWN_SIZE: Final = 0x7FFF_0000
_SLOPPY_SIZE: Final = 9
_UNKNOWN_FRAMES: Final = 1 << 62
# libsndfile's numbers for "this is not one of my formats" rather than "this is damaged".
_NOT_MINE: Final = frozenset({1, 18})


class SoundSource(Protocol):
    """What reads one kind of file.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.
        frames: Samples per channel that the file declares; None where it does not say.
        format: What the file is, such as ``WAV PCM_16``.
        tags: What it says of the recording.
    """

    rate: int
    channels: int
    frames: int | None
    format: str
    tags: Tags

    def read(self, count: int) -> NDArray[np.float32]:
        """Return (C, T) with T at most `count`, and less only at the end."""

    def close(self) -> None:
        """Release the file's reader."""


def import_soundfile() -> Any:
    """Return the module, None where it or its library is missing."""
    try:
        import soundfile
    except (ImportError, OSError):
        return None
    return soundfile


def open_source(file: BinaryIO) -> SoundSource:
    """Find what reads a file: libsndfile, or else FFmpeg; plain Python for WAV without libsndfile.

    Args:
        file: A binary file that can seek; it stays the caller's to close.

    Raises:
        UnsupportedError: Not a sound file that is read, or the package that reads it is missing.
        TruncatedError: The file ends too early.
        BitstreamError: It is damaged otherwise.
    """
    _check_size(file)
    file.seek(0)
    if not file.read(1):
        raise TruncatedError("the sound file is empty")
    module = import_soundfile()
    failure: CodecError = UnsupportedError("sound files but WAV need soundfile: pip install 'triode[audio]'")
    file.seek(0)
    if module is None and is_wav(file.read(12)):
        try:
            return WavSource(file)
        except UnsupportedError as error:
            failure = error
    if module is not None and not (counts_oddly(file) and _has_ffmpeg()):
        try:
            return _LibsndfileSource(module, cast(BinaryIO, _Nameless(file)))
        except module.LibsndfileError as error:
            if error.code not in _NOT_MINE:
                text = str(error.error_string).strip(" .") or "its header cannot be read"
                raise BitstreamError(f"the sound file is damaged or cut short: {text}") from error
            file.seek(0)
            failure = UnsupportedError(f"not sound of a known format: it begins with {file.read(8).hex(' ')}")
    try:
        import_av("video")
    except UnsupportedError as error:
        raise UnsupportedError(f"{failure}; other formats: {error}") from error
    try:
        return FfmpegSource(file)
    except UnsupportedError as error:
        raise failure from error


def _has_ffmpeg() -> bool:
    try:
        import_av("video")
    except UnsupportedError:
        return False
    return True


class _LibsndfileSource:
    """Reads through libsndfile."""

    def __init__(self, module: Any, file: BinaryIO) -> None:
        file.seek(0)
        self._module = module
        self._file = module.SoundFile(file)
        self.rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        self.frames: int | None = int(self._file.frames)
        # The length of MP3 without a table is an estimate.
        if self.frames >= _UNKNOWN_FRAMES or self._file.format == "MP3":
            self.frames = None
        self.format = f"{self._file.format} {self._file.subtype}"
        self.tags = to_tags(self._file.copy_metadata())
        if self._file.format == "OGG" and not self.frames:
            self._file.close()
            raise TruncatedError("the Ogg file is cut short: there are no samples in it")

    def read(self, count: int) -> NDArray[np.float32]:
        """Return the next samples."""
        try:
            block = self._file.read(count, dtype="float32", always_2d=True)
        except (self._module.SoundFileError, RuntimeError) as error:
            raise BitstreamError(f"the {self._file.format} sound is damaged or cut short: {error}") from error
        return np.ascontiguousarray(block.T)

    def close(self) -> None:
        """Close libsndfile's handle."""
        self._file.close()


class FfmpegSource:
    """Reads the first sound track of a file through FFmpeg; a :class:`SoundSource`.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.
        frames: None, as files say no exact number.
        start: Time of the first sample, in seconds of the file's clock.
        format: What the file is.
        tags: What it says of the recording.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._container = open_input(file, "sound", "video")
        try:
            if not self._container.streams.audio:
                raise UnsupportedError("there is no sound in this file")
            stream = self._container.streams.audio[0]
            if stream.codec_context is None:
                raise UnsupportedError("this FFmpeg does not decode the sound in this file")
            self._decoded = self._container.decode(stream)
            # The decoder knows better than the header: HE-AAC has twice the rate that its header declares.
            with typed_errors("sound"):
                first = next(self._decoded, None)
            self.rate = first.sample_rate if first else int(stream.codec_context.sample_rate)
            self.channels = first.layout.nb_channels if first else int(stream.codec_context.channels)
            self.frames: int | None = None
            stamp = first.pts if first and first.pts is not None else 0
            self.start = Fraction(stamp * (first.time_base or 0)) if first and stamp else Fraction(0)
            self.format = f"{self._container.format.name} {stream.codec_context.name}"
            self.tags = to_tags({**stream.metadata, **self._container.metadata})
            if self.rate < 1 or self.channels < 1:
                raise UnsupportedError(f"the sound track ({self.format}) declares neither rate nor channels")
            self._rest = np.empty((self.channels, 0), np.float32) if first is None else self._samples(first)
        except BaseException:
            self._container.close()
            raise

    def read(self, count: int) -> NDArray[np.float32]:
        """Return the next samples."""
        blocks, have = [self._rest], self._rest.shape[1]
        with typed_errors("sound"):
            while have < count and (frame := next(self._decoded, None)) is not None:
                blocks.append(self._samples(frame))
                have += blocks[-1].shape[1]
        whole = np.concatenate(blocks, axis=1)
        self._rest = whole[:, count:]
        return whole[:, :count]

    def _samples(self, frame: AudioFrame) -> NDArray[np.float32]:
        if frame.is_corrupt:
            raise BitstreamError("the sound is damaged")
        channels = frame.layout.nb_channels
        if channels != self.channels or frame.sample_rate != self.rate:
            raise UnsupportedError("rate or channels change in the middle of the sound")
        return _planar(frame.to_ndarray(), channels, is_planar=frame.format.is_planar)

    def close(self) -> None:
        """Close FFmpeg's handle."""
        self._container.close()


class _Nameless:
    """A file without its name, by which soundfile would guess a format, and which takes any seek."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek; where a damaged file sends the reader before its beginning, stay."""
        try:
            return self._file.seek(offset, whence)
        except ValueError:
            return self._file.tell()

    def write(self, data: bytes) -> int:
        """Refuse: soundfile asks for this method of all files."""
        raise io.UnsupportedOperation("this file is only read")


def _check_size(file: BinaryIO) -> None:
    """Refuse a WAV or AIFF file that is shorter than it says, of which libsndfile reads what is there."""
    file.seek(0)
    start = file.read(8)
    size = file.seek(0, io.SEEK_END)
    if len(start) < 8 or start[:4] not in (b"RIFF", b"FORM"):
        return
    declared = int.from_bytes(start[4:], "little" if start[:4] == b"RIFF" else "big")
    if declared < _UNKNOWN_SIZE and declared + 8 > size + _SLOPPY_SIZE:
        raise TruncatedError(f"the sound file is cut short: {size} of {declared + 8} bytes are there")


def _planar(block: NDArray[Any], channels: int, *, is_planar: bool) -> NDArray[np.float32]:
    """Return (C, T) float32 of a block as FFmpeg gives it: integers scaled by their range, packed or planar."""
    block = block if is_planar else block.reshape(-1, channels).T
    if block.dtype == np.uint8:
        return (block.astype(np.float32) - 128) / 128
    if block.dtype.kind == "i":
        return (block / -float(np.iinfo(block.dtype).min)).astype(np.float32)
    return block.astype(np.float32)
