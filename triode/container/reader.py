"""Reads a `.tri` file: as a stream from front to back, or unit by unit where the source can seek."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from triode.container.chunks import SIGNATURE, ByteSource, ChunkInfo, ChunkReader, Readable, encode_varint
from triode.container.header import Head
from triode.container.limits import DEFAULT_LIMITS, DecodeLimits
from triode.container.records import (
    DONE_BYTES,
    DONE_CHUNK_BYTES,
    ChunkType,
    Metadata,
    Unit,
    unpack_done,
    unpack_index,
    unpack_unit,
)
from triode.container.salvage import salvage_units
from triode.container.sequence import Prologue, read_head, read_prologue, read_units
from triode.container.signature import check_signature
from triode.container.video import GopSpan, VideoHead, read_span, unpack_gop_index
from triode.errors import BitstreamError, CodecError, TruncatedError, UnsupportedError

__all__ = ["ContainerReader"]

_DONE_START: Final = ChunkType.DONE.encode("ascii") + encode_varint(DONE_BYTES)


class ContainerReader:
    """A `.tri` file that is read as far as it is asked for.

    Signature and `HEAD` are read at construction. Every method raises only errors from `triode.errors` for whatever
    the bytes are, `OSError` if the source fails, and `IndexError` for a unit that the file does not have. Sizes are
    checked against `limits` before anything is allocated. The source stays open; not safe for use by two threads.
    """

    head: Head

    def __init__(self, fp: Readable, limits: DecodeLimits = DEFAULT_LIMITS) -> None:
        """Read signature and `HEAD`.

        Args:
            fp: Binary source whose next byte is the first of the file; only `read` is needed.
            limits: What the file may ask for.

        Raises:
            BitstreamError: Not a Triode file, or a damaged one.
            UnsupportedError: A Triode file that needs a later release.
            LimitExceededError: It asks for more than `limits`.
        """
        self._source = ByteSource(fp)
        self._limits = limits
        check_signature(self._source)
        self._front = ChunkReader(self._source, limits, len(SIGNATURE))
        self.head = read_head(self._front, limits)
        self._begin = sum(chunk.size for chunk in self._front.chunks) + len(SIGNATURE)
        self._prologue: Prologue | None = None
        self._failure: CodecError | None = None
        self._offsets: tuple[int, ...] | None = None
        self._spans: tuple[GopSpan, ...] = ()
        self._passed = False

    @property
    def seekable(self) -> bool:
        """Whether `at` works, and `units` works more than once."""
        return self._source.seekable

    @property
    def indexed(self) -> bool:
        """Whether `at` finds units by an index, without reading the whole file.

        Raises:
            BitstreamError: The file's end is damaged.
        """
        if self._offsets is None and self.seekable:
            self._offsets = self._from_index()
        return self._offsets is not None

    @property
    def metadata(self) -> Metadata:
        """Metadata; reads the file up to the first unit."""
        return self._to_units().metadata

    @property
    def alpha(self) -> bytes | None:
        """Payload of the alpha plane, None if the file has none; reads the file up to the first unit."""
        return self._to_units().alpha

    def units(self) -> Iterator[Unit]:
        """Yield the units in order, each read when it is asked for, and check the end of the file after the last.

        Only an iterator that has run to its end has shown that the file is complete: `TruncatedError` comes after the
        last intact unit. On a source that can seek, every call begins again with the first unit.

        Raises:
            UnsupportedError: Called a second time, or after `structure`, on a source that cannot seek.
        """
        return read_units(self._begin_pass(), self.head, self._to_units().first, self._limits)

    def at(self, index: int) -> Unit:
        """Return unit `index`, found by the index at the end of the file, or by scanning where there is none.

        Raises:
            IndexError: The file has no such unit.
            UnsupportedError: The source cannot seek.
        """
        if self.head.counted and not 0 <= index < self.head.units:
            raise IndexError(f"unit {index} is out of range: the file has {self.head.units}")
        if not self.seekable:
            raise UnsupportedError("random access needs a source that can seek")
        if self._offsets is None:
            self._offsets = self._locate()
        if not 0 <= index < len(self._offsets):
            raise IndexError(f"unit {index} is out of range: the file has {len(self._offsets)}")
        chunks = ChunkReader(self._source, self._limits, self._offsets[index])
        header = chunks.next_header()
        if header is None or header.type != ChunkType.DATA:
            raise BitstreamError(f"indx says that unit {index} is at byte {self._offsets[index]}, but no DATA is there")
        unit = unpack_unit(chunks.payload(header), single=self.head.single)
        if unit.index != index:
            raise BitstreamError(f"unit {unit.index} is where unit {index} should be")
        return unit

    def spans(self) -> tuple[GopSpan, ...]:
        """Return which frames each unit of a video holds, by the index, or by going through the file.

        Raises:
            UnsupportedError: The file holds no video, or the source cannot seek.
        """
        body = self.head.video
        if not self.seekable:
            raise UnsupportedError("this source cannot seek: which frames are where is found on the way")
        if not self.indexed:
            return tuple(read_span(unit.payload, body, self._limits) for unit in self.units())
        return self._spans

    def salvage(self) -> Iterator[Unit]:
        """Yield what units are intact, in rising order, wherever they lie between damage and gaps.

        Nothing but the CRC-32 of each chunk is checked: neither that units are missing nor how the file ends.

        Raises:
            UnsupportedError: The source cannot seek.
        """
        if not self.seekable:
            raise UnsupportedError("damaged files can be read only from a source that can seek")
        return salvage_units(self._source, self.head, self._limits, self._begin)

    def structure(self) -> tuple[ChunkInfo, ...]:
        """Read the whole file, check everything that the container can check, and return its chunks in order.

        Raises:
            UnsupportedError: Called a second time, or after `units`, on a source that cannot seek.
        """
        chunks = self._begin_pass()
        for _ in read_units(chunks, self.head, self._to_units().first, self._limits):
            pass
        return tuple(chunks.chunks)

    def _to_units(self) -> Prologue:
        if self._failure is not None:
            raise self._failure
        if self._prologue is None:
            try:
                self._prologue = read_prologue(self._front, self.head, self._limits)
            except CodecError as error:
                # A second call must not go on behind the damage as if nothing had been there.
                self._failure = error
                raise
        return self._prologue

    def _begin_pass(self) -> ChunkReader:
        prologue = self._to_units()
        if self._passed and not self.seekable:
            raise UnsupportedError("this source cannot seek: its units can be read once")
        self._passed = True
        return ChunkReader(self._source, self._limits, prologue.first.offset, prologue.chunks)

    def _locate(self) -> tuple[int, ...]:
        """Return the offset of every unit: from the index if there is one, else by reading the whole file."""
        return self._from_index() or tuple(c.offset for c in self.structure() if c.type == ChunkType.DATA)

    def _from_index(self) -> tuple[int, ...] | None:
        """Return the offset of every unit from the index; None where there is none."""
        done_at = self._source.size() - DONE_CHUNK_BYTES
        if self.head.single or done_at < len(SIGNATURE):
            return None
        self._source.seek(done_at)
        if self._source.read_up_to(len(_DONE_START)) != _DONE_START:
            return None
        return self._read_index(done_at)

    def _read_index(self, done_at: int) -> tuple[int, ...] | None:
        """Return what the index says that the `DONE` chunk at `done_at` points to; None where it points to none."""
        chunks = ChunkReader(self._source, self._limits, done_at)
        header = chunks.next_header()
        if header is None:
            raise TruncatedError("the file was cut while it was read")
        done = unpack_done(chunks.payload(header))
        if not self.head.counted:
            self._limits.check_units(done.units)
            if not done.units:
                raise BitstreamError("DONE says 0 units; a video has at least one")
        elif done.units != self.head.units:
            raise BitstreamError(f"HEAD announces {self.head.units} units, DONE says {done.units}")
        if done.index_size == 0:
            return None
        index_at = done_at - done.index_size
        chunks = ChunkReader(self._source, self._limits, max(index_at, 0))
        header = chunks.next_header()
        if header is None or header.type != ChunkType.INDEX or header.end != done_at:
            raise BitstreamError(f"DONE says that an indx chunk begins at byte {index_at}, but none does")
        if not isinstance(self.head.body, VideoHead):
            return unpack_index(chunks.payload(header), done.units, index_at)
        entries = unpack_gop_index(chunks.payload(header), done.units, index_at)
        self._limits.check_frames(entries[-1][1].stop)
        self._spans = tuple(span for _, span in entries)
        return tuple(offset for offset, _ in entries)
