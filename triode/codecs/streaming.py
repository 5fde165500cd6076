"""Sound that is encoded while it is recorded, and decoded while it arrives.

A stream encoder takes samples and gives packets; a stream decoder takes packets and gives samples. Both keep the state
between calls, and give what a file gives: its units and its samples, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triode.codecs.chunk_decoder import ChunkDecoder
from triode.codecs.chunk_encoder import ChunkEncoder
from triode.codecs.chunks import Chunk, Chunking, decode_chunk, decoding_memory
from triode.codecs.resample import StreamResampler
from triode.container import (
    MAX_CHANNELS,
    MAX_RATE,
    AudioHead,
    DecodeLimits,
    Unit,
    pack_packet,
    unpack_packet,
    unpack_sound_unit,
)
from triode.errors import BitstreamError, CodecError, LimitExceededError, ModelMismatchError, UnsupportedError
from triode.models.base import AudioModel
from triode.models.weights import Loaded

__all__ = ["StreamDecoder", "StreamEncoder", "StreamFormat", "UnitStream"]

Samples = NDArray[np.float32]

_LOUDEST = 1 << 16
_LOST_MOST = 64


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What a decoder of packets must know beforehand.

    Attributes:
        model: Name of the weights.
        entropy_digest: First 4 bytes of their entropy digest.
        rate: Samples per second of the sound.
        channels: Number of channels.
        chunk_frames: Frames of a packet, the last aside.
    """

    model: str
    entropy_digest: bytes
    rate: int
    channels: int
    chunk_frames: int


class UnitStream:
    """Samples at any rate in, units of their chunks out.

    Args:
        model: The model.
        rate: Samples per second of what is pushed.
        channels: Number of channels.
        point: Rate point, 0 to 63.
        chunk_frames: Frames of a chunk.

    Raises:
        UnsupportedError: If the rate, the channels or the chunks cannot be coded.
    """

    def __init__(self, model: AudioModel, rate: int, channels: int, point: int, chunk_frames: int) -> None:
        _check_sound(rate, channels)
        self._model, self._rate, self._channels = model, rate, channels
        self._chunking = Chunking.of(model, chunk_frames)
        self._resampler = StreamResampler(rate, model.sample_rate, channels)
        self._encoder = ChunkEncoder(model, channels, point, self._chunking)
        self._samples = 0

    @property
    def head(self) -> AudioHead:
        """What a file of the samples so far says of them."""
        model = self._model
        return AudioHead(self._samples, self._rate, self._channels, model.sample_rate, model.hop, self._chunking.frames)

    @property
    def latency(self) -> int:
        """Most samples between the first one of a chunk and the one that completes its unit."""
        chunks = (1 + self._chunking.ahead_to_encode) * self._chunking.samples
        core = self._resampler.core
        if core.source == core.target:
            return chunks
        return math.ceil((chunks + core.block) * core.source / core.target) + core.reach + 1

    def push(self, x: Samples) -> list[Unit]:
        """Take the next samples.

        Args:
            x: (C, T) float32; T may be 0.

        Returns:
            The units that are complete with them.

        Raises:
            ValueError: If the shape is another.
            UnsupportedError: If samples are infinite, no number, or beyond +-65536.
        """
        if x.ndim != 2 or x.shape[0] != self._channels or x.dtype != np.float32:
            raise ValueError(f"Samples must be ({self._channels}, T) float32, but got {x.shape} {x.dtype}")
        if not np.abs(x).max(initial=0) <= _LOUDEST:
            raise UnsupportedError(f"Samples must be numbers within +-{_LOUDEST}")
        self._samples += x.shape[1]
        return self._encoder.push(self._resampler.push(x))

    def finish(self) -> list[Unit]:
        """Return the units that are left; none at all where there were no samples."""
        head = self.head
        # Frames are filled with what the resampling filter gives after the end.
        count = self._chunking.padded(head.frames) * head.hop
        return self._encoder.finish(self._resampler.finish(count), head.model_samples)


