"""Units that travel one by one: a packet is the `DATA` chunk that the unit has in a file of several units."""

from __future__ import annotations

import io

from triode.container.chunks import ByteSink, ByteSource, ChunkReader, write_chunk
from triode.container.limits import DEFAULT_LIMITS, DecodeLimits
from triode.container.records import ChunkType, Unit, pack_unit_prefix, unpack_unit
from triode.errors import BitstreamError, TruncatedError

__all__ = ["pack_packet", "unpack_packet"]


def pack_packet(unit: Unit) -> bytes:
    """Return a unit as a packet."""
    out = io.BytesIO()
    write_chunk(ByteSink(out), ChunkType.DATA, pack_unit_prefix(unit, single=False), unit.payload)
    return out.getvalue()


def unpack_packet(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> Unit:
    """Read a packet.

    Raises:
        TruncatedError: It ends early.
        BitstreamError: It is damaged, or something else.
        UnsupportedError: A reserved bit is set.
        LimitExceededError: It is longer than `limits` allow.
    """
    chunks = ChunkReader(ByteSource(io.BytesIO(data)), limits, 0)
    header = chunks.next_header()
    if header is None:
        raise TruncatedError("the packet is empty")
    if header.type != ChunkType.DATA:
        raise BitstreamError(f"a packet is a DATA chunk, found {header.type}")
    payload = chunks.payload(header)
    if not chunks.at_end():
        raise BitstreamError("there are bytes after the end of the packet")
    return unpack_unit(payload, single=False)
