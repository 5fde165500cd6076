"""The sound of a video: what the `trak` chunk says of it, and its packets in the units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Final

from triode.container.audio import MAX_CHANNELS, MAX_CHUNK_FRAMES, MAX_RATE
from triode.container.chunks import MAX_VARINT, Cursor, encode_varint
from triode.container.video import MAX_TICKS, pack_ticks, read_ticks
from triode.errors import BitstreamError, CodecError, UnsupportedError

__all__ = ["Packet", "SoundTrack", "TrackMethod", "TriodeSound", "pack_packets", "pack_track", "pack_triode_sound"]
__all__ += ["unpack_packets", "unpack_track", "unpack_triode_sound"]

_WHERE: Final = "trak"
DIGEST_BYTES: Final = 4


class TrackMethod(IntEnum):
    """Whose packets they are: another codec's, or those of Triode."""

    COPIED = 0
    TRIODE = 1


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """What a video says of its sound.

    Attributes:
        method: Whose packets they are.
        tick: Seconds of a tick of the sound; numerator and denominator at most 2^32-1.
        codec: What a decoder must know: a Matroska file of the track and its first packet, or a packed `TriodeSound`.
        lead: Ticks by which the times in the file are later than those in the video's time, 0..2^32-1.
    """

    method: TrackMethod
    tick: Fraction
    codec: bytes
    lead: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.tick.numerator <= MAX_VARINT or self.tick.denominator > MAX_VARINT:
            raise ValueError(f"a tick of {self.tick} s is out of range")
        if not 0 <= self.lead <= MAX_VARINT:
            raise ValueError(f"lead must be 0..{MAX_VARINT}, got {self.lead}")


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of sound.

    Attributes:
        time: Ticks of the sound, `lead` included, 0..2^48-1.
        duration: Ticks that it lasts, 0 where that is not known, to 2^32-1.
        data: Its bytes.
    """

    time: int
    duration: int
    data: bytes

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.time <= MAX_TICKS or not 0 <= self.duration <= MAX_VARINT:
            raise ValueError(f"a packet at {self.time} of {self.duration} ticks is out of range")


def pack_track(track: SoundTrack) -> bytes:
    """Return the payload of `trak`."""
    numbers = (track.tick.numerator, track.tick.denominator, track.lead)
    return bytes((track.method,)) + b"".join(map(encode_varint, numbers)) + track.codec


def unpack_track(payload: bytes) -> SoundTrack:
    """Read the payload of `trak`.

    Raises:
        UnsupportedError: A method that this release does not know.
        BitstreamError: The fields break a rule of the format.
    """
    cursor = Cursor(payload, _WHERE)
    method = cursor.u8()
    if method not in tuple(TrackMethod):
        raise UnsupportedError(f"{_WHERE}: the method {method} is reserved; a newer version made this")
    numerator, denominator, lead = cursor.varint(), cursor.varint(), cursor.varint()
    if not numerator or not denominator or Fraction(numerator, denominator).numerator != numerator:
        raise BitstreamError(f"{_WHERE}: a tick of {numerator}/{denominator} s is not in lowest terms")
    return SoundTrack(TrackMethod(method), Fraction(numerator, denominator), cursor.rest(), lead)


def pack_packets(packets: Iterable[Packet]) -> bytes:
    """Return the packets of a unit as the field of its payload; empty where there are none.

    Raises:
        ValueError: They are not in order, or more than 2^32-1 ticks lie between two.
    """
    parts: list[bytes] = []
    before = 0
    for packet in packets:
        if not parts:
            parts.append(pack_ticks(packet.time))
            before = packet.time
        step = packet.time - before
        parts += [*map(encode_varint, (step, packet.duration, len(packet.data))), packet.data]
        before = packet.time
    return b"".join(parts)


def unpack_packets(sound: bytes) -> tuple[Packet, ...]:
    """Read the packets of a unit.

    Raises:
        BitstreamError: The field ends inside a packet, or a time is out of range.
    """
    if not sound:
        return ()
    cursor = Cursor(sound, "DATA")
    time, packets = read_ticks(cursor), []
    at_first = True
    while cursor.left:
        step, duration = cursor.varint(), cursor.varint()
        if at_first and step:
            raise BitstreamError(f"DATA: the first packet of sound is {step} ticks after itself")
        at_first, time = False, time + step
        try:
            packets.append(Packet(time, duration, cursor.take(cursor.varint())))
        except CodecError:
            raise
        except ValueError as error:
            raise BitstreamError(f"DATA: {error}") from error
    if at_first:
        raise BitstreamError("DATA: a time of sound, and no packet")
    return tuple(packets)


@dataclass(frozen=True, slots=True)
class TriodeSound:
    """What a video says of sound that Triode coded: its `SoundTrack.codec`.

    Attributes:
        model: Name of the weights.
        entropy_digest: First 4 bytes of their entropy digest.
        synthesis_digest: First 4 bytes of the other one.
        channels: Channels, 1..8.
        rate: Samples per second, 1..2^24-1.
        chunk_frames: Frames of a packet, the last aside, 1..2^20.
    """

    model: str
    entropy_digest: bytes
    synthesis_digest: bytes
    channels: int
    rate: int
    chunk_frames: int


def pack_triode_sound(sound: TriodeSound) -> bytes:
    """Return the `codec` of a track of Triode."""
    name = sound.model.encode("ascii")
    digests = sound.entropy_digest + sound.synthesis_digest
    numbers = encode_varint(sound.rate) + encode_varint(sound.chunk_frames)
    return bytes((len(name),)) + name + digests + bytes((sound.channels - 1,)) + numbers


def unpack_triode_sound(codec: bytes) -> TriodeSound:
    """Read the `codec` of a track of Triode.

    Raises:
        BitstreamError: The fields break a rule of the format.
    """
    cursor = Cursor(codec, _WHERE)
    name = cursor.take(cursor.u8())
    entropy, synthesis = cursor.take(DIGEST_BYTES), cursor.take(DIGEST_BYTES)
    channels, rate, frames = cursor.u8() + 1, cursor.varint(), cursor.varint()
    cursor.end()
    if not name.isascii() or not 1 <= len(name) <= 64 or channels > MAX_CHANNELS or not 1 <= rate <= MAX_RATE:
        raise BitstreamError(f"{_WHERE}: a model named {name!r}, {channels} channels, {rate} samples a second")
    if not 1 <= frames <= MAX_CHUNK_FRAMES:
        raise BitstreamError(f"{_WHERE}: packets of {frames} frames; they have 1..{MAX_CHUNK_FRAMES}")
    return TriodeSound(name.decode("ascii"), entropy, synthesis, channels, rate, frames)
