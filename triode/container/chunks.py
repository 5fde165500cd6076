"""Chunks and varints over binary files: the layer below every rule about what a chunk means.

Sources may be pipes: only `read` is needed, short reads are completed, and a payload is read in bounded pieces, so that
a declared length never allocates more than the source holds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from triode.container.limits import DecodeLimits
from triode.errors import BitstreamError, TruncatedError, UnsupportedError

__all__ = [
    "MAX_LENGTH",
    "MAX_VARINT",
    "SIGNATURE",
    "ByteSink",
    "ByteSource",
    "ChunkHeader",
    "ChunkInfo",
    "ChunkReader",
    "Cursor",
    "Readable",
    "Writable",
    "encode_varint",
    "read_chunk_header",
    "write_chunk",
]

SIGNATURE: Final = b"\x89TRI\r\n\x1a\n"
MAX_VARINT: Final = (1 << 32) - 1
MAX_LENGTH: Final = (1 << 31) - 1
_PIECE: Final = 1 << 18
_TYPE_FIRST: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_TYPE_REST: Final = _TYPE_FIRST | frozenset(b"0123456789_")


class Readable(Protocol):
    """A binary source. `seek`, `tell` and `seekable` are used where they exist."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most `size` bytes, and none at the end."""


class Writable(Protocol):
    """A binary sink."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Write `data` or its beginning; return how many bytes were taken."""


def encode_varint(value: int) -> bytes:
    """Write an integer of 0..2^32-1 as unsigned LEB128, in its shortest form of 1 to 5 bytes."""
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"a varint holds 0..{MAX_VARINT}, got {value}")
    out = bytearray()
    while value >= 0x80:
        out.append(0x80 | (value & 0x7F))
        value >>= 7
    out.append(value)
    return bytes(out)


def _decode_varint(next_byte: Callable[[], int], what: str) -> int:
    value = 0
    for position in range(5):
        byte = next_byte()
        value |= (byte & 0x7F) << (7 * position)
        if byte >= 0x80:
            continue
        if byte == 0 and position:
            raise BitstreamError(f"{what}: varint of {position + 1} bytes is not in its shortest form")
        if value > MAX_VARINT:
            raise BitstreamError(f"{what}: varint {value} is above {MAX_VARINT}")
        return value
    raise BitstreamError(f"{what}: varint is longer than 5 bytes")


