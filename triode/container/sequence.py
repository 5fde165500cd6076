"""The order in which chunks may follow each other, checked while they are read from front to back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from triode.container.chunks import ChunkHeader, ChunkInfo, ChunkReader
from triode.container.header import MAX_HEAD_LENGTH, Head, unpack_head
from triode.container.limits import DecodeLimits
from triode.container.records import (
    ChunkType,
    Done,
    Metadata,
    MetadataKind,
    Unit,
    unpack_done,
    unpack_index,
    unpack_unit,
)
from triode.container.video import GopSpan, VideoHead, read_span, unpack_gop_index
from triode.errors import BitstreamError, TruncatedError, UnsupportedError

__all__ = ["Prologue", "read_head", "read_prologue", "read_units"]

_METADATA = frozenset(MetadataKind)
_KNOWN = _METADATA | frozenset(ChunkType)


@dataclass(frozen=True, slots=True)
class Prologue:
    """What lies between `HEAD` and the first unit.

    Attributes:
        metadata: The metadata.
        alpha: Payload of `ALPH`, if the file has one.
        chunks: All chunks so far, `HEAD` included.
        first: Header of the first `DATA` chunk, whose payload is not read yet.
    """

    metadata: Metadata
    alpha: bytes | None
    chunks: tuple[ChunkInfo, ...]
    first: ChunkHeader


def read_head(chunks: ChunkReader, limits: DecodeLimits) -> Head:
    """Read the `HEAD` chunk, which comes first."""
    header = chunks.next_header()
    if header is None:
        raise TruncatedError("the file ends after the signature")
    if header.type != ChunkType.HEAD:
        raise BitstreamError(f"the first chunk must be HEAD, found {header.type}")
    if header.length > MAX_HEAD_LENGTH:
        raise BitstreamError(f"HEAD declares {header.length} bytes; it has at most {MAX_HEAD_LENGTH}")
    return unpack_head(chunks.payload(header), limits)


def read_prologue(chunks: ChunkReader, head: Head, limits: DecodeLimits) -> Prologue:
    """Read on from `HEAD` to the header of the first `DATA` chunk."""
    found: dict[str, bytes] = {}
    total = 0
    alpha: bytes | None = None
    while (header := chunks.next_header()) is not None:
        if header.type == ChunkType.DATA:
            if head.alpha and alpha is None:
                raise BitstreamError("HEAD announces an alpha plane, but there is no ALPH chunk before the first DATA")
            return Prologue(Metadata(**found), alpha, tuple(chunks.chunks), header)
        if header.type in _METADATA:
            name = MetadataKind(header.type).name.lower()
            if header.type == MetadataKind.TRACK and head.counted:
                _refuse(chunks, header, "only a video has a sound track")
            total += header.length
            limits.check_metadata_bytes(total)
            if name in found or alpha is not None or not header.length:
                _refuse(chunks, header, "metadata comes at most once each, before ALPH and DATA, and is not empty")
            found[name] = chunks.payload(header)
        elif header.type == ChunkType.ALPHA:
            if alpha is not None or not head.alpha or not header.length:
                _refuse(chunks, header, "ALPH comes once where HEAD announces alpha, else never, and is not empty")
            alpha = chunks.payload(header)
        else:
            _pass_over(chunks, header, "it cannot come before the first DATA")
    raise TruncatedError("the file ends before its first DATA unit")


def read_units(chunks: ChunkReader, head: Head, first: ChunkHeader, limits: DecodeLimits) -> Iterator[Unit]:
    """Yield the units in order, then check that the file is complete and ends.

    The only unit of a `SINGLE` file is yielded after that check.
    """
    offsets: list[int] = []
    spans: list[GopSpan] = []
    header: ChunkHeader | None = first
    while len(offsets) < head.units:
        if header is None:
            raise TruncatedError(f"the file ends after {_progress(offsets, head)}")
        if header.type == ChunkType.DATA:
            unit = unpack_unit(chunks.payload(header), single=head.single)
            if unit.index != len(offsets):
                raise BitstreamError(f"units come in order: expected unit {len(offsets)}, found {unit.index}")
            if isinstance(head.body, VideoHead):
                limits.check_units(len(offsets) + 1)
                _add_span(spans, unit, head.body, limits)
            offsets.append(header.offset)
            if head.single:
                _require_end(chunks)
            yield unit
        elif offsets and not head.counted and header.type in (ChunkType.INDEX, ChunkType.DONE):
            break
        else:
            _pass_over(chunks, header, f"{_progress(offsets, head)} came before it")
        header = chunks.next_header()
    if not head.single:
        _read_end(chunks, header, tuple(offsets), tuple(spans))


def _progress(offsets: list[int], head: Head) -> str:
    return f"{len(offsets)} of {head.units} units" if head.counted else f"{len(offsets)} units, without DONE"


def _add_span(spans: list[GopSpan], unit: Unit, head: VideoHead, limits: DecodeLimits) -> None:
    """Keep which frames a unit of video holds, which must follow those before."""
    span, last = read_span(unit.payload, head, limits), spans[-1] if spans else None
    if not span.follows(last):
        raise BitstreamError(
            f"unit {unit.index} begins with frame {span.first} at {span.start} ticks; expected frame "
            f"{last.stop if last else 0} at {last.end if last else 0}"
        )
    spans.append(span)


def _read_end(
    chunks: ChunkReader, header: ChunkHeader | None, offsets: tuple[int, ...], spans: tuple[GopSpan, ...]
) -> None:
    """Read what follows the last unit, whose successor's `header` has been read: perhaps `indx`, then `DONE`."""
    index_size = 0
    while header is not None:
        if header.type == ChunkType.DONE:
            _check_done(chunks, header, Done(len(offsets), index_size))
            _require_end(chunks)
            return
        if index_size:
            _refuse(chunks, header, "indx is followed by DONE")
        if header.type == ChunkType.INDEX:
            _check_index(chunks.payload(header), header.offset, offsets, spans)
            index_size = header.info().size
        else:
            _pass_over(chunks, header, f"all {len(offsets)} units came before it")
        header = chunks.next_header()
    raise TruncatedError(f"the file ends after its {len(offsets)} units, without DONE")


