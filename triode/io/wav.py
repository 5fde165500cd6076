"""WAV files read in plain Python, for where soundfile is not installed: what the core packages can read of sound."""

from __future__ import annotations

from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError, TruncatedError, UnsupportedError
from triode.io.tags import read_info_chunk
from triode.media import Tags

__all__ = ["WavSource", "is_wav"]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_KINDS: Final = {(_PCM, 8): "PCM_U8", (_PCM, 16): "PCM_16", (_PCM, 24): "PCM_24", (_PCM, 32): "PCM_32"} | {
    (_FLOAT, 32): "FLOAT",
    (_FLOAT, 64): "DOUBLE",
}
_UNKNOWN_SIZE: Final = 0x7FFF_0000
_FMT_MOST: Final = 1 << 10
_INFO_MOST: Final = 1 << 16


def is_wav(start: bytes) -> bool:
    """Say whether a file that begins with these 12 bytes is a WAV file."""
    return start[:4] == b"RIFF" and start[8:12] == b"WAVE"


class WavSource:
    """Reads a WAV file of integers of 8 to 32 bits or floats; see :class:`triode.io.sound_source.SoundSource`.

    Args:
        file: A binary file that can seek.

    Raises:
        UnsupportedError: If the samples are coded in another way.
        TruncatedError: If the file ends before its samples.
        BitstreamError: If it is damaged otherwise.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self.tags: Tags = ()
        self._kind = (0, 0)
        self.channels = self.rate = 0
        self._begin, self._bytes = 0, 0
        at = 12
        while at + 8 <= self._size:
            at = self._chunk(at)
        if not self._begin or not self.channels:
            raise TruncatedError("the WAV file is cut short: there are no samples in it")
        self.format = f"WAV {_KINDS[self._kind]}"
        self._width = self.channels * self._kind[1] // 8
        self._left = self._bytes // self._width
        self.frames: int | None = self._left
        file.seek(self._begin)

    def read(self, count: int) -> NDArray[np.float32]:
        """Return the next samples."""
        count = min(count, self._left)
        data = self._file.read(count * self._width)
        self._left -= count
        if len(data) < count * self._width:
            raise TruncatedError("the WAV file was cut while it was read")
        return np.ascontiguousarray(self._floats(data).reshape(-1, self.channels).T)

    def close(self) -> None:
        """Do nothing: the file is the caller's."""

    def _chunk(self, at: int) -> int:
        """Read the chunk at a position; return where the next one begins."""
        self._file.seek(at)
        head = self._file.read(8)
        name, size = head[:4], int.from_bytes(head[4:], "little")
        begin = at + 8
        if name == b"fmt " and not self.channels:
            self._format(self._file.read(min(size, _FMT_MOST)))
        elif name == b"data" and not self._begin:
            if size >= _UNKNOWN_SIZE and begin + size > self._size:  # written to a pipe
                size = self._size - begin
            if begin + size > self._size:
                raise TruncatedError(f"the WAV file is cut short: {self._size - begin} of {size} bytes are there")
            self._begin, self._bytes = begin, size
        elif name == b"LIST" and size <= _INFO_MOST:
            self.tags = self.tags or read_info_chunk(self._file.read(size))
        return begin + size + size % 2

    def _format(self, fmt: bytes) -> None:
        """Read the `fmt ` chunk."""
        if len(fmt) < 16:
            raise TruncatedError(f"the WAV file is cut short or damaged: its fmt chunk has {len(fmt)} bytes")
        tag, channels = int.from_bytes(fmt[:2], "little"), int.from_bytes(fmt[2:4], "little")
        rate, bits = int.from_bytes(fmt[4:8], "little"), int.from_bytes(fmt[14:16], "little")
        if tag == _EXTENSIBLE and len(fmt) >= 26:
            tag = int.from_bytes(fmt[24:26], "little")
        if (tag, bits) not in _KINDS:
            raise UnsupportedError(f"WAV of coding {tag} with {bits} bits needs soundfile: pip install 'triode[audio]'")
        if channels < 1 or rate < 1:
            raise BitstreamError(f"the WAV file is damaged: {channels} channels, {rate} samples per second")
        self._kind, self.channels, self.rate = (tag, bits), channels, rate

    def _floats(self, data: bytes) -> NDArray[np.float32]:
        tag, bits = self._kind
        if tag == _FLOAT:
            return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
        if bits == 8:
            return ((np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128).astype(np.float32)
        if bits == 24:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
        return (np.frombuffer(data, f"<i{bits // 8}") / 2.0 ** (bits - 1)).astype(np.float32)
