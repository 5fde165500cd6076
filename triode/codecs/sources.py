"""What a file is read from: bytes, files, and pipes that must be read twice; and whose it is."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, BinaryIO, cast

from triode.container import ContainerReader, DecodeLimits, Head, Media
from triode.errors import ModelMismatchError

if TYPE_CHECKING:
    from triode.models.weights import WeightsInfo

__all__ = ["check_identity", "model_of", "open_source", "peek_media", "rewindable"]


def open_source(source: bytes | BinaryIO) -> BinaryIO:
    """Return a binary file of a source."""
    return io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source


class _Recording:
    """Keeps what is read from a source."""

    def __init__(self, source: BinaryIO) -> None:
        self.data = io.BytesIO()
        self._source = source

    def read(self, size: int, /) -> bytes | None:
        data = self._source.read(size)
        self.data.write(data or b"")
        return data


def rewindable(source: bytes | BinaryIO, limits: DecodeLimits) -> BinaryIO:
    """Return a source that can be read twice; what comes from a pipe is kept, for as long as it is a valid file."""
    file = open_source(source)
    seekable = getattr(file, "seekable", None)
    if seekable is not None and seekable():
        return file
    recording = _Recording(file)
    ContainerReader(recording, limits).structure()
    recording.data.seek(0)
    return recording.data


class _Rejoined:
    """A source of which the beginning has been read already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = io.BytesIO(start), rest

    def read(self, size: int, /) -> bytes:
        return self._start.read(size) or self._rest.read(size)

    def seekable(self) -> bool:
        return False


def peek_media(source: bytes | BinaryIO, limits: DecodeLimits) -> tuple[Media, BinaryIO]:
    """Return what a file holds, and the file, still to be read from where it stood.

    Raises:
        CodecError: If the file is damaged or exceeds the limits.
    """
    file = open_source(source)
    seekable = getattr(file, "seekable", None)
    if seekable is not None and seekable():
        begin = file.tell()
        head = ContainerReader(file, limits).head
        file.seek(begin)
        return head.media, file
    recording = _Recording(file)
    head = ContainerReader(recording, limits).head
    return head.media, cast(BinaryIO, _Rejoined(recording.data.getvalue(), file))


def model_of(said: str, given: str | None) -> str:
    """Return the name of the weights that decode a file: those given, or those that the file `said`.

    Raises:
        ModelMismatchError: If the file names a path: a name from a stream never becomes one.
    """
    if given is None and said.endswith(".safetensors"):
        raise ModelMismatchError(f"The file names the model {said}, which is no name of weights")
    return given or said


def check_identity(head: Head, info: WeightsInfo, results: str, *, stacklevel: int) -> None:
    """Check that weights are those of a file; warn where they make other `results`, such as pixels.

    Raises:
        ModelMismatchError: If the entropy digests differ.
    """
    own = bytes.fromhex(info.entropy_digest)[: len(head.entropy_digest)]
    if own != head.entropy_digest:
        raise ModelMismatchError(
            f"The file was coded with {head.model} of entropy digest {head.entropy_digest.hex()}; "
            f"the weights {info.name} here have {own.hex()}"
        )
    if bytes.fromhex(info.synthesis_digest)[: len(head.synthesis_digest)] != head.synthesis_digest:
        warnings.warn(
            f"The weights {info.name} here make other {results} than those that the file was coded with",
            stacklevel=stacklevel + 1,
        )
