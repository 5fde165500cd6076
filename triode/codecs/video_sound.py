"""The sound of a video: packets on their way into its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from triode.codecs.search import quality_to_point
from triode.codecs.sound_encoding import BLOCK, SoundSource, chunk_frames
from triode.codecs.sources import model_of
from triode.codecs.streaming import StreamDecoder, StreamFormat, UnitStream
from triode.codecs.video_decoding import ClipFrames
from triode.container import DecodeLimits, Packet, SoundTrack, TrackMethod, Unit, pack_packet, unpack_packet
from triode.container.track import TriodeSound, pack_triode_sound, unpack_triode_sound
from triode.errors import UnsupportedError
from triode.media import Sound, SoundPacket
from triode.models.base import AudioModel
from triode.models.weights import Loaded, default_weights, load_weights

__all__ = ["CopiedSound", "DecodedSound", "PacketSource", "SoundOfVideo", "TriodeSoundDecoder", "TriodeSoundOfVideo"]
__all__ += ["decode_triode_sound"]

Samples = NDArray[np.float32]

_MOST_LEAD: Final = (1 << 32) - 1


class PacketSource(Protocol):
    """What gives the coded packets of a recording, such as `triode.io.tracks.PacketReader`.

    Attributes:
        tick: Seconds of a tick.
        lead: Ticks from the first packet to the first frame of the video, 0 if the packet is the later one.
        header: Matroska file with the track and its first packet.
    """

    tick: Fraction
    lead: int
    header: bytes

    def until(self, seconds: Fraction | None) -> list[SoundPacket]:
        """Return the next packets, those that begin before a time, or all that are left where it is None."""


class SoundOfVideo(Protocol):
    """What gives a video's sound group by group.

    Attributes:
        track: What the file says of it.
    """

    track: SoundTrack

    def until(self, seconds: Fraction | None) -> list[Packet]:
        """Return the next packets, those that begin before a time, or all that are left where it is None."""


class CopiedSound:
    """Packets as they are.

    Args:
        source: What gives them.
    """

    def __init__(self, source: PacketSource) -> None:
        self._source = source
        self._lead = min(source.lead, _MOST_LEAD)
        self.track = SoundTrack(TrackMethod.COPIED, Fraction(source.tick), source.header, self._lead)

    def until(self, seconds: Fraction | None) -> list[Packet]:
        """Return the next packets."""
        packets = self._source.until(seconds)
        try:
            return [Packet(max(p.time + self._lead, 0), _known(p.duration), p.data) for p in packets]
        except ValueError as error:
            raise UnsupportedError(f"the sound of this video cannot be held: {error}") from error


def _known(duration: int) -> int:
    """Return a duration that the format holds, 0 where it is none."""
    return duration if 0 <= duration <= _MOST_LEAD else 0


class TriodeSoundOfVideo:
    """Sound that is coded by a model on its way; it begins with the first frame.

    Args:
        weights: Model and name.
        source: The samples.
        point: Rate point, 0 to 63.
        seconds: About how long the packets are.
    """

    def __init__(self, weights: Loaded[AudioModel], source: SoundSource, point: int, seconds: float = 1.0) -> None:
        model, info = weights.model, weights.info
        frames = chunk_frames(model, seconds)
        self._source = source
        self._stream = UnitStream(model, source.rate, source.channels, point, frames)
        self._tick = Fraction(frames * model.hop, model.sample_rate)
        self._units: list[Unit] = []
        self._ended = False
        digests = (bytes.fromhex(info.entropy_digest)[:4], bytes.fromhex(info.synthesis_digest)[:4])
        sound = TriodeSound(info.name, *digests, source.channels, source.rate, frames)
        self.track = SoundTrack(TrackMethod.TRIODE, self._tick, pack_triode_sound(sound))

    @classmethod
    def of(cls, source: SoundSource, quality: float | None = None) -> Self:
        """Return the sound of a source, coded by the default weights for it.

        Args:
            source: The samples.
            quality: 0 to 100; 50 when nothing is asked for.

        Raises:
            ModelMismatchError: If there are no weights for sound.
            UnsupportedError: If there are too many channels.
        """
        name = default_weights("audio", rate=source.rate, channels=source.channels)
        weights = load_weights(name, AudioModel)  # type: ignore[type-abstract]
        return cls(weights, source, quality_to_point(50 if quality is None else quality))

    def until(self, seconds: Fraction | None) -> list[Packet]:
        """Return the next packets."""
        packets: list[Packet] = []
        while (unit := self._next(seconds)) is not None:
            packets.append(Packet(unit.index, 1, pack_packet(unit)))
        return packets

    def _next(self, seconds: Fraction | None) -> Unit | None:
        """Return the next unit, if it begins before a time."""
        while not self._units and not self._ended:
            block = self._source.read(BLOCK)
            self._ended = not block.shape[1]
            self._units += self._stream.finish() if self._ended else self._stream.push(block)
        due = self._units and (seconds is None or self._units[0].index * self._tick < seconds)
        return self._units.pop(0) if due else None


class TriodeSoundDecoder:
    """Decodes sound that Triode coded, packet by packet; packets that are missing among the others are concealed.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.
        start: When the first sample is heard, in seconds since the first frame of the video; 0 before a packet.

    Args:
        track: What the video says of it.
        weights: Model and name; None for what the track names.
        limits: What the packets may ask for.

    Raises:
        UnsupportedError: If the sound was copied.
        ModelMismatchError: If the weights are missing, or others than the encoder's.
        CodecError: If the track is damaged.
    """

    def __init__(
        self, track: SoundTrack, weights: Loaded[AudioModel] | None = None, *, limits: DecodeLimits | None = None
    ) -> None:
        if track.method is not TrackMethod.TRIODE:
            raise UnsupportedError("the sound of this video was copied: another codec decodes it")
        said, self._limits = unpack_triode_sound(track.codec), limits or DecodeLimits()
        if weights is None:
            weights = load_weights(model_of(said.model, None), AudioModel)  # type: ignore[type-abstract]
        fmt = StreamFormat(said.model, said.entropy_digest, said.rate, said.channels, said.chunk_frames)
        self._decoder = StreamDecoder(weights, fmt, conceal=True, limits=self._limits)
        self.rate, self.channels, self.start = said.rate, said.channels, Fraction(0)
        self._tick = track.tick
        self._first: int | None = None

    def push(self, packets: Sequence[SoundPacket]) -> Samples:
        """Take the next packets; return the samples (C, T) float32 that are complete with them.

        Raises:
            CodecError: If a packet is damaged.
        """
        blocks = [np.zeros((self.channels, 0), np.float32)]
        for packet in packets:
            unit = unpack_packet(packet.data, self._limits)
            if self._first is None:
                # The time of a packet of a part is rounded to ticks, and these are long.
                self._first, self.start = unit.index, unit.index * self._tick
            # A part counts from its own first packet.
            moved = replace(unit, index=max(unit.index - self._first, 0))
            blocks.append(self._decoder.push(pack_packet(moved)))
        return np.concatenate(blocks, axis=1)

    def finish(self) -> Samples:
        """Return the samples that are left; the last frame of the model may end in some silence."""
        return self._decoder.finish()


class DecodedSound:
    """The sound of frames that are being decoded, which Triode coded, as samples.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.

    Args:
        frames: The frames, of which nobody else takes the packets.
        weights: Model and name; None for what the video names.
        limits: What the packets may ask for.

    Raises:
        UnsupportedError: If there is no sound that Triode coded.
        CodecError: As :class:`TriodeSoundDecoder`.
    """

    def __init__(
        self, frames: ClipFrames, weights: Loaded[AudioModel] | None = None, *, limits: DecodeLimits | None = None
    ) -> None:
        if frames.track is None:
            raise UnsupportedError("there is no sound in this video")
        self._frames, self._decoder = frames, TriodeSoundDecoder(frames.track, weights, limits=limits)
        self.rate, self.channels = self._decoder.rate, self._decoder.channels
        self._ended = False

    @property
    def start(self) -> Fraction:
        """When the first sample is heard, in seconds since the first frame; 0 before there is one."""
        return self._decoder.start - self._frames.begin

    def take(self) -> Samples:
        """Return the samples (C, T) float32 that came with the frames since the last call."""
        samples = self._decoder.push(self._frames.take_packets())
        if self._frames.ended and not self._ended:
            self._ended = True
            samples = np.concatenate([samples, self._decoder.finish()], axis=1)
        return samples


def decode_triode_sound(
    track: SoundTrack,
    packets: Sequence[SoundPacket],
    weights: Loaded[AudioModel] | None = None,
    *,
    limits: DecodeLimits | None = None,
) -> Sound:
    """Decode sound that Triode coded; packets that are missing among the others are concealed.

    Args:
        track: What the video says of it.
        packets: Its packets, or those of a part of it.
        weights: Model and name; None for what the track names.
        limits: What the packets may ask for.

    Returns:
        The sound, which begins when the first packet does. The last frame of the model may end in some silence.

    Raises:
        UnsupportedError: If the sound was copied.
        ModelMismatchError: If the weights are missing, or others than the encoder's.
        CodecError: If the track or a packet is damaged.
    """
    decoder = TriodeSoundDecoder(track, weights, limits=limits)
    limits = limits or DecodeLimits()
    blocks: list[Samples] = []
    size = 0
    for packet in packets:
        blocks.append(decoder.push([packet]))
        size += blocks[-1].nbytes
        limits.check_memory_bytes(2 * size, "the decoded samples")
    blocks.append(decoder.finish())
    return Sound(np.concatenate(blocks, axis=1), decoder.rate)
