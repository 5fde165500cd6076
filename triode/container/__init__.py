"""The `.tri` file: chunks, header, limits and index, by the specification in `docs/format.md`.

Standard library only. What the units contain is the business of the packages above; here they are bytes.
"""

from __future__ import annotations

from triode.container.audio import (
    MAX_CHANNELS,
    MAX_RATE,
    MAX_SAMPLES,
    AudioHead,
    SoundUnit,
    pack_sound_unit,
    read_sound_unit,
    unpack_sound_unit,
)
from triode.container.chunks import SIGNATURE, ChunkInfo, Readable, Writable
from triode.container.header import (
    DIGEST_BYTES,
    FORMAT_MAJOR,
    MAX_SIDE,
    Colour,
    Head,
    ImageHead,
    Layout,
    Tile,
    TileGrid,
    pack_head,
    tile_grid,
    unpack_head,
)
from triode.container.limits import DEFAULT_LIMITS, DecodeLimits
from triode.container.media import Media
from triode.container.packet import pack_packet, unpack_packet
from triode.container.reader import ContainerReader
from triode.container.records import MAX_RATE_POINT, ChunkType, Metadata, MetadataKind, Unit
from triode.container.signature import identify
from triode.container.track import (
    Packet,
    SoundTrack,
    TrackMethod,
    pack_packets,
    pack_track,
    unpack_packets,
    unpack_track,
)
from triode.container.video import (
    MAX_GOP,
    CodedFrame,
    FrameKind,
    GopSpan,
    VideoHead,
    VideoUnit,
    pack_video_unit,
    unpack_video_unit,
)
from triode.container.writer import ContainerWriter

__all__ = [
    "DEFAULT_LIMITS",
    "DIGEST_BYTES",
    "FORMAT_MAJOR",
    "MAX_CHANNELS",
    "MAX_GOP",
    "MAX_RATE",
    "MAX_RATE_POINT",
    "MAX_SAMPLES",
    "MAX_SIDE",
    "SIGNATURE",
    "AudioHead",
    "ChunkInfo",
    "ChunkType",
    "CodedFrame",
    "Colour",
    "ContainerReader",
    "ContainerWriter",
    "DecodeLimits",
    "FrameKind",
    "GopSpan",
    "Head",
    "ImageHead",
    "Layout",
    "Media",
    "Metadata",
    "MetadataKind",
    "Packet",
    "Readable",
    "SoundTrack",
    "SoundUnit",
    "Tile",
    "TileGrid",
    "TrackMethod",
    "Unit",
    "VideoHead",
    "VideoUnit",
    "Writable",
    "identify",
    "pack_head",
    "pack_packet",
    "pack_packets",
    "pack_sound_unit",
    "pack_track",
    "pack_video_unit",
    "read_sound_unit",
    "tile_grid",
    "unpack_head",
    "unpack_packet",
    "unpack_packets",
    "unpack_sound_unit",
    "unpack_track",
    "unpack_video_unit",
]
