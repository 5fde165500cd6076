"""The `.tri` file: chunks, header, limits and index, by the specification in `docs/format.md`.

Standard library only. What the units contain is the business of the packages above; here they are bytes.
"""

from __future__ import annotations

from triode.container.chunks import SIGNATURE, ChunkInfo, Readable, Writable
from triode.container.header import (
    DIGEST_BYTES,
    FORMAT_MAJOR,
    MAX_SIDE,
    Colour,
    Head,
    ImageHead,
    Layout,
    Media,
    Tile,
    TileGrid,
    pack_head,
    tile_grid,
    unpack_head,
)
from triode.container.limits import DEFAULT_LIMITS, DecodeLimits
from triode.container.reader import ContainerReader
from triode.container.records import MAX_RATE_POINT, ChunkType, Metadata, MetadataKind, Unit
from triode.container.signature import identify
from triode.container.writer import ContainerWriter

__all__ = [
    "DEFAULT_LIMITS",
    "DIGEST_BYTES",
    "FORMAT_MAJOR",
    "MAX_RATE_POINT",
    "MAX_SIDE",
    "SIGNATURE",
    "ChunkInfo",
    "ChunkType",
    "Colour",
    "ContainerReader",
    "ContainerWriter",
    "DecodeLimits",
    "Head",
    "ImageHead",
    "Layout",
    "Media",
    "Metadata",
    "MetadataKind",
    "Readable",
    "Tile",
    "TileGrid",
    "Unit",
    "Writable",
    "identify",
    "pack_head",
    "tile_grid",
    "unpack_head",
]
