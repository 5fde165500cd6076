"""Writes a `.tri` file from front to back; the sink need not seek."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from triode.container.chunks import SIGNATURE, ByteSink, Writable, write_chunk
from triode.container.header import Head, pack_head
from triode.container.limits import DecodeLimits
from triode.container.records import (
    ChunkType,
    Done,
    MetadataKind,
    Unit,
    pack_done,
    pack_index,
    pack_unit_prefix,
)
from triode.container.video import GopSpan, VideoHead, pack_gop_index, read_span

__all__ = ["ContainerWriter"]


class ContainerWriter:
    """Writes signature and `HEAD` at once, then what it is given, in the order that the format asks for.

    Order: `metadata` (any number of kinds), `alpha` (if `HEAD` says so), every `unit` by rising index, `close`.
    A call out of order, a missing or a surplus unit raises `ValueError` and writes nothing.

    As a context manager it closes itself; if the block raises, it writes no end mark, so that a reader reports the
    file as truncated. The sink stays open.
    """

    def __init__(self, fp: Writable, head: Head, *, index: bool = True) -> None:
        """Begin a file.

        Args:
            fp: Binary sink.
            head: What the file holds.
            index: Whether to write the offsets of the units behind them. A file of a single unit has no index.
        """
        payload = pack_head(head)
        self.head = head
        self._sink = ByteSink(fp)
        self._index = index
        self._kinds: set[MetadataKind] = set()
        self._alpha = False
        self._offsets: list[int] = []
        self._spans: list[GopSpan] = []
        self._closed = False
        self._sink.write(SIGNATURE)
        write_chunk(self._sink, ChunkType.HEAD, payload)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._sink.position

    def metadata(self, kind: MetadataKind, data: bytes) -> None:
        """Write one block of metadata.

        Raises:
            ValueError: The block is empty, its kind was written before, or `alpha` or `unit` was called before.
        """
        self._require_open()
        if not data:
            raise ValueError(f"{kind} metadata is empty")
        if self._offsets or self._alpha:
            raise ValueError(f"{kind} metadata must come before the alpha plane and the units")
        if kind is MetadataKind.TRACK and not isinstance(self.head.body, VideoHead):
            raise ValueError("only a video has a sound track")
        if kind in self._kinds:
            raise ValueError(f"{kind} metadata was written already")
        write_chunk(self._sink, kind, data)
        self._kinds.add(kind)

    def alpha(self, payload: bytes) -> None:
        """Write the alpha plane: one byte that names the method, then the coded plane.

        Raises:
            ValueError: `HEAD` announces no alpha, the payload is empty, or it was written already.
        """
        self._require_open()
        if not self.head.alpha:
            raise ValueError("HEAD announces no alpha plane")
        if self._alpha:
            raise ValueError("the alpha plane was written already")
        if not payload:
            raise ValueError("the alpha plane is empty; it begins with a method byte")
        write_chunk(self._sink, ChunkType.ALPHA, payload)
        self._alpha = True

    def unit(self, unit: Unit) -> None:
        """Write the next unit.

        Raises:
            ValueError: `unit.index` is not the next one, all units are written, the alpha plane is missing, or frames
                of a video do not follow those before.
        """
        self._require_open()
        written = len(self._offsets)
        if written == self.head.units:
            raise ValueError(f"all {written} units are written already")
        if unit.index != written:
            raise ValueError(f"units are written in order: expected unit {written}, got {unit.index}")
        if self.head.alpha and not self._alpha:
            raise ValueError("HEAD announces an alpha plane, which must come before the first unit")
        span = self._span(unit)
        info = write_chunk(self._sink, ChunkType.DATA, pack_unit_prefix(unit, single=self.head.single), unit.payload)
        self._offsets.append(info.offset)
        if span is not None:
            self._spans.append(span)

    def close(self) -> None:
        """Finish the file; a second call does nothing.

        Raises:
            ValueError: Units are missing.
        """
        if self._closed:
            return
        written = len(self._offsets)
        if self.head.counted and written != self.head.units:
            raise ValueError(f"the file needs {self.head.units} units, {written} were written")
        if not written:
            raise ValueError("the file needs at least one unit, none was written")
        self._closed = True
        if self.head.single:
            return
        index_size = 0
        table = self._table() if self._index else None
        if table is not None:
            index_size = write_chunk(self._sink, ChunkType.INDEX, table).size
        write_chunk(self._sink, ChunkType.DONE, pack_done(Done(written, index_size)))

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file unless the block failed."""
        if kind is None:
            self.close()

    def _span(self, unit: Unit) -> GopSpan | None:
        """Return which frames the next unit of a video holds."""
        body = self.head.body
        if not isinstance(body, VideoHead):
            return None
        span = read_span(unit.payload, body, DecodeLimits.unlimited())
        last = self._spans[-1] if self._spans else None
        if not span.follows(last):
            raise ValueError(f"a unit of frames from {span.first}, at {span.start} ticks, does not follow {last}")
        return span

    def _table(self) -> bytes | None:
        if isinstance(self.head.body, VideoHead):
            return pack_gop_index(list(zip(self._offsets, self._spans, strict=True)))
        return pack_index(self._offsets)

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the writer is closed")
