"""Sound: recordings in, ``.tri`` bytes out, and back, whole, in parts, or block by block in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from triode.codecs.chunks import Chunking, decoding_memory
from triode.codecs.search import POINTS, largest_point, quality_to_point
from triode.codecs.sound_decoding import SoundBlocks, SoundDecoding
from triode.codecs.sound_encoding import (
    BLOCK,
    CodedSound,
    EncodedSound,
    SoundEncoding,
    SoundSource,
    blocks_of,
    chunk_frames,
    length_of,
)
from triode.codecs.sound_info import AudioInfo, describe
from triode.codecs.sources import check_identity, model_of, open_source, rewindable
from triode.codecs.spool import SampleSpool, UnitSpool
from triode.codecs.streaming import StreamDecoder, StreamEncoder, StreamFormat
from triode.codecs.tags import pack_tags, unpack_tags
from triode.container import MAX_RATE, ContainerReader, DecodeLimits
from triode.errors import CodecError, LimitExceededError
from triode.media import Sound, Tags
from triode.models.base import AudioModel
from triode.models.weights import Loaded, default_weights, load_weights

__all__ = ["CHUNK_SECONDS", "AudioCodec", "AudioInfo", "EncodedSound", "SoundBlocks", "SoundSource"]

Samples = NDArray[np.float32]
Progress = Callable[[float], None]

CHUNK_SECONDS: Final = 2.0
"""About how long chunks are: the unit of seeking, of loss, and of what must be read to hear anything.

