"""Puts `.tri` files together from raw bytes by `docs/format.md`, independently of `triode.container`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

SIGNATURE = bytes.fromhex("89 54 52 49 0d 0a 1a 0a")


class Chunk(NamedTuple):
    type: bytes
    payload: bytes


@dataclass(frozen=True)
class Identity:
    """The model that a sample claims: a test of a codec passes the name and digests of one that is installed."""

    model: bytes = b"image-light.v2"
    entropy: bytes = b"\x01\x02\x03\x04"
    synthesis: bytes = b"\x05\x06\x07\x08"


ANYONE = Identity()


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([128 | value % 128]) + varint(value // 128)


def chunk(kind: bytes, payload: bytes, *, length: bytes | None = None, crc: int | None = None) -> bytes:
    """Return one chunk; `length` and `crc` replace the right ones."""
    crc = zlib.crc32(kind + payload) if crc is None else crc
    return kind + (varint(len(payload)) if length is None else length) + payload + crc.to_bytes(4, "little")


def join(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a file of these chunks."""
    return SIGNATURE + b"".join(chunk(kind, payload) for kind, payload in chunks)


def split(data: bytes) -> list[Chunk]:
    """Return the chunks of a valid file."""
    assert data.startswith(SIGNATURE)
    at, chunks = len(SIGNATURE), []
    while at < len(data):
        kind, at = data[at : at + 4], at + 4
        length = shift = 0
        while True:
            byte, at = data[at], at + 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        payload, at = data[at : at + length], at + length
        assert data[at : at + 4] == zlib.crc32(kind + payload).to_bytes(4, "little")
        chunks.append(Chunk(kind, payload))
        at += 4
    return chunks


def head(
    who: Identity = ANYONE,
    *,
    width: int = 7,
    height: int = 5,
    tile: int | None = None,
    alpha: bool = False,
    major: int = 1,
    media: int = 1,
    flags: int | None = None,
    sample: int | None = None,
    colour: int = 0,
    sides: bytes | None = None,
) -> bytes:
    """Return the payload of an image's `HEAD`, 8-bit RGB.

    `flags` (upper half of byte 1), `sample` and `sides` (both varints) replace what follows from the other arguments.
    """
    flags = (0x10 if tile is None else 0) if flags is None else flags
    sample = (0x27 | (0x10 if alpha else 0)) if sample is None else sample
    return b"".join(
        (
            bytes([major, media | flags, len(who.model)]),
            who.model,
            who.entropy,
            who.synthesis,
            varint(width) + varint(height) if sides is None else sides,
            bytes([sample, colour]),
            b"" if tile is None else bytes([tile]),
        )
    )


def sound_head(
    who: Identity = ANYONE,
    *,
    samples: int = 7000,
    rate: int = 8000,
    channels: int = 1,
    model_rate: int = 8000,
    hop: int = 100,
    chunk: int | None = None,
    flags: int | None = None,
    fields: bytes | None = None,
) -> bytes:
    """Return the payload of the `HEAD` of a sound.

    `flags` (upper half of byte 1) and `fields` (all of the media part) replace what follows from the other arguments.
    """
    flags = (0x10 if chunk is None else 0) if flags is None else flags
    if fields is None:
        numbers = (rate, model_rate, hop, samples % 2**32, samples >> 32, *(() if chunk is None else (chunk,)))
        fields = bytes([channels - 1]) + b"".join(map(varint, numbers))
    return bytes([1, 2 | flags, len(who.model)]) + who.model + who.entropy + who.synthesis + fields


def sound_chunks(who: Identity = ANYONE) -> list[Chunk]:
    """Return the chunks before the end of a sound of two channels in three units, the last of them short."""
    head = Chunk(b"HEAD", sound_head(who, channels=2, chunk=25))
    levels = (b"\x40\x40\x00", b"\x41\x40\x10", b"\xc0\x00\x14\x00")
    return [head, *(Chunk(b"DATA", data(i, payload=level + b"unit %d" % i)) for i, level in enumerate(levels))]


def single_sound(who: Identity = ANYONE) -> bytes:
    """Return a sound of one unit."""
    return join((b"HEAD", sound_head(who)), (b"DATA", data(None, payload=b"\x40payload")))


def sound(who: Identity = ANYONE) -> bytes:
    """Return a sound of three units with metadata and an index."""
    first, *rest = sound_chunks(who)
    return with_index(first, Chunk(b"text", b"hello"), *rest)


def data(index: int | None, *, rate: int = 20, crc: int = 0xC0FFEE11, payload: bytes = b"payload") -> bytes:
    """Return the payload of a `DATA` chunk; no index in a file of one unit."""
    return (b"" if index is None else varint(index)) + bytes([rate]) + crc.to_bytes(4, "little") + payload


