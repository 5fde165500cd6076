"""What only video has: its part of `HEAD`, groups of pictures, and what the index says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import ClassVar, Final

from triode.container.chunks import MAX_LENGTH, MAX_VARINT, Cursor, encode_varint
from triode.container.limits import DEFAULT_LIMITS, DecodeLimits
from triode.container.media import Media
from triode.errors import BitstreamError, CodecError, UnsupportedError

__all__ = [
    "MAX_GOP",
    "MAX_TICKS",
    "MIN_CHUNK_BYTES",
    "UNSPECIFIED",
    "CodedFrame",
    "FrameKind",
    "GopSpan",
    "VideoHead",
    "VideoUnit",
    "pack_gop_index",
    "pack_ticks",
    "pack_video",
    "pack_video_unit",
    "read_span",
    "read_ticks",
    "unpack_gop_index",
    "unpack_video",
    "unpack_video_unit",
]

MAX_GOP: Final = (1 << 16) - 1
MAX_TICKS: Final = (1 << 48) - 1
UNSPECIFIED: Final = 2
"""What H.273 calls a colour description that is not known."""
_MAX_SIDE: Final = (1 << 31) - 1
_MAX_LOCATION: Final = 6
_HIGH: Final = 32
_FULL: Final = 0x40
_POINTS: Final = range(64)
MIN_CHUNK_BYTES: Final = 9
"""A chunk with no payload."""
_ENTRY: Final = 4


class FrameKind(IntEnum):
    """What a frame depends on: nothing, those before it, or those before it while it hands on nothing of theirs."""

    INTRA = 0
    INTER = 1
    REFRESH = 2


@dataclass(frozen=True, slots=True)
class VideoHead:
    """The part of `HEAD` that only video has.

    Attributes:
        width: Luma samples of a row, 1..2^31-1, as coded.
        height: Rows of luma, as coded.
        tick: Seconds of a tick of the clock; numerator and denominator at most 2^32-1.
        frame_ticks: Ticks of a frame at the nominal rate, 1..2^32-1.
        most_frames: Most frames of a unit, 1..65535.
        matrix: Matrix coefficients, a code of ITU-T H.273, as are the next two.
        primaries: Colour primaries.
        transfer: Transfer characteristics.
        full_range: Whether luma runs from 0 to 255 rather than 16 to 235.
        rotation: Quarter turns counter-clockwise that set the frames upright, 0..3.
        chroma_location: 0 unspecified, 1 left, 2 centre, 3 top left, 4 top, 5 bottom left, 6 bottom.
        aspect: Width over height of the shape of a sample.
        bit_depth: Bits a sample, 1..16.
    """

    media: ClassVar[Media] = Media.VIDEO

    width: int
    height: int
    tick: Fraction
    frame_ticks: int
    most_frames: int
    matrix: int = 1
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool = False
    rotation: int = 0
    chroma_location: int = 0
    aspect: Fraction = Fraction(1)
    bit_depth: int = 8

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value, low, high in (
            ("width", self.width, 1, _MAX_SIDE),
            ("height", self.height, 1, _MAX_SIDE),
            ("ticks a frame", self.frame_ticks, 1, MAX_VARINT),
            ("frames a unit", self.most_frames, 1, MAX_GOP),
            ("matrix", self.matrix, 0, 255),
            ("primaries", self.primaries, 0, 255),
            ("transfer", self.transfer, 0, 255),
            ("rotation", self.rotation, 0, 3),
            ("chroma location", self.chroma_location, 0, _MAX_LOCATION),
            ("bit depth", self.bit_depth, 1, 16),
            ("numerator of the tick", self.tick.numerator, 1, MAX_VARINT),
            ("denominator of the tick", self.tick.denominator, 1, MAX_VARINT),
            ("width of a sample", self.aspect.numerator, 1, MAX_VARINT),
            ("height of a sample", self.aspect.denominator, 1, MAX_VARINT),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low}..{high}, got {value}")

    @property
    def rate(self) -> Fraction:
        """Frames per second, nominally."""
        return 1 / (self.tick * self.frame_ticks)

    @property
    def units(self) -> int:
        """Most units that there may be."""
        return MAX_VARINT

    @property
    def single(self) -> bool:
        """Whether the file ends after its only unit: never."""
        return False


@dataclass(frozen=True, slots=True)
class GopSpan:
    """Which frames a group of pictures holds, and when they are shown.

    Attributes:
        first: Number of its first frame.
        frames: How many there are, at least 1.
        start: Time of the first frame in ticks; the clock starts with frame 0.
        duration: Ticks from there to the end of the last one.
    """

    first: int
    frames: int
    start: int
    duration: int

    @property
    def stop(self) -> int:
        """Number of the frame after its last."""
        return self.first + self.frames

    @property
    def end(self) -> int:
        """Time in ticks at which its last frame ends."""
        return self.start + self.duration

    def follows(self, before: GopSpan | None) -> bool:
        """Whether it comes right after another one; or first, where there is None."""
        return (self.first, self.start) == ((before.stop, before.end) if before else (0, 0))


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """The symbols of one frame.

    Attributes:
        kind: What it depends on.
        point: Rate point, 0..63.
        coded: What a range coder made of its symbols.
    """

    kind: FrameKind
    point: int
    coded: bytes


@dataclass(frozen=True, slots=True)
class VideoUnit:
    """What the payload of a unit of video holds.

    Attributes:
        first: Number of the first frame.
        start: Its time in ticks, less than 2^48.
        frames: The frames, at least one.
        durations: Ticks from each frame to the next; None where each lasts as long as `HEAD` says.
        sound: Packets of the sound track.
    """

    first: int
    start: int
    frames: tuple[CodedFrame, ...]
    durations: tuple[int, ...] | None = None
    sound: bytes = b""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= len(self.frames) <= MAX_GOP:
            raise ValueError(f"a unit has 1..{MAX_GOP} frames, got {len(self.frames)}")
        if not 0 <= self.first <= MAX_VARINT or not 0 <= self.start <= MAX_TICKS:
            raise ValueError(f"frame {self.first} at {self.start} ticks is out of range")
        if self.durations is not None and len(self.durations) != len(self.frames):
            raise ValueError(f"{len(self.frames)} frames have {len(self.durations)} durations")
        if self.durations is not None and not 1 <= min(self.durations) <= max(self.durations) <= MAX_VARINT:
            raise ValueError(f"a frame lasts 1..{MAX_VARINT} ticks")
        if any(frame.point not in _POINTS for frame in self.frames):
            raise ValueError(f"rate points are 0..{_POINTS[-1]}")
        if self.frames[0].kind is not FrameKind.INTRA:
            raise ValueError("the first frame of a unit is an intra frame")

    def span(self, head: VideoHead) -> GopSpan:
        """Return which frames these are."""
        count = len(self.frames)
        total = count * head.frame_ticks if self.durations is None else sum(self.durations)
        return GopSpan(self.first, count, self.start, total)


def pack_ticks(ticks: int) -> bytes:
    """Return a time of 0..2^48-1 ticks as two varints."""
    return encode_varint(ticks & MAX_VARINT) + encode_varint(ticks >> _HIGH)


def read_ticks(cursor: Cursor, what: str = "DATA") -> int:
    """Read two varints as a time.

    Raises:
        BitstreamError: It is 2^48 or more.
    """
    ticks = cursor.varint() | cursor.varint() << _HIGH
    if ticks > MAX_TICKS:
        raise BitstreamError(f"{what}: a time of {ticks} ticks; times are below 2^48")
    return ticks


def pack_video(head: VideoHead) -> bytes:
    """Return the media part of `HEAD`."""
    display = head.rotation | head.chroma_location << 2
    sample = (head.bit_depth - 1) | (_FULL if head.full_range else 0)
    numbers = (head.aspect.numerator, head.aspect.denominator, head.tick.numerator, head.tick.denominator)
    return b"".join(
        (
            encode_varint(head.width),
            encode_varint(head.height),
            bytes((sample, head.primaries, head.transfer, head.matrix, display)),
            *map(encode_varint, (*numbers, head.frame_ticks, head.most_frames)),
        )
    )


def unpack_video(cursor: Cursor, *, single: bool) -> VideoHead:
    """Read the media part of `HEAD`.

    Raises:
        UnsupportedError: A reserved bit or code is set.
        BitstreamError: The fields end early, or break a rule of the format.
        ValueError: A field is out of its range.
    """
    if single:
        raise BitstreamError("HEAD: SINGLE is set, which a video never is")
    width, height = cursor.varint(), cursor.varint()
    sample, primaries, transfer, matrix, display = cursor.take(5)
    if sample & 0xB0:
        raise UnsupportedError(f"HEAD: the sample format {sample:#04x} is none that this release knows: 4:2:0")
    if display & 0xE0 or display >> 2 > _MAX_LOCATION:
        raise UnsupportedError(f"HEAD: the display byte {display:#04x} has reserved bits; a newer version made this")
    aspect, tick = (_fraction(cursor, what) for what in ("the shape of a sample", "a tick"))
    return VideoHead(
        width=width,
        height=height,
        tick=tick,
        frame_ticks=cursor.varint(),
        most_frames=cursor.varint(),
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        full_range=bool(sample & _FULL),
        rotation=display & 3,
        chroma_location=display >> 2,
        aspect=aspect,
        bit_depth=(sample & 0x0F) + 1,
    )


def pack_video_unit(unit: VideoUnit) -> bytes:
    """Return the payload of a unit of video."""
    parts = [encode_varint(unit.first), pack_ticks(unit.start), encode_varint(len(unit.frames))]
    parts.append(b"\0" if unit.durations is None else b"\1" + b"".join(map(encode_varint, unit.durations)))
    parts += [encode_varint(len(unit.sound)), unit.sound]
    for frame in unit.frames:
        parts += [bytes((frame.point | frame.kind << 6,)), encode_varint(len(frame.coded)), frame.coded]
    return b"".join(parts)


def read_span(payload: bytes, head: VideoHead, limits: DecodeLimits = DEFAULT_LIMITS) -> GopSpan:
    """Read only which frames a unit of video holds; raises what :func:`unpack_video_unit` does for those fields."""
    return _start(Cursor(payload, "DATA"), head, limits)[0]


def unpack_video_unit(payload: bytes, head: VideoHead, limits: DecodeLimits = DEFAULT_LIMITS) -> VideoUnit:
    """Read the payload of a unit of video.

    Raises:
        UnsupportedError: A reserved bit or code is set.
        BitstreamError: The payload is too short or too long, or a field is out of its range.
        LimitExceededError: Its frames are beyond what `limits` allow.
    """
    cursor = Cursor(payload, "DATA")
    span, durations = _start(cursor, head, limits)
    sound = cursor.take(cursor.varint())
    frames = tuple(_frame(cursor) for _ in range(span.frames))
    cursor.end()
    try:
        return VideoUnit(span.first, span.start, frames, durations, sound)
    except CodecError:
        raise
    except ValueError as error:
        raise BitstreamError(f"DATA: {error}") from error


def _start(cursor: Cursor, head: VideoHead, limits: DecodeLimits) -> tuple[GopSpan, tuple[int, ...] | None]:
    first, start, count, timing = cursor.varint(), read_ticks(cursor), cursor.varint(), cursor.u8()
    if not 1 <= count <= head.most_frames:
        raise BitstreamError(f"DATA: a unit of {count} frames; by HEAD it has 1..{head.most_frames}")
    limits.check_frames(first + count)
    if timing > 1:
        raise UnsupportedError(f"DATA: the timing {timing} is reserved; a newer version made this")
    durations = tuple(cursor.varint() for _ in range(count)) if timing else None
    if durations is not None and not min(durations):
        raise BitstreamError("DATA: a frame lasts 0 ticks")
    duration = count * head.frame_ticks if durations is None else sum(durations)
    return GopSpan(first, count, start, duration), durations


def _frame(cursor: Cursor) -> CodedFrame:
    byte = cursor.u8()
    if byte >> 6 not in tuple(FrameKind):
        raise UnsupportedError("DATA: a frame of kind 3, which is reserved; a newer version made this")
    return CodedFrame(FrameKind(byte >> 6), byte & 0x3F, cursor.take(cursor.varint()))


def _fraction(cursor: Cursor, what: str) -> Fraction:
    numerator, denominator = cursor.varint(), cursor.varint()
    if not numerator or not denominator:
        raise BitstreamError(f"HEAD: {what} is {numerator}/{denominator}")
    fraction = Fraction(numerator, denominator)
    if fraction.numerator != numerator:
        raise BitstreamError(f"HEAD: {what} is {numerator}/{denominator}, not in lowest terms")
    return fraction


def pack_gop_index(entries: Sequence[tuple[int, GopSpan]]) -> bytes | None:
    """Return the payload of `indx` for units at rising offsets; None where it cannot be written."""
    parts, before = [], 0
    for offset, span in entries:
        if offset - before > MAX_VARINT:
            return None
        parts += [encode_varint(offset - before), encode_varint(span.frames), pack_ticks(span.duration)]
        before = offset
    table = b"".join(parts)
    return table if len(table) <= MAX_LENGTH else None


def unpack_gop_index(payload: bytes, units: int, end: int) -> tuple[tuple[int, GopSpan], ...]:
    """Read the payload of `indx`: offset and span of each of `units` units, all before `end`, where `indx` begins.

    Raises:
        BitstreamError: The table has another number of entries, or units would overlap or lie behind `end`.
    """
    if not _ENTRY * units <= len(payload) <= 16 * units:
        raise BitstreamError(f"indx: {len(payload)} bytes cannot hold {units} entries of {_ENTRY} to 16 bytes")
    cursor = Cursor(payload, "indx")
    entries: list[tuple[int, GopSpan]] = []
    offset = first = start = 0
    for _ in range(units):
        distance, frames, duration = cursor.varint(), cursor.varint(), read_ticks(cursor, "indx")
        if distance < MIN_CHUNK_BYTES or not 1 <= frames <= MAX_GOP or not duration:
            raise BitstreamError(
                f"indx: entry {len(entries)} is {distance} bytes, {frames} frames, {duration} ticks; each has a least"
            )
        offset += distance
        entries.append((offset, GopSpan(first, frames, start, duration)))
        first, start = first + frames, start + duration
    cursor.end()
    if offset + MIN_CHUNK_BYTES > end:
        raise BitstreamError(f"indx: the last unit would begin at byte {offset}, but the index begins at byte {end}")
    return tuple(entries)
