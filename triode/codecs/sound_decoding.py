"""Files to recordings: which chunks a part of a sound needs, and what becomes of those that are damaged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from triode.codecs.chunk_decoder import ChunkDecoder
from triode.codecs.chunks import Chunk, Chunking, decode_chunk
from triode.codecs.resample import Resampler, StreamResampler
from triode.container import ContainerReader, Unit, read_sound_unit
from triode.errors import BitstreamError, CodecError, LimitExceededError
from triode.media import Tags
from triode.models.base import AudioModel

__all__ = ["SoundBlocks", "SoundDecoding"]

Samples = NDArray[np.float32]


class SoundBlocks:
    """The samples of a file or a part of it, decoded while they are gone through.

    Attributes:
        rate: Samples per second.
        channels: Channels.
        samples: Samples per channel in all.
        tags: What the recording says of itself.
        lost: Numbers of the chunks that had to be concealed so far.
    """

    def __init__(
        self,
        decoding: SoundDecoding,
        rate: int,
        start: int,
        stop: int,
        *,
        whole: bool,
        tags: Tags,
        progress: Callable[[float], None] | None,
    ) -> None:
        """Prepare to decode samples `start` to `stop`; `whole` says that this is all of the file."""
        self.rate, self.channels, self.samples = rate, decoding.head.channels, stop - start
        self.tags = tags
        self.lost: list[int] = decoding.lost
        self._blocks = decoding.samples(rate, start, stop, whole=whole)
        self._progress = progress

    def __iter__(self) -> Iterator[Samples]:
        """Yield (C, T) float32 blocks, T of any size but 0."""
        done = 0
        for block in self._blocks:
            done += block.shape[1]
            yield block
            if self._progress:
                self._progress(done / self.samples)
        if self.lost:
            numbers = ", ".join(map(str, self.lost[:10])) + (", ..." if len(self.lost) > 10 else "")
            warnings.warn(f"{len(self.lost)} chunks were lost and are concealed: {numbers}", stacklevel=2)


class SoundDecoding:
    """A file that is decoded.

    Attributes:
        head: What the file says of the sound.
        lost: Numbers of the chunks that had to be concealed so far.

    Args:
        model: The model.
        reader: The file.
        chunking: Its chunks.
        conceal: Whether damaged and missing chunks are concealed.
    """

    def __init__(self, model: AudioModel, reader: ContainerReader, chunking: Chunking, conceal: bool) -> None:
        self.head = reader.head.audio
        self.lost: list[int] = []
        self._model, self._reader, self._chunking, self._conceal = model, reader, chunking, conceal

    def samples(self, rate: int, start: int, stop: int, *, whole: bool) -> Iterator[Samples]:
        """Yield samples `start` to `stop` at a rate."""
        if start == stop and not whole:
            return
        model, chunking, last = self._model, self._chunking, self.head.units - 1
        first, behind = (0, last) if whole else self._reach(rate, start, stop)
        ahead = chunking.ahead_to_decode
        decoder = ChunkDecoder(model, self.head.channels, chunking, first=first)
        resampler = StreamResampler(
            model.sample_rate, rate, self.head.channels, first=start, position=first * chunking.samples
        )

        def resampled(x: Samples) -> Iterator[Samples]:
            made = resampler.made
            y = resampler.push(x)[:, : max(stop - made, 0)]
            if y.shape[1]:
                yield y

        to = min(behind + ahead, last)
        for chunk in self.chunks(max(first - ahead, 0), to, whole=whole):
            for x in decoder.push(chunk):
                yield from resampled(x)
        if to == last:
            for x in decoder.finish():
                yield from resampled(x)
            tail = resampler.finish(max(stop, resampler.made))
            if tail.shape[1]:
                yield tail

    def chunks(self, first: int, last: int, *, whole: bool) -> Iterator[Chunk]:
        """Yield chunks `first` to `last`; of a `whole` file, check that it is complete."""
        if self._conceal:
            yield from self._salvaged(first, last)
            return
        if not whole and self._reader.indexed:
            for index in range(first, last + 1):
                with self._naming(index):
                    chunk = self._chunk(self._reader.at(index))
                yield chunk
            return
        units = self._reader.units()
        for index in range(last + 1):
            with self._naming(index):
                unit = next(units)
                wanted = self._chunk(unit) if index >= first else None
            if wanted is not None:
                yield wanted
        if whole:
            for _ in units:
                pass

    def _salvaged(self, first: int, last: int) -> Iterator[Chunk]:
        """Yield chunks `first` to `last`, some of them lost."""
        units = self._reader.salvage()
        unit, found = next(units, None), False
        while unit is not None and unit.index < first:
            unit, found = next(units, None), True
        for index in range(first, last + 1):
            while unit is not None and unit.index < index:
                unit = next(units, None)
            chunk = self._intact(unit) if unit is not None and unit.index == index else None
            found = found or chunk is not None
            if chunk is None:
                self.lost.append(index)
            yield chunk or Chunk.missing(index, self._frames(index), self.head.channels)
        if not found and (unit is None or unit.index <= last) and next(units, None) is None:
            raise BitstreamError("no chunk is intact")

    def _intact(self, unit: Unit) -> Chunk | None:
        try:
            return self._chunk(unit)
        except LimitExceededError:
            raise
        except CodecError:
            return None

    def _chunk(self, unit: Unit) -> Chunk:
        sound = read_sound_unit(unit.payload, self.head, unit.index)
        return decode_chunk(self._model, unit, sound, self._frames(unit.index))

    def _frames(self, index: int) -> int:
        return self._chunking.padded(self.head.unit_frames(index))

    def _reach(self, rate: int, start: int, stop: int) -> tuple[int, int]:
        """Return the first and the last chunk whose samples take part in samples `start` to `stop` at a rate."""
        core = Resampler(self._model.sample_rate, rate)
        if core.source != core.target:
            start, stop = core.window(start // core.block)[0], core.window((stop - 1) // core.block)[1]
        last = self.head.units - 1
        chunk = self._chunking.samples
        return min(max(start, 0) // chunk, last), min((stop - 1) // chunk, last)

    @contextmanager
    def _naming(self, index: int) -> Iterator[None]:
        """Say in errors which chunk they are about."""
        try:
            yield
        except CodecError as error:
            begin = index * self._chunking.samples / self._model.sample_rate
            raise type(error)(f"chunk {index} of {self.head.units}, at {begin:.2f} s: {error}") from error
