"""What a file of video says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from triode.codecs.matrices import matrix_name
from triode.container import (
    SIGNATURE,
    ChunkInfo,
    ChunkType,
    ContainerReader,
    DecodeLimits,
    MetadataKind,
    unpack_track,
    unpack_video_unit,
)
from triode.errors import UnsupportedError

__all__ = ["VideoInfo", "describe"]


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a ``.tri`` video says of itself, read without its model.

    Attributes:
        media: ``video``.
        model: Name of the weights it was coded with.
        width: Pixels, of frames set upright.
        height: Pixels.
        rate: Frames per second, nominally.
        frames: Number of frames.
        seconds: Duration.
        variable: Whether frames differ in how long they last.
        matrix: ``bt709`` or ``bt601``.
        full_range: Whether luma runs from 0 to 255.
        gops: Number of units.
        gop_frames: Most frames of a unit that there is.
        rate_points: Distinct rate points of the units, rising.
        frame_bytes: Coded bytes of each frame, in order.
        sound: ``copied``, ``triode``, ``unknown`` or ``none``.
        bytes: Size of the file.
        payload_bytes: What the units hold.
        kbps: Thousand bits of the file over seconds.
        bpp: Bits of the file over pixels of all frames.
        metadata: Kind and size of each metadata block.
        entropy_digest: First 4 bytes, hex.
        synthesis_digest: First 4 bytes, hex.
        structure: Chunks of the file.
    """

    media: str
    model: str
    width: int
    height: int
    rate: Fraction
    frames: int
    seconds: float
    variable: bool
    matrix: str
    full_range: bool
    gops: int
    gop_frames: int
    rate_points: tuple[int, ...]
    frame_bytes: tuple[int, ...]
    sound: str
    bytes: int
    payload_bytes: int
    kbps: float
    bpp: float
    metadata: tuple[tuple[str, int], ...]
    entropy_digest: str
    synthesis_digest: str
    structure: tuple[ChunkInfo, ...]


def describe(reader: ContainerReader, limits: DecodeLimits) -> VideoInfo:
    """Read what a file says of itself.

    Raises:
        CodecError: If the file is damaged or exceeds the limits.
    """
    head, body = reader.head, reader.head.video
    payload = frames = ticks = 0
    points, sizes, variable, longest = set(), [], False, 0
    for unit in reader.units():
        video = unpack_video_unit(unit.payload, body, limits)
        payload += len(unit.payload)
        points.add(unit.rate_point)
        sizes += [len(frame.coded) for frame in video.frames]
        variable = variable or video.durations is not None
        longest = max(longest, len(video.frames))
        frames, ticks = video.first + len(video.frames), video.span(body).end
    blocks = ((k.name.lower(), reader.metadata.get(k)) for k in MetadataKind)
    structure = reader.structure()
    size = sum(c.size for c in structure) + len(SIGNATURE)
    seconds = float(ticks * body.tick)
    track = reader.metadata.track
    width, height = (body.height, body.width) if body.rotation % 2 else (body.width, body.height)
    return VideoInfo(
        media="video",
        model=head.model,
        width=width,
        height=height,
        rate=body.rate,
        frames=frames,
        seconds=seconds,
        variable=variable,
        matrix=matrix_name(body.matrix),
        full_range=body.full_range,
        gops=sum(c.type == ChunkType.DATA for c in structure),
        gop_frames=longest,
        rate_points=tuple(sorted(points)),
        frame_bytes=tuple(sizes),
        sound=_sound(track),
        bytes=size,
        payload_bytes=payload,
        kbps=8 * size / 1000 / seconds,
        bpp=8 * size / (body.width * body.height * frames),
        metadata=tuple((name, len(data)) for name, data in blocks if data is not None),
        entropy_digest=head.entropy_digest.hex(),
        synthesis_digest=head.synthesis_digest.hex(),
        structure=structure,
    )


def _sound(track: bytes | None) -> str:
    if track is None:
        return "none"
    try:
        return unpack_track(track).method.name.lower()
    except UnsupportedError:
        return "unknown"