def _check_index(payload: bytes, end: int, offsets: tuple[int, ...], spans: tuple[GopSpan, ...]) -> None:
    if not spans:
        if unpack_index(payload, len(offsets), end) != offsets:
            raise BitstreamError("indx does not say where the units are")
        return
    entries = unpack_gop_index(payload, len(offsets), end)
    found = tuple((offset, span.frames, span.duration) for offset, span in entries)
    if found != tuple((offset, span.frames, span.duration) for offset, span in zip(offsets, spans, strict=True)):
        raise BitstreamError("indx does not say where the units are, or what they hold")


def _check_done(chunks: ChunkReader, header: ChunkHeader, expected: Done) -> None:
    found = unpack_done(chunks.payload(header))
    if found.units != expected.units:
        raise BitstreamError(f"DONE says {found.units} units, the file has {expected.units}")
    if found.index_size != expected.index_size:
        raise BitstreamError(
            f"DONE says that an indx chunk of {found.index_size} bytes comes before it, found {expected.index_size}"
        )


def _refuse(chunks: ChunkReader, header: ChunkHeader, rule: str) -> NoReturn:
    """Report a chunk that stands where it must not, or that it is damaged if its CRC-32 says so."""
    chunks.skip(header)
    raise BitstreamError(f"unexpected {header.type} chunk of {header.length} bytes at byte {header.offset}: {rule}")


def _pass_over(chunks: ChunkReader, header: ChunkHeader, rule: str) -> None:
    """Skip an unknown ancillary chunk; refuse an unknown critical one, and a known one, which breaks `rule`."""
    if header.type in _KNOWN:
        _refuse(chunks, header, rule)
    chunks.skip(header)
    if header.critical:
        raise UnsupportedError(f"the file needs the chunk type {header.type}, which this release does not know")


def _require_end(chunks: ChunkReader) -> None:
    if not chunks.at_end():
        raise BitstreamError("there are bytes after the end of the file")