class Cursor:
    """Reads fields from a payload whose CRC-32 has been checked; what does not fit is a `BitstreamError`."""

    def __init__(self, data: bytes, what: str) -> None:
        """Start at the first byte of `data`; `what` names the chunk in messages."""
        self._data = data
        self._what = what
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise BitstreamError(f"{self._what}: payload of {len(self._data)} bytes ends inside a field")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def u8(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u32(self) -> int:
        """Return the next four bytes as a little-endian unsigned integer."""
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
        """Return the next varint, 0..2^32-1."""
        return _decode_varint(self.u8, self._what)

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return len(self._data) - self._at

    def rest(self) -> bytes:
        """Return what is left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Refuse bytes that are left over."""
        if self._at != len(self._data):
            raise BitstreamError(f"{self._what}: {len(self._data) - self._at} bytes left over after the last field")


class ByteSource:
    """A binary source with a position counted from where it was handed over."""

    def __init__(self, fp: Readable) -> None:
        """Wrap `fp`, whose next byte becomes position 0."""
        # Any: `seek` and `tell` are used only where `seekable()` says that they work.
        self._fp = cast("Any", fp)
        seekable = getattr(fp, "seekable", None)
        self.seekable: bool = bool(seekable is not None and seekable())
        self._base: int = self._fp.tell() if self.seekable else 0
        self.position = 0

    def read_up_to(self, count: int) -> bytes:
        """Return `count` bytes, or fewer at the end of the source."""
        buffer = bytearray()
        while len(buffer) < count:
            piece = self._fp.read(min(count - len(buffer), _PIECE))
            if piece is None:
                raise BlockingIOError("the source is in non-blocking mode and has no data")
            if not piece:
                break
            buffer += piece
        self.position += len(buffer)
        return bytes(buffer)

    def read_exactly(self, count: int, what: str) -> bytes:
        """Return `count` bytes, or raise `TruncatedError` naming `what` was being read."""
        data = self.read_up_to(count)
        if len(data) < count:
            raise TruncatedError(
                f"the file ends at byte {self.position}, inside {what}: {len(data)} of {count} bytes are there"
            )
        return data

    def seek(self, position: int) -> None:
        """Go to `position`; on a source that cannot seek it must be where the source already is."""
        if self.seekable:
            # Always, not only when the position differs: the owner of the file may have moved it.
            self._fp.seek(self._base + position)
            self.position = position
        elif position != self.position:
            raise UnsupportedError("this source cannot seek: it can be read once, from front to back")

    def size(self) -> int:
        """Return the number of bytes of a seekable source; the position is lost."""
        return int(self._fp.seek(0, 2)) - self._base


class ByteSink:
    """A binary sink that counts what was written and completes short writes."""

    def __init__(self, fp: Writable) -> None:
        """Wrap `fp`; its next byte is position 0."""
        self._fp = fp
        self.position = 0

    def write(self, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            taken = self._fp.write(view)
            if taken is None:
                raise BlockingIOError("the sink is in non-blocking mode and takes no data")
            self.position += taken
            view = view[taken:]


@dataclass(frozen=True, slots=True)
class ChunkInfo:
    """Where a chunk lies.

    Attributes:
        type: Four ASCII characters.
        offset: Position of its first byte in the file.
        size: All its bytes: type, length, payload and CRC-32.
        payload_size: Bytes of its payload.
    """

    type: str
    offset: int
    size: int
    payload_size: int


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """Type and declared length of a chunk, payload not read yet.

    Attributes:
        type: Four ASCII characters.
        offset: Position of the chunk's first byte.
        payload_offset: Position of the payload's first byte.
        length: Declared payload length in bytes.
    """

    type: str
    offset: int
    payload_offset: int
    length: int

    @property
    def critical(self) -> bool:
        """Whether a reader that does not know the type must refuse the file."""
        return self.type[0].isupper()

    @property
    def end(self) -> int:
        """Position after the CRC-32, where the next chunk begins."""
        return self.payload_offset + self.length + 4

    def info(self) -> ChunkInfo:
        """Return where the chunk lies."""
        return ChunkInfo(self.type, self.offset, self.end - self.offset, self.length)


def read_chunk_header(source: ByteSource) -> ChunkHeader | None:
    """Read type and length at the source's position; None where the source has ended.

    Raises:
        TruncatedError: The source ends inside the type or the length.
        BitstreamError: The type is not a letter and three letters, digits or underscores; the length is not a
            canonical varint of at most 2^31-1.
    """
    offset = source.position
    kind = source.read_up_to(4)
    if not kind:
        return None
    what = f"the chunk header at byte {offset}"
    if len(kind) < 4:
        raise TruncatedError(f"the file ends at byte {source.position}, inside {what}")
    if kind[0] not in _TYPE_FIRST or any(byte not in _TYPE_REST for byte in kind[1:]):
        raise BitstreamError(f"{what} has the type {kind!r}; a type is a letter and 3 letters, digits or underscores")
    length = _decode_varint(lambda: source.read_exactly(1, what)[0], what)
    if length > MAX_LENGTH:
        raise BitstreamError(f"{what} declares {length} bytes; a chunk holds at most {MAX_LENGTH}")
    return ChunkHeader(kind.decode("ascii"), offset, source.position, length)


class ChunkReader:
    """Reads chunk after chunk, checks every CRC-32, and keeps a list of the chunks that passed.

    On a seekable source several of these may be at work in turn: each remembers its own place.
    """

    def __init__(self, source: ByteSource, limits: DecodeLimits, offset: int, before: Iterable[ChunkInfo] = ()) -> None:
        """Begin at `offset` of `source`, after the chunks `before`, which count as read."""
        self._source = source
        self._limits = limits
        self._offset = offset
        self.chunks = list(before)

    def next_header(self) -> ChunkHeader | None:
        """Return the next chunk's header, None at the end of the source; sizes are checked against the limits."""
        self._source.seek(self._offset)
        header = read_chunk_header(self._source)
        if header is not None:
            self._limits.check_chunks(len(self.chunks) + 1)
            self._limits.check_chunk_bytes(header.length, header.type)
        return header

    def payload(self, header: ChunkHeader) -> bytes:
        """Read the payload that belongs to `header` and move on to the next chunk."""
        self._source.seek(header.payload_offset)
        data = self._source.read_exactly(header.length, f"the {header.type} chunk at byte {header.offset}")
        self._finish(header, zlib.crc32(data, zlib.crc32(header.type.encode("ascii"))))
        return data

    def skip(self, header: ChunkHeader) -> None:
        """Read past the payload that belongs to `header` in pieces, checking its CRC-32 without keeping it."""
        self._source.seek(header.payload_offset)
        crc = zlib.crc32(header.type.encode("ascii"))
        left = header.length
        while left:
            piece = self._source.read_exactly(min(left, _PIECE), f"the {header.type} chunk at byte {header.offset}")
            crc = zlib.crc32(piece, crc)
            left -= len(piece)
        self._finish(header, crc)

    def at_end(self) -> bool:
        """Whether the source ends here."""
        self._source.seek(self._offset)
        return not self._source.read_up_to(1)

    def _finish(self, header: ChunkHeader, computed: int) -> None:
        where = f"the {header.type} chunk at byte {header.offset}"
        stored = int.from_bytes(self._source.read_exactly(4, f"the CRC-32 of {where}"), "little")
        if stored != computed:
            raise BitstreamError(f"{where} is damaged: its CRC-32 is {computed:08x}, the file says {stored:08x}")
        self._offset = header.end
        self.chunks.append(header.info())


def write_chunk(sink: ByteSink, kind: str, *parts: bytes) -> ChunkInfo:
    """Write one chunk whose payload is `parts` one after another.

    Raises:
        ValueError: The payload is longer than 2^31-1 bytes.
    """
    length = sum(map(len, parts))
    if length > MAX_LENGTH:
        raise ValueError(f"a {kind} chunk of {length} bytes: a chunk holds at most {MAX_LENGTH}")
    offset = sink.position
    name = kind.encode("ascii")
    sink.write(name + encode_varint(length))
    crc = zlib.crc32(name)
    for part in parts:
        sink.write(part)
        crc = zlib.crc32(part, crc)
    sink.write(crc.to_bytes(4, "little"))
    return ChunkInfo(kind, offset, sink.position - offset, length)
