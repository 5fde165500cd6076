"""What a file of an image says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from triode.container import SIGNATURE, ChunkInfo, ContainerReader, MetadataKind

__all__ = ["ImageInfo", "describe"]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a ``.tri`` image says of itself, read without its model.

    Attributes:
        media: ``image``.
        model: Name of the weights it was coded with.
        width: Pixels.
        height: Pixels.
        channels: Colour channels, 1 or 3.
        has_alpha: Whether there is an alpha plane.
        tiles: Number of units.
        rate_points: Distinct rate points of the units, rising.
        bytes: Size of the file.
        payload_bytes: Entropy coded bytes.
        metadata: Kind and size of each metadata block.
        entropy_digest: First 4 bytes, hex.
        synthesis_digest: First 4 bytes, hex.
        structure: Chunks of the file.
    """

    media: str
    model: str
    width: int
    height: int
    channels: int
    has_alpha: bool
    tiles: int
    rate_points: tuple[int, ...]
    bytes: int
    payload_bytes: int
    metadata: tuple[tuple[str, int], ...]
    entropy_digest: str
    synthesis_digest: str
    structure: tuple[ChunkInfo, ...]


def describe(reader: ContainerReader) -> ImageInfo:
    """Read what a file says of itself.

    Raises:
        CodecError: If the file is damaged or exceeds the limits.
    """
    head, payload, points = reader.head, 0, set()
    for unit in reader.units():
        payload += len(unit.payload)
        points.add(unit.rate_point)
    blocks = ((k.name.lower(), reader.metadata.get(k)) for k in MetadataKind)
    structure = reader.structure()
    return ImageInfo(
        media="image",
        model=head.model,
        width=head.image.width,
        height=head.image.height,
        channels=head.image.layout.channels,
        has_alpha=head.image.alpha,
        tiles=head.units,
        rate_points=tuple(sorted(points)),
        bytes=sum(c.size for c in structure) + len(SIGNATURE),
        payload_bytes=payload,
        metadata=tuple((name, len(data)) for name, data in blocks if data is not None),
        entropy_digest=head.entropy_digest.hex(),
        synthesis_digest=head.synthesis_digest.hex(),
        structure=structure,
    )