A second is 4 to 8 % more bytes and takes 1.5 times as long (``benchmarks/audio_speed.py``).
"""
_SECONDS_MOST: Final = 3600
_PROBES: Final = 7


class AudioCodec:
    """Encodes and decodes recordings of 1 to 8 channels at any sample rate and of any length.

    Args:
        model: Weights, their name, or the path of a ``.safetensors``; when absent, the default to encode, and what the
            stream says to decode.
        limits: What a stream may ask for when decoding.
        chunk_seconds: About how long the units are that are encoded, up to an hour; rounded to what the model takes.

    Raises:
        ValueError: If the chunks are no duration.
    """

    def __init__(
        self,
        model: str | Loaded[AudioModel] | None = None,
        *,
        limits: DecodeLimits | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        if not 0 < chunk_seconds <= _SECONDS_MOST:
            raise ValueError(f"Argument `chunk_seconds` must be in (0, {_SECONDS_MOST}], but got {chunk_seconds}")
        self._model = model
        self._limits = limits or DecodeLimits()
        self._seconds = chunk_seconds

    def encode(
        self,
        sound: Sound | SoundSource,
        target: BinaryIO | None = None,
        *,
        quality: float | None = None,
        kbps: float | None = None,
        size: int | None = None,
        tags: Tags | None = None,
        progress: Progress | None = None,
    ) -> EncodedSound:
        """Encode a recording.

        Args:
            sound: A recording, or a source that is read to its end block by block.
            target: Binary file that is written, which need not seek; when absent, the result has the bytes.
            quality: 0 to 100; 50 when nothing is asked for.
            kbps: Largest rate, in thousand bits of the file over seconds; the best quality below it is searched.
            size: The same in bytes.
            tags: What the file shall say of the recording; None for what a :class:`~triode.media.Sound` says itself.
            progress: Called with the share done, 0 to 1.

        Returns:
            The file and how it came out.

        Raises:
            ValueError: If more than one target is given or one is out of range, or a tag has no valid key.
            UnsupportedError: If no rate point reaches the target, or the recording cannot be coded.
            ModelMismatchError: If the weights are missing.
            CodecError: What reading the source raises.
        """
        if sum(t is not None for t in (quality, kbps, size)) > 1:
            raise ValueError("Give at most one of quality, kbps and size")
        for name, bound in (("kbps", kbps), ("size", size)):
            if bound is not None and not 0 < bound < math.inf:
                raise ValueError(f"Argument `{name}` must be positive and finite, but got {bound}")
        point = quality_to_point(50 if quality is None else quality)
        if tags is None:
            tags = sound.tags if isinstance(sound, Sound) else ()
        weights = self._weights(sound.rate, sound.channels)
        job = SoundEncoding(weights, sound.rate, sound.channels, self._seconds, pack_tags(tags))
        with ExitStack() as spools:
            if kbps is None and size is None:
                spool = spools.enter_context(UnitSpool())
                return job.run(_watched(blocks_of(sound), length_of(sound), progress), point, spool).write(target)
            again, samples = _replay(sound, spools)
            probes = 0

            def probe(point: int) -> CodedSound:
                nonlocal probes
                coded = job.run(again(), point, spools.enter_context(UnitSpool()))
                probes += 1
                if progress:
                    progress(probes / (_PROBES + 1))
                return coded

            budget = size if size is not None else (kbps or 0.0) * 125 * samples / sound.rate
            result = largest_point(probe, CodedSound.size, budget, POINTS).write(target)
        if progress:
            progress(1.0)
        return result

    def decode(
        self,
        source: bytes | BinaryIO,
        *,
        start: int = 0,
        stop: int | None = None,
        rate: int | None = None,
        conceal: bool = False,
        progress: Progress | None = None,
    ) -> Sound:
        """Decode a file or a part of it into memory; see :meth:`blocks` for arguments and errors.

        Returns:
            The recording: of exactly as many samples as were encoded, at their rate, unless `rate` says another. A part
            has the very samples that the whole has there.
        """
        blocks = self.blocks(source, start=start, stop=stop, rate=rate, conceal=conceal, progress=progress)
        self._limits.check_memory_bytes(8 * blocks.channels * blocks.samples, "the decoded samples")
        samples = np.concatenate([np.zeros((blocks.channels, 0), np.float32), *blocks], axis=1)
        return Sound(samples, blocks.rate, blocks.tags)

    def blocks(
        self,
        source: bytes | BinaryIO,
        *,
        start: int = 0,
        stop: int | None = None,
        rate: int | None = None,
        conceal: bool = False,
        progress: Progress | None = None,
    ) -> SoundBlocks:
        """Decode a file or a part of it block by block.

        Args:
            source: Its bytes, or a binary file object, which need not seek; a part of one that can is found by the
                file's index.
            start: The first sample wanted, at the rate of the output.
            stop: The sample after the last one wanted; None, or more than there are, for the end.
            rate: Samples per second to resample to; None for the recording's own.
            conceal: Whether chunks that are damaged or missing are concealed, with a warning, rather than an error;
                needs a source that can seek.
            progress: Called with the share done, 0 to 1.

        Returns:
            An iterable of blocks, which can be gone through once.

        Raises:
            ValueError: If the part or the rate is none.
            CodecError: If the file is damaged, exceeds the limits, or its model is not here; going through the blocks
                may raise it too, and names the chunk.
        """
        reader = ContainerReader(open_source(source), self._limits)
        decoding, head = self._decoding(reader, conceal=conceal), reader.head.audio
        if rate is not None and not 1 <= rate <= MAX_RATE:
            raise ValueError(f"Argument `rate` must be in 1..{MAX_RATE}, but got {rate}")
        total = -(-head.samples * (rate or head.rate) // head.rate)
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"Arguments `start` and `stop` must be a range, but got {start} and {stop}")
        part = (min(start, total), total if stop is None else min(stop, total))
        tags = _tags(reader, lenient=conceal)
        return SoundBlocks(decoding, rate or head.rate, *part, whole=part == (0, total), tags=tags, progress=progress)

    def info(self, source: bytes | BinaryIO) -> AudioInfo:
        """Read what a file says of itself; loads no model and decodes nothing.

        Raises:
            CodecError: If the file is damaged or exceeds the limits.
        """
        return describe(ContainerReader(rewindable(source, self._limits), self._limits))

    def verify(self, source: bytes | BinaryIO) -> AudioInfo:
        """Decode the symbols of every unit and check every checksum; makes no samples.

        Raises:
            CodecError: If anything does not check.
        """
        reader = ContainerReader(rewindable(source, self._limits), self._limits)
        for _ in self._decoding(reader).chunks(0, reader.head.units - 1, whole=True):
            pass
        return describe(reader)

    def stream_encoder(self, rate: int, channels: int, *, quality: float = 50) -> StreamEncoder:
        """Begin to encode a stream.

        Raises:
            ValueError: If the quality is out of range.
            UnsupportedError: If sound of this rate or number of channels cannot be coded.
            ModelMismatchError: If the weights are missing.
        """
        weights = self._weights(rate, channels)
        return StreamEncoder(
            weights, rate, channels, quality_to_point(quality), chunk_frames(weights.model, self._seconds)
        )

    def stream_decoder(self, fmt: StreamFormat, *, conceal: bool = False) -> StreamDecoder:
        """Begin to decode a stream; the arguments are those of :class:`StreamDecoder`.

        Raises:
            ModelMismatchError: If the weights are missing, or others than the encoder's.
            UnsupportedError: If the format cannot be decoded.
            LimitExceededError: If it asks for more than the limits.
        """
        weights = self._weights_of(fmt.model)
        return StreamDecoder(weights, fmt, conceal=conceal, limits=self._limits)

    def _weights(self, rate: int, channels: int) -> Loaded[AudioModel]:
        """Find the weights to encode a sound with."""
        if isinstance(self._model, Loaded):
            return self._model
        return _load(self._model or default_weights("audio", rate=rate, channels=channels))

    def _weights_of(self, said: str) -> Loaded[AudioModel]:
        """Find the weights to decode with, where a file or a stream `said` which."""
        return self._model if isinstance(self._model, Loaded) else _load(model_of(said, self._model))

    def _decoding(self, reader: ContainerReader, *, conceal: bool = False) -> SoundDecoding:
        """Find the weights of a file, and check that they and this release can decode it."""
        head = reader.head.audio
        weights = self._weights_of(reader.head.model)
        check_identity(reader.head, weights.info, "samples", stacklevel=3)
        chunking = Chunking.of_file(weights.model, head)
        self._limits.check_memory_bytes(decoding_memory(chunking, head.channels), "decoding")
        return SoundDecoding(weights.model, reader, chunking, conceal=conceal)


def _load(name: str) -> Loaded[AudioModel]:
    return load_weights(name, AudioModel)  # type: ignore[type-abstract]  # what it is compared with


def _tags(reader: ContainerReader, *, lenient: bool) -> Tags:
    """Read the tags of a file; `lenient` says that there are none where they are damaged."""
    try:
        return unpack_tags(reader.metadata.text)
    except LimitExceededError:
        raise
    except CodecError:
        if not lenient:
            raise
        return ()


def _replay(sound: Sound | SoundSource, stack: ExitStack) -> tuple[Callable[[], Iterator[Samples]], int]:
    """Return what goes through a recording, as often as it is called, and the samples per channel."""
    if isinstance(sound, Sound):
        return partial(blocks_of, sound), sound.samples.shape[1]
    spool = stack.enter_context(SampleSpool(sound.channels))
    spool.fill(blocks_of(sound))
    return partial(spool.blocks, BLOCK), spool.samples


def _watched(blocks: Iterator[Samples], length: int | None, progress: Progress | None) -> Iterator[Samples]:
    """Pass blocks on, and tell how many samples of `length` are through."""
    done = 0
    for block in blocks:
        yield block
        done += block.shape[1]
        if progress and length:
            progress(min(1.0, done / length))
    if progress:
        progress(1.0)
