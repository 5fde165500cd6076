"""What only sound has: its part of `HEAD`, how it is cut into units, and the fields before a unit's coded bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from triode.container.chunks import MAX_VARINT, Cursor, encode_varint
from triode.container.media import Media
from triode.errors import BitstreamError, CodecError, UnsupportedError

__all__ = [
    "LEVELS",
    "MAX_CHANNELS",
    "MAX_CHUNK_FRAMES",
    "MAX_HOP",
    "MAX_RATE",
    "MAX_SAMPLES",
    "ROTATIONS",
    "AudioHead",
    "SoundUnit",
    "pack_audio",
    "pack_sound_unit",
    "read_sound_unit",
    "unpack_audio",
    "unpack_sound_unit",
]

MAX_CHANNELS: Final = 8
MAX_RATE: Final = (1 << 24) - 1
MAX_HOP: Final = 1 << 16
MAX_CHUNK_FRAMES: Final = 1 << 20
MAX_SAMPLES: Final = (1 << 48) - 1
LEVELS: Final = range(-63, 64)
ROTATIONS: Final = range(64)

_CHANNELS_RESERVED = 0xF8
_SHORT = 0x80
_LEVEL_ZERO = 64
_HIGH = 32


@dataclass(frozen=True, slots=True)
class AudioHead:
    """The part of `HEAD` that only sound has.

    Attributes:
        samples: Samples per channel of the recording, 0..2^48-1.
        rate: Samples per second of the recording, 1..2^24-1.
        channels: Channels, 1..8.
        model_rate: Samples per second that the model works at, 1..2^24-1; the recording is resampled where the two
            differ.
        hop: Samples of a frame at the model's rate, 1..65536.
        chunk_frames: Frames of a unit, 1..2^20; the last unit may have fewer. It becomes None where the sound fits
            into one unit, since such a sound is not cut; None may also be given, for one unit of any length.
    """

    media: ClassVar[Media] = Media.AUDIO

    samples: int
    rate: int
    channels: int
    model_rate: int
    hop: int
    chunk_frames: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges and normalise `chunk_frames`."""
        for name, value, low, high in (
            ("samples", self.samples, 0, MAX_SAMPLES),
            ("sample rate", self.rate, 1, MAX_RATE),
            ("channels", self.channels, 1, MAX_CHANNELS),
            ("sample rate of the model", self.model_rate, 1, MAX_RATE),
            ("samples a frame", self.hop, 1, MAX_HOP),
            ("frames a chunk", self.chunk_frames or 1, 1, MAX_CHUNK_FRAMES),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low}..{high}, got {value}")
        if self.chunk_frames is not None and self.frames <= self.chunk_frames:
            object.__setattr__(self, "chunk_frames", None)
        if self.units > MAX_VARINT:
            raise ValueError(f"a sound is cut into at most {MAX_VARINT} units, got {self.units}")

    @property
    def model_samples(self) -> int:
        """Samples per channel at the model's rate."""
        return -(-self.samples * self.model_rate // self.rate)

    @property
    def frames(self) -> int:
        """Frames of the whole sound; the last may be padded."""
        return -(-self.model_samples // self.hop)

    @property
    def units(self) -> int:
        """Number of units: chunks of the sound, at least 1."""
        return 1 if self.chunk_frames is None else -(-self.frames // self.chunk_frames)

    @property
    def single(self) -> bool:
        """Whether the sound is one unit, whole."""
        return self.chunk_frames is None

    def unit_frames(self, index: int) -> int:
        """Return the number of frames of unit `index`, 0 only where there are no samples.

        Raises:
            IndexError: `index` is not in `0..units-1`.
        """
        if not 0 <= index < self.units:
            raise IndexError(f"unit {index} is out of range: the sound has {self.units}")
        if self.chunk_frames is None:
            return self.frames
        return min(self.chunk_frames, self.frames - index * self.chunk_frames)


@dataclass(frozen=True, slots=True)
class SoundUnit:
    """What the payload of a unit of sound holds.

    Attributes:
        frames: Frames, where the unit is shorter than its stream's chunks; None where it is not, or where the whole
            sound is this unit.
        levels: One for each coded channel: the gain before coding in steps of 1.5 dB, -63..63; None for a channel
            that is silent and has no symbols.
        rotations: One for each pair of channels (0 and 1, 2 and 3, ...): the angle in steps of pi / 64, 0..63; 0 codes
            them as they are, 16 as mid and side.
        coded: Entropy-coded bytes of the channels that are not silent.
    """

    frames: int | None
    levels: tuple[int | None, ...]
    rotations: tuple[int, ...]
    coded: bytes

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.frames is not None and not 1 <= self.frames <= MAX_CHUNK_FRAMES:
            raise ValueError(f"frames must be 1..{MAX_CHUNK_FRAMES}, got {self.frames}")
        if not 1 <= len(self.levels) <= MAX_CHANNELS or len(self.rotations) != len(self.levels) // 2:
            raise ValueError(f"{len(self.levels)} levels and {len(self.rotations)} rotations fit no sound")
        for level in self.levels:
            if level is not None and level not in LEVELS:
                raise ValueError(f"a level must be {LEVELS[0]}..{LEVELS[-1]}, got {level}")
        for rotation in self.rotations:
            if rotation not in ROTATIONS:
                raise ValueError(f"a rotation must be 0..{ROTATIONS[-1]}, got {rotation}")


def pack_audio(head: AudioHead) -> bytes:
    """Return the media part of `HEAD`."""
    parts = [
        bytes((head.channels - 1,)),
        encode_varint(head.rate),
        encode_varint(head.model_rate),
        encode_varint(head.hop),
        encode_varint(head.samples & MAX_VARINT),
        encode_varint(head.samples >> _HIGH),
    ]
    if head.chunk_frames is not None:
        parts.append(encode_varint(head.chunk_frames))
    return b"".join(parts)


def unpack_audio(cursor: Cursor, *, single: bool) -> AudioHead:
    """Read the media part of `HEAD`.

    Raises:
        UnsupportedError: A reserved bit is set.
        BitstreamError: The fields end early, or break a rule of the format.
        ValueError: A field is out of its range.
    """
    channels = cursor.u8()
    if channels & _CHANNELS_RESERVED:
        raise UnsupportedError(
            f"HEAD: reserved bits of the channels byte {channels:#04x} are set; a newer version made this"
        )
    rate, model_rate, hop = cursor.varint(), cursor.varint(), cursor.varint()
    samples = cursor.varint() | cursor.varint() << _HIGH
    chunk_frames = None if single else cursor.varint()
    if chunk_frames == 0:
        raise BitstreamError("HEAD: a chunk of 0 frames")
    head = AudioHead(samples, rate, channels + 1, model_rate, hop, chunk_frames)
    if head.single and not single:
        raise BitstreamError(f"HEAD: a sound of {head.frames} frames fits into one unit, but SINGLE is not set")
    return head


def pack_sound_unit(unit: SoundUnit) -> bytes:
    """Return the payload of a unit of sound."""
    levels = bytearray(0 if level is None else level + _LEVEL_ZERO for level in unit.levels)
    frames = b""
    if unit.frames is not None:
        levels[0] |= _SHORT
        frames = encode_varint(unit.frames)
    return bytes(levels) + frames + bytes(unit.rotations) + unit.coded


def unpack_sound_unit(payload: bytes, channels: int) -> SoundUnit:
    """Read the payload of a unit of sound that has this many channels.

    Raises:
        UnsupportedError: A reserved bit is set.
        BitstreamError: The payload is too short, or a field is out of its range.
    """
    cursor = Cursor(payload, "DATA")
    levels = list(cursor.take(channels))
    short = levels[0] & _SHORT
    levels[0] &= ~_SHORT
    if any(level & _SHORT for level in levels):
        raise UnsupportedError("DATA: reserved bits of a level are set; a newer version made this")
    frames = cursor.varint() if short else None
    rotations = tuple(cursor.take(channels // 2))
    if any(rotation not in ROTATIONS for rotation in rotations):
        raise UnsupportedError("DATA: reserved bits of a rotation are set; a newer version made this")
    steps = tuple(level - _LEVEL_ZERO if level else None for level in levels)
    try:
        return SoundUnit(frames, steps, rotations, cursor.rest())
    except CodecError:
        raise
    except ValueError as error:
        raise BitstreamError(f"DATA: {error}") from error


def read_sound_unit(payload: bytes, head: AudioHead, index: int) -> SoundUnit:
    """Read the payload of unit `index` of a file, whose number of frames `HEAD` says.

    Raises:
        UnsupportedError: A reserved bit is set.
        BitstreamError: The payload is too short, a field is out of its range, or the number of frames is another.
    """
    unit = unpack_sound_unit(payload, head.channels)
    expected = head.unit_frames(index)
    found = unit.frames
    if found != (None if expected == head.chunk_frames or head.single else expected):
        said = "is not marked as short" if found is None else f"says that it has {found} frames"
        raise BitstreamError(f"DATA: unit {index} {said}, but by HEAD it has {expected}")
    return unit
