"""What a file of sound says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from triode.codecs.tags import unpack_tags
from triode.container import SIGNATURE, ChunkInfo, ContainerReader, MetadataKind
from triode.media import Tags

__all__ = ["AudioInfo", "describe", "kbps_of"]


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a ``.tri`` sound says of itself, read without its model.

    Attributes:
        media: ``audio``.
        model: Name of the weights it was coded with.
        rate: Samples per second.
        model_rate: Samples per second that it was coded at.
        channels: Channels.
        samples: Samples per channel.
        seconds: Duration.
        chunks: Number of units.
        chunk_seconds: Duration of a unit, the last aside.
        rate_points: Distinct rate points of the units, rising.
        bytes: Size of the file.
        payload_bytes: What the units hold.
        kbps: Thousand bits of the file over seconds.
        metadata: Kind and size of each metadata block.
        tags: What the recording says of itself.
        entropy_digest: First 4 bytes, hex.
        synthesis_digest: First 4 bytes, hex.
        structure: Chunks of the file.
    """

    media: str
    model: str
    rate: int
    model_rate: int
    channels: int
    samples: int
    seconds: float
    chunks: int
    chunk_seconds: float
    rate_points: tuple[int, ...]
    bytes: int
    payload_bytes: int
    kbps: float
    metadata: tuple[tuple[str, int], ...]
    tags: Tags
    entropy_digest: str
    synthesis_digest: str
    structure: tuple[ChunkInfo, ...]


def kbps_of(size: int, seconds: float) -> float:
    """Return thousand bits over seconds, 0 where there are none."""
    return 8 * size / 1000 / seconds if seconds else 0.0


def describe(reader: ContainerReader) -> AudioInfo:
    """Read what a file says of itself.

    Raises:
        CodecError: If the file is damaged or exceeds the limits.
    """
    head, body, payload, points = reader.head, reader.head.audio, 0, set()
    for unit in reader.units():
        payload += len(unit.payload)
        points.add(unit.rate_point)
    blocks = ((k.name.lower(), reader.metadata.get(k)) for k in MetadataKind)
    structure = reader.structure()
    size = sum(c.size for c in structure) + len(SIGNATURE)
    seconds = body.samples / body.rate
    return AudioInfo(
        media="audio",
        model=head.model,
        rate=body.rate,
        model_rate=body.model_rate,
        channels=body.channels,
        samples=body.samples,
        seconds=seconds,
        chunks=head.units,
        chunk_seconds=body.unit_frames(0) * body.hop / body.model_rate,
        rate_points=tuple(sorted(points)),
        bytes=size,
        payload_bytes=payload,
        kbps=kbps_of(size, seconds),
        metadata=tuple((name, len(data)) for name, data in blocks if data is not None),
        tags=unpack_tags(reader.metadata.text),
        entropy_digest=head.entropy_digest.hex(),
        synthesis_digest=head.synthesis_digest.hex(),
        structure=structure,
    )