class StreamEncoder:
    """Encodes a sound piece by piece: push samples, get packets.

    Args:
        weights: Model and name.
        rate: Samples per second, 1 to 2^24-1.
        channels: Channels, 1 to 8.
        point: Rate point, 0 to 63.
        chunk_frames: Frames of a packet, a multiple of the model's.

    Raises:
        UnsupportedError: If the rate, the channels or the chunks cannot be coded.
    """

    def __init__(self, weights: Loaded[AudioModel], rate: int, channels: int, point: int, chunk_frames: int) -> None:
        self._units = UnitStream(weights.model, rate, channels, point, chunk_frames)
        digest = bytes.fromhex(weights.info.entropy_digest)[:4]
        self._format = StreamFormat(weights.info.name, digest, rate, channels, chunk_frames)
        self._finished = False

    @property
    def format(self) -> StreamFormat:
        """What the decoder must know."""
        return self._format

    @property
    def latency(self) -> int:
        """Most samples between the first one that a packet stands for and the one that completes the packet."""
        return self._units.latency

    def push(self, samples: Samples) -> list[bytes]:
        """Take the next samples.

        Args:
            samples: (C, T) float32, nominally in [-1, 1]; T may be 0.

        Returns:
            The packets that are complete with them.

        Raises:
            ValueError: If the shape is another, or the stream is finished.
            UnsupportedError: If samples are infinite, no number, or beyond +-65536.
        """
        self._require_open()
        return [pack_packet(unit) for unit in self._units.push(samples)]

    def finish(self) -> list[bytes]:
        """Return the packets that are left.

        Raises:
            ValueError: If the stream is finished.
        """
        self._require_open()
        self._finished = True
        return [pack_packet(unit) for unit in self._units.finish()]

    def _require_open(self) -> None:
        if self._finished:
            raise ValueError("The stream is finished")


