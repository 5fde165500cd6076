"""Units of a damaged file: those whose CRC-32 is right, wherever they lie."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from triode.container.chunks import ByteSource, ChunkHeader, read_chunk_header
from triode.container.header import Head
from triode.container.limits import DecodeLimits
from triode.container.records import ChunkType, Unit, unpack_unit
from triode.errors import CodecError

__all__ = ["salvage_units"]

_MARK: Final = ChunkType.DATA.encode("ascii")
_PIECE: Final = 1 << 16
_EFFORT: Final = 8
_SLACK: Final = 1 << 20


def salvage_units(source: ByteSource, head: Head, limits: DecodeLimits, begin: int) -> Iterator[Unit]:
    """Yield the intact units in rising order; what lies between them is passed over, whatever it is.

    After damage, the next chunk is looked for at the next bytes that read `DATA`. A file made to waste time with many
    beginnings of long chunks is given up after reading some multiples of its size.

    Args:
        source: The file; must be able to seek.
        head: What its `HEAD` says.
        limits: What the file may ask for.
        begin: Position to begin at, behind `HEAD`.
    """
    size = source.size()
    budget = _EFFORT * size + _SLACK
    at, following, chunks = begin, 0, 0
    while at < size and following < head.units and budget > 0:
        source.seek(at)
        header = _header(source)
        if header is None or header.end > size or not _within(header, limits, chunks + 1):
            at, passed = _next_mark(source, at + 1)
            budget -= passed
            continue
        payload = source.read_up_to(header.length)
        stored = int.from_bytes(source.read_up_to(4), "little")
        budget -= header.end - at
        if stored != zlib.crc32(payload, zlib.crc32(header.type.encode("ascii"))):
            at, passed = _next_mark(source, at + 1)
            budget -= passed
            continue
        at, chunks = header.end, chunks + 1
        if header.type == ChunkType.DATA:
            unit = _unit(payload, single=head.single)
            if unit is not None and following <= unit.index < head.units:
                following = unit.index + 1
                yield unit


def _header(source: ByteSource) -> ChunkHeader | None:
    try:
        return read_chunk_header(source)
    except CodecError:
        return None


def _within(header: ChunkHeader, limits: DecodeLimits, chunks: int) -> bool:
    """Whether the limits allow a chunk; too many of them end the salvage with `LimitExceededError`."""
    limits.check_chunks(chunks)
    try:
        limits.check_chunk_bytes(header.length, header.type)
    except CodecError:
        return False
    return True


def _unit(payload: bytes, *, single: bool) -> Unit | None:
    try:
        return unpack_unit(payload, single=single)
    except CodecError:
        return None


def _next_mark(source: ByteSource, at: int) -> tuple[int, int]:
    """Return where the next bytes that read `DATA` begin, or the end of the file, and how many bytes were read."""
    source.seek(at)
    held, passed = b"", 0
    while piece := source.read_up_to(_PIECE):
        passed += len(piece)
        held += piece
        if (found := held.find(_MARK)) >= 0:
            return at + found, passed
        keep = len(_MARK) - 1
        at += max(len(held) - keep, 0)
        held = held[-keep:]
    return at + len(held), passed