def done(units: int, index_size: int = 0) -> bytes:
    """Return the payload of `DONE`."""
    return units.to_bytes(4, "little") + index_size.to_bytes(4, "little")


def with_index(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a file of these chunks with `indx` and `DONE` put behind them."""
    at, before, table, units = len(SIGNATURE), 0, b"", 0
    for kind, payload in chunks:
        if kind == b"DATA":
            table, before, units = table + varint(at - before), at, units + 1
        at += len(chunk(kind, payload))
    return join(*chunks, (b"indx", table), (b"DONE", done(units, len(chunk(b"indx", table)))))


def tiled_chunks(who: Identity = ANYONE, *, alpha: bool = False) -> list[Chunk]:
    """Return the chunks before the end of a 40 x 70 image in 2 x 3 tiles of 32 pixels."""
    chunks = [Chunk(b"HEAD", head(who, width=40, height=70, tile=5, alpha=alpha))]
    if alpha:
        chunks.append(Chunk(b"ALPH", b"\x01alpha plane"))
    return [*chunks, *(Chunk(b"DATA", data(i, payload=b"unit %d" % i)) for i in range(6))]


def single(who: Identity = ANYONE) -> bytes:
    """Return a file of one unit."""
    return join((b"HEAD", head(who)), (b"DATA", data(None)))


def tiled(who: Identity = ANYONE) -> bytes:
    """Return a file of six units with all that a file can have: metadata, an unknown chunk, alpha, an index."""
    first, *rest = tiled_chunks(who, alpha=True)
    extras = [(b"iccp", b"profile"), (b"exif", b"II*\0"), (b"xmp_", b"<x/>"), (b"text", b"hello"), (b"zzzz", b"")]
    return with_index(first, *extras, *rest)


def plain_tiled(who: Identity = ANYONE) -> bytes:
    """Return a file of six units without an index."""
    return join(*tiled_chunks(who), (b"DONE", done(6)))


def video_head(
    who: Identity = ANYONE,
    *,
    sides: tuple[int, int] = (7, 5),
    sample: int = 0x07,
    display: int = 0,
    aspect: tuple[int, int] = (1, 1),
    tick: tuple[int, int] = (1, 25),
    ticks: int = 1,
    most: int = 8,
    flags: int = 0,
) -> bytes:
    """Return the payload of the `HEAD` of a video, BT.709."""
    numbers = b"".join(map(varint, (*aspect, *tick, ticks, most)))
    fields = b"".join(map(varint, sides)) + bytes([sample, 2, 2, 1, display]) + numbers
    return bytes([1, 3 | flags, len(who.model)]) + who.model + who.entropy + who.synthesis + fields


def group(first: int, start: int, frames: int, *, timing: bytes = b"\0", sound: bytes = b"", kind: int = 0) -> bytes:
    """Return the payload of a group of pictures, the first frame of `kind`, the others inter frames."""
    times = varint(start % 2**32) + varint(start >> 32)
    coded = b"".join(bytes([20 | (64 if i else kind << 6)]) + b"\1f" for i in range(frames))
    return varint(first) + times + varint(frames) + timing + varint(len(sound)) + sound + coded


def video_chunks(who: Identity = ANYONE) -> list[Chunk]:
    """Return the chunks before the end of a video of six frames in three groups, with sound."""
    groups = (
        group(0, 0, 3, sound=b"\5\0\0\2\3abc"),
        group(3, 3, 2, timing=b"\1\2\7"),
        group(5, 12, 1),
    )
    head, track = Chunk(b"HEAD", video_head(who)), Chunk(b"trak", b"\0\1\x40\0mka")
    return [head, track, *(Chunk(b"DATA", data(i, payload=payload)) for i, payload in enumerate(groups))]


def with_video_index(chunks: list[Chunk], spans: tuple[tuple[int, int], ...] = ((3, 3), (2, 9), (1, 1))) -> bytes:
    """Return a video of these chunks with `indx` and `DONE` put behind them; `spans` are frames and ticks."""
    at, before, table, units = len(SIGNATURE), 0, b"", 0
    for kind, payload in chunks:
        if kind == b"DATA":
            frames, ticks = spans[units]
            table += varint(at - before) + varint(frames) + varint(ticks) + b"\0"
            before, units = at, units + 1
        at += len(chunk(kind, payload))
    return join(*chunks, (b"indx", table), (b"DONE", done(units, len(chunk(b"indx", table)))))


def video(who: Identity = ANYONE) -> bytes:
    """Return a video of three groups with an index."""
    return with_video_index(video_chunks(who))
