"""Payloads of the chunks after `HEAD`: metadata, units, the index and the end mark."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from triode.container.chunks import MAX_LENGTH, MAX_VARINT, Cursor, encode_varint
from triode.errors import BitstreamError, UnsupportedError

__all__ = [
    "DONE_CHUNK_BYTES",
    "MAX_RATE_POINT",
    "ChunkType",
    "Done",
    "Metadata",
    "MetadataKind",
    "Unit",
    "pack_done",
    "pack_index",
    "pack_unit_prefix",
    "unpack_done",
    "unpack_index",
    "unpack_unit",
]

MAX_RATE_POINT: Final = 63
DONE_BYTES: Final = 8
DONE_CHUNK_BYTES: Final = 4 + 1 + DONE_BYTES + 4
_MIN_CHUNK_BYTES: Final = 9


class ChunkType(StrEnum):
    """Chunk types of this format version that are not metadata."""

    HEAD = "HEAD"
    ALPHA = "ALPH"
    DATA = "DATA"
    INDEX = "indx"
    DONE = "DONE"


class MetadataKind(StrEnum):
    """Metadata that a file may carry, each at most once; the value is the chunk type."""

    ICC = "iccp"
    EXIF = "exif"
    XMP = "xmp_"
    TEXT = "text"
    TRACK = "trak"


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of a file, as stored; None where there is none.

    Attributes:
        icc: ICC profile.
        exif: EXIF block, beginning with its TIFF header.
        xmp: XMP packet, UTF-8.
        text: Free text, UTF-8; the container does not check it.
        track: What the sound of a video is.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    text: bytes | None = None
    track: bytes | None = None

    def get(self, kind: MetadataKind) -> bytes | None:
        """Return the block of one kind."""
        value: bytes | None = getattr(self, kind.name.lower())
        return value


@dataclass(frozen=True, slots=True)
class Unit:
    """One `DATA` chunk: a part of the media that decodes on its own.

    Attributes:
        index: Position in coding order; for an image, of its tile in raster order.
        rate_point: Rate point of the model, 0..63.
        symbols_crc32: CRC-32 (zlib) of the decoded symbols as int32, little-endian, in coding order. The container
            only carries it.
        payload: Entropy-coded bytes.
    """

    index: int
    rate_point: int
    symbols_crc32: int
    payload: bytes

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.index <= MAX_VARINT:
            raise ValueError(f"unit index must be 0..{MAX_VARINT}, got {self.index}")
        if not 0 <= self.rate_point <= MAX_RATE_POINT:
            raise ValueError(f"rate point must be 0..{MAX_RATE_POINT}, got {self.rate_point}")
        if not 0 <= self.symbols_crc32 <= 0xFFFFFFFF:
            raise ValueError(f"a CRC-32 is 0..2^32-1, got {self.symbols_crc32}")


@dataclass(frozen=True, slots=True)
class Done:
    """The end mark: number of units, and size in bytes of the `indx` chunk right before it (0: there is none)."""

    units: int
    index_size: int


def pack_unit_prefix(unit: Unit, *, single: bool) -> bytes:
    """Return what stands before the entropy-coded bytes in a `DATA` payload; `single` files leave out the index."""
    index = b"" if single else encode_varint(unit.index)
    return index + bytes((unit.rate_point,)) + unit.symbols_crc32.to_bytes(4, "little")


def unpack_unit(payload: bytes, *, single: bool) -> Unit:
    """Read the payload of a `DATA` chunk.

    Raises:
        UnsupportedError: A reserved bit is set.
        BitstreamError: The payload is too short or its index is not a canonical varint.
    """
    cursor = Cursor(payload, "DATA")
    index = 0 if single else cursor.varint()
    rate_point = cursor.u8()
    if rate_point > MAX_RATE_POINT:
        raise UnsupportedError(f"DATA: reserved bits of the rate point byte {rate_point:#04x} are set")
    return Unit(index, rate_point, cursor.u32(), cursor.rest())


def pack_index(offsets: list[int]) -> bytes | None:
    """Return the payload of `indx` for `DATA` chunks at rising `offsets`; None where it cannot be written.

    It cannot where two chunks are more than 2^32-1 bytes apart, or where the table is longer than a chunk may be.
    """
    distances = [after - before for before, after in zip([0, *offsets], offsets, strict=False)]
    if max(distances) > MAX_VARINT:
        return None
    table = b"".join(map(encode_varint, distances))
    return table if len(table) <= MAX_LENGTH else None


def unpack_index(payload: bytes, units: int, end: int) -> tuple[int, ...]:
    """Read the payload of `indx`: the offsets of `units` `DATA` chunks, all before `end`, where `indx` begins.

    Raises:
        BitstreamError: The table has another number of entries, or chunks would overlap or lie behind `end`.
    """
    if not units <= len(payload) <= 5 * units:
        raise BitstreamError(f"indx: {len(payload)} bytes cannot hold {units} entries of 1 to 5 bytes")
    cursor = Cursor(payload, "indx")
    offsets: list[int] = []
    offset = 0
    for _ in range(units):
        distance = cursor.varint()
        if distance < _MIN_CHUNK_BYTES:
            raise BitstreamError(f"indx: entry {len(offsets)} is {distance}, but a chunk has {_MIN_CHUNK_BYTES} bytes")
        offset += distance
        offsets.append(offset)
    cursor.end()
    if offset + _MIN_CHUNK_BYTES > end:
        raise BitstreamError(f"indx: the last unit would begin at byte {offset}, but the index begins at byte {end}")
    return tuple(offsets)


def pack_done(done: Done) -> bytes:
    """Return the payload of `DONE`."""
    return done.units.to_bytes(4, "little") + done.index_size.to_bytes(4, "little")


def unpack_done(payload: bytes) -> Done:
    """Read the payload of `DONE`.

    Raises:
        BitstreamError: It has another length than 8 bytes.
    """
    cursor = Cursor(payload, "DONE")
    done = Done(cursor.u32(), cursor.u32())
    cursor.end()
    return done