class StreamDecoder:
    """Decodes a sound packet by packet.

    Args:
        weights: Model and name.
        fmt: The encoder's format.
        conceal: Whether lost and damaged packets are concealed, rather than an error.
        limits: What a packet may ask for.

    Raises:
        ModelMismatchError: If the stream was coded with another model.
        UnsupportedError: If the format cannot be decoded.
        LimitExceededError: If it asks for more than the limits.
    """

    def __init__(
        self,
        weights: Loaded[AudioModel],
        fmt: StreamFormat,
        *,
        conceal: bool = False,
        limits: DecodeLimits | None = None,
    ) -> None:
        if bytes.fromhex(weights.info.entropy_digest)[: len(fmt.entropy_digest)] != fmt.entropy_digest:
            raise ModelMismatchError(
                f"The stream was coded with {fmt.model} of entropy digest {fmt.entropy_digest.hex()}; "
                f"the weights {weights.info.name} here have another"
            )
        self._limits = limits or DecodeLimits()
        self._limits.check_channels(fmt.channels)
        self._model, self._format, self._conceal = weights.model, fmt, conceal
        _check_sound(fmt.rate, fmt.channels)
        self._chunking = Chunking.of(weights.model, fmt.chunk_frames)
        self._limits.check_memory_bytes(decoding_memory(self._chunking, fmt.channels), "decoding")
        self._decoder = ChunkDecoder(weights.model, fmt.channels, self._chunking)
        self._resampler = StreamResampler(weights.model.sample_rate, fmt.rate, fmt.channels)
        self._next = 0
        self._frames = 0
        self._lost: list[int] = []
        self._ended = self._finished = False

    @property
    def latency(self) -> int:
        """Most samples by which the output stays behind the packets that were pushed."""
        chunks = self._chunking.ahead_to_decode * self._chunking.samples
        core = self._resampler.core
        if core.source == core.target:
            return chunks
        return math.ceil((chunks + core.reach) * core.target / core.source) + core.block + 1

    @property
    def lost(self) -> tuple[int, ...]:
        """Numbers of the packets that were concealed."""
        return tuple(self._lost)

    def push(self, packet: bytes | None) -> Samples:
        """Take the next packet.

        Args:
            packet: Its bytes; None for one that is known to be lost. Others that are missing show by the number of the
                one that comes after them.

        Returns:
            (C, T) float32: the samples that are complete with it. A packet that comes too late gives none.

        Raises:
            BitstreamError: If it is damaged, or packets before it are missing, unless that is concealed; if it comes
                after the last, or more than 64 packets are missing.
            CodecError: If it asks for what is not supported or allowed.
            ValueError: If the stream is finished.
        """
        if self._finished:
            raise ValueError("The stream is finished")
        if self._ended:
            raise BitstreamError(f"a packet after the last, which was chunk {self._next - 1}")
        out = [np.zeros((self._format.channels, 0), dtype=np.float32)]
        for chunk in self._chunks(packet):
            if chunk.lost:
                self._lost.append(chunk.index)
            self._next, self._frames = chunk.index + 1, self._frames + chunk.frames
            out += [self._resampler.push(x) for x in self._decoder.push(chunk)]
        return np.concatenate(out, axis=1)

    def finish(self, samples: int | None = None) -> Samples:
        """Return what is left.

        Args:
            samples: Samples of the whole sound, per channel; None if not known: then the last frame may end in some
                that the encoder never saw.

        Returns:
            (C, T) float32.

        Raises:
            ValueError: If the stream is finished, or holds fewer samples.
        """
        if self._finished:
            raise ValueError("The stream is finished")
        most = self._frames * self._chunking.hop * self._format.rate // self._model.sample_rate
        if samples is not None and not 0 <= samples <= most:
            raise ValueError(f"Argument `samples` must be in 0..{most} for these packets, but got {samples}")
        self._finished = True
        count, before = most if samples is None else samples, self._resampler.made
        out = [self._resampler.push(x) for x in self._decoder.finish()]
        tail = self._resampler.finish(max(count, self._resampler.made))
        left: Samples = np.concatenate([*out, tail], axis=1)[:, : max(count - before, 0)]
        return left

    def _chunks(self, packet: bytes | None) -> Iterator[Chunk]:
        """Yield the chunk of a packet, and before it those that are missing."""
        try:
            chunk, last = (None, False) if packet is None else self._read(packet)
        except LimitExceededError:
            raise
        except CodecError as error:
            if not self._conceal:
                raise type(error)(f"the packet expected to be chunk {self._next}: {error}") from error
            chunk, last = None, False
        if chunk is None:
            if not self._conceal:
                raise BitstreamError(f"chunk {self._next} is missing")
            yield self._missing(self._next)
            return
        if chunk.index < self._next:
            if not self._conceal:
                raise BitstreamError(f"chunk {chunk.index} comes after chunk {self._next - 1}")
            return
        if chunk.index > self._next and not self._conceal:
            raise BitstreamError(f"chunk {self._next} is missing: found chunk {chunk.index}")
        if chunk.index - self._next > _LOST_MOST:
            raise BitstreamError(f"chunks {self._next} to {chunk.index - 1} are missing, more than can be concealed")
        for index in range(self._next, chunk.index):
            yield self._missing(index)
        self._ended = last
        yield chunk

    def _missing(self, index: int) -> Chunk:
        return Chunk.missing(index, self._chunking.frames, self._format.channels)

    def _read(self, packet: bytes) -> tuple[Chunk, bool]:
        """Return the chunk of a packet, and whether it is marked as the last."""
        unit = unpack_packet(packet, self._limits)
        sound = unpack_sound_unit(unit.payload, self._format.channels)
        full = self._chunking.frames
        frames = full if sound.frames is None else sound.frames
        if sound.frames is not None and frames >= full:
            raise BitstreamError(f"a short chunk of {frames} frames, where full ones have {full}")
        chunk = decode_chunk(self._model, unit, sound, self._chunking.padded(frames))
        return chunk, sound.frames is not None


def _check_sound(rate: int, channels: int) -> None:
    if not 1 <= rate <= MAX_RATE or not 1 <= channels <= MAX_CHANNELS:
        raise UnsupportedError(
            f"Sound needs 1 to {MAX_CHANNELS} channels at 1 to {MAX_RATE} Hz, but has {channels} at {rate} Hz"
        )
