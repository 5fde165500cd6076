"""One function per idea of an attack on the container; each yields (name, bytes, the error that must come of it).

The idea of such a folder is safetensors'. All of these must fail under the default `DecodeLimits`, quickly and in
little memory. `all_attacks(who)` makes them for a given model, so that a codec gets past the question of the model;
it may then meet a defect of a unit before the container meets its own, so a codec test asks for `CodecError` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from abuse.samples import (
    ANYONE,
    SIGNATURE,
    Chunk,
    Identity,
    chunk,
    data,
    done,
    group,
    head,
    join,
    plain_tiled,
    single,
    single_sound,
    sound,
    sound_chunks,
    sound_head,
    tiled,
    tiled_chunks,
    varint,
    video,
    video_chunks,
    video_head,
    with_index,
    with_video_index,
)

from triode.errors import BitstreamError, CodecError, LimitExceededError, TruncatedError, UnsupportedError


class Attack(NamedTuple):
    name: str
    data: bytes
    error: type[CodecError]


Attacks = Iterator[Attack]
MAX_SIDE = (1 << 31) - 1


def foreign_files(who: Identity = ANYONE) -> Attacks:
    """Files that are something else, or nothing."""
    yield Attack("empty file", b"", TruncatedError)
    yield Attack("half a signature", SIGNATURE[:5], TruncatedError)
    yield Attack("signature alone", SIGNATURE, TruncatedError)
    yield Attack("PNG", b"\x89PNG\r\n\x1a\n" + bytes(64), BitstreamError)
    yield Attack("JPEG", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(64), BitstreamError)
    yield Attack("short text", b"hi", BitstreamError)
    yield Attack("zeros", bytes(1000), BitstreamError)
    yield Attack("line ends changed", single(who).replace(b"\r\n", b"\n", 1), BitstreamError)
    yield Attack("eighth bit lost", b"\x09" + single(who)[1:], BitstreamError)
    yield Attack("one byte before the signature", b"\0" + single(who), BitstreamError)


def huge_images(who: Identity = ANYONE) -> Attacks:
    """Headers of a few bytes that ask for gigabytes."""

    def bomb(width: int, height: int, tile: int | None = None) -> bytes:
        return join((b"HEAD", head(who, width=width, height=height, tile=tile)), (b"DATA", data(None)))

    yield Attack("2^31-1 square", bomb(MAX_SIDE, MAX_SIDE), LimitExceededError)
    yield Attack("2^31-1 x 1", bomb(MAX_SIDE, 1), LimitExceededError)
    yield Attack("one pixel row too many", bomb(1 << 14, (178_956_970 >> 14) + 1), LimitExceededError)
    yield Attack("2^31 wide", bomb(1 << 31, 1), BitstreamError)
    yield Attack("2^31 high", bomb(1, 1 << 31), BitstreamError)
    yield Attack("no width", bomb(0, 5), BitstreamError)
    yield Attack("no height", bomb(5, 0), BitstreamError)
    yield Attack("more than 2^32 tiles", bomb(MAX_SIDE, MAX_SIDE, 5), BitstreamError)
    yield Attack("5.6 million tiles", bomb(1, 178_956_970, 5), LimitExceededError)
    yield Attack("a million tiles, a unit without a number", bomb(1, 32_000_000, 5), BitstreamError)
    million = join((b"HEAD", head(who, width=1, height=32_000_000, tile=5)), (b"DATA", data(0)))
    yield Attack("a million tiles, then the end", million, TruncatedError)


def lying_lengths(who: Identity = ANYONE) -> Attacks:
    """Lengths that are larger than the file, larger than allowed, or written in a way that is not allowed."""
    start = SIGNATURE + chunk(b"HEAD", head(who))
    for kind in (b"DATA", b"zzzz", b"ZZZZ"):
        for length, error in ((1 << 30, TruncatedError), (MAX_SIDE, LimitExceededError), (1 << 31, BitstreamError)):
            name = f"{kind.decode()} of {length} bytes in a small file"
            yield Attack(name, start + chunk(kind, b"abc", length=varint(length)), error)
    for kind in (b"iccp", b"exif", b"xmp_", b"text"):
        bomb = start + chunk(kind, b"abc", length=varint((1 << 24) + 1))
        yield Attack(f"{kind.decode()} of 16 MiB and one byte", bomb, LimitExceededError)
    yield Attack("HEAD of 1 GiB", SIGNATURE + chunk(b"HEAD", head(who), length=varint(1 << 30)), BitstreamError)
    yield Attack("HEAD of 1025 bytes", SIGNATURE + chunk(b"HEAD", head(who) + bytes(1025)), BitstreamError)
    payload = data(None)
    padded = bytes([0x80 | len(payload), 0])
    yield Attack("padded length", start + chunk(b"DATA", payload, length=padded), BitstreamError)
    yield Attack("padded zero", start + chunk(b"zzzz", b"", length=b"\x80\x00"), BitstreamError)
    yield Attack("length of six bytes", start + chunk(b"zzzz", b"", length=b"\x80" * 5 + b"\x00"), BitstreamError)
    yield Attack("length of 2^35-1", start + chunk(b"zzzz", b"", length=b"\xff\xff\xff\xff\x7f"), BitstreamError)
    yield Attack("endless length", start + b"zzzz" + b"\xff" * 1000, BitstreamError)
    front = tiled_chunks(who)[0]
    for length in (0, 7, 9):
        payload = done(6).ljust(9, b"\0")[:length]
        yield Attack(f"DONE of {length} bytes", join(*tiled_chunks(who), (b"DONE", payload)), BitstreamError)
    for length in range(6):
        cut = join(front, (b"DATA", data(0, payload=b"")[:length]))
        yield Attack(f"DATA of {length} bytes", cut, BitstreamError)
    for length in range(5):
        cut = join((b"HEAD", head(who)), (b"DATA", data(None, payload=b"")[:length]))
        yield Attack(f"only DATA of {length} bytes", cut, BitstreamError)


def padded_varints(who: Identity = ANYONE) -> Attacks:
    """Integers inside payloads that are not in their shortest form, or do not fit."""
    unit = (b"DATA", data(None))
    sides = {
        "width padded": b"\x87\x00\x05",
        "height padded": b"\x07\x85\x80\x00",
        "width of six bytes": b"\x80\x80\x80\x80\x80\x01\x05",
        "width of 2^32": b"\x80\x80\x80\x80\x10\x05",
    }
    for name, both in sides.items():
        yield Attack(name, join((b"HEAD", head(who, sides=both)), unit), BitstreamError)
    front, first, *rest = tiled_chunks(who)
    padded = (b"DATA", b"\x80\x00" + first.payload[1:])
    yield Attack("unit index padded", join(front, padded, *rest, (b"DONE", done(6))), BitstreamError)


def reserved_values(who: Identity = ANYONE) -> Attacks:
    """Bits and codes that this version of the format does not assign."""

    def file(**fields: int) -> bytes:
        return join((b"HEAD", head(who, **fields)), (b"DATA", data(None)))

    for major in (0, 2, 255):
        yield Attack(f"format version {major}", file(major=major), UnsupportedError)
    for media in (0, *range(4, 16)):
        yield Attack(f"media kind {media}", file(media=media), UnsupportedError)
    for flags in (0x30, 0x50, 0x90, 0xF0):
        yield Attack(f"flags {flags:#x}", file(flags=flags), UnsupportedError)
    for sample in (0x47, 0x67, 0xA7, 0x87):
        yield Attack(f"sample format {sample:#x}", file(sample=sample), UnsupportedError)
    for colour in (1, 2, 128, 255):
        yield Attack(f"colour {colour}", file(colour=colour), UnsupportedError)
    for rate in (64, 128, 255):
        name = f"rate point byte {rate}"
        yield Attack(name, join((b"HEAD", head(who)), (b"DATA", data(None, rate=rate))), UnsupportedError)


def broken_heads(who: Identity = ANYONE) -> Attacks:
    """`HEAD` payloads with a right CRC-32 and wrong content."""
    unit = (b"DATA", data(None))
    whole = head(who)
    for length in range(len(whole)):
        yield Attack(f"HEAD cut to {length} bytes", join((b"HEAD", whole[:length]), unit), BitstreamError)
    yield Attack("HEAD with a byte too many", join((b"HEAD", whole + b"\0"), unit), BitstreamError)
    names = (b"", b"../../etc/passwd", b"Image", b"a b", b"a\0b", b".", b"-x", b"_x", "ä".encode(), b"a/b", b"a\n")
    for name in (*names, b"x" * 65, b"x" * 255):
        error = LimitExceededError if len(name) > 64 else BitstreamError
        named = head(Identity(name, who.entropy, who.synthesis))
        yield Attack(f"model name {name[:20]!r} of {len(name)} bytes", join((b"HEAD", named), unit), error)
    for tile in (0, 4, 17, 63, 255):
        wide = join((b"HEAD", head(who, width=4000, height=3000, tile=tile)), (b"DATA", data(0)))
        yield Attack(f"tile exponent {tile}", wide, BitstreamError)
    fits = join((b"HEAD", head(who, width=32, height=32, tile=5)), (b"DATA", data(0)), (b"DONE", done(1)))
    yield Attack("tiled although it is one tile", fits, BitstreamError)
    both = join((b"HEAD", head(who, width=40, height=70, tile=5, flags=0x10)), unit)
    yield Attack("SINGLE with a tile exponent", both, BitstreamError)


def wrong_order(who: Identity = ANYONE) -> Attacks:
    """Valid chunks in an order, or a number, that the format does not allow."""
    only_head, unit, end = (b"HEAD", head(who)), (b"DATA", data(None)), (b"DONE", done(1))
    yield Attack("no HEAD", join(unit), BitstreamError)
    yield Attack("ancillary before HEAD", join((b"zzzz", b""), only_head, unit), BitstreamError)
    yield Attack("HEAD twice", join(only_head, only_head, unit), BitstreamError)
    yield Attack("HEAD after DATA", join(only_head, unit, only_head), BitstreamError)
    yield Attack("no DATA", join(only_head), TruncatedError)
    yield Attack("no DATA, metadata only", join(only_head, (b"text", b"hello")), TruncatedError)
    yield Attack("DONE for DATA", join(only_head, end), BitstreamError)
    yield Attack("DONE after the only unit", join(only_head, unit, end), BitstreamError)
    yield Attack("second DATA after the only unit", join(only_head, unit, unit), BitstreamError)
    yield Attack("metadata after the only unit", join(only_head, unit, (b"text", b"hello")), BitstreamError)
    yield Attack("byte after the only unit", single(who) + b"\0", BitstreamError)
    yield Attack("two files in one", single(who) * 2, BitstreamError)
    yield Attack("file in a DATA chunk of no type", join(only_head, (b"\x89TRI", single(who))), BitstreamError)

    front, *units = tiled_chunks(who)
    end = (b"DONE", done(6))
    yield Attack("bytes after DONE", plain_tiled(who) + b"garbage", BitstreamError)
    yield Attack("chunk after DONE", plain_tiled(who) + chunk(b"zzzz", b""), BitstreamError)
    yield Attack("DONE twice", plain_tiled(who) + chunk(*end), BitstreamError)
    yield Attack("no DONE", join(front, *units), TruncatedError)
    yield Attack("two units swapped", join(front, *units[:2], units[3], units[2], *units[4:], end), BitstreamError)
    yield Attack("unit twice", join(front, units[0], *units, end), BitstreamError)
    yield Attack("unit missing", join(front, *units[:2], *units[3:], end), BitstreamError)
    yield Attack("last unit missing", join(front, *units[:5], end), BitstreamError)
    yield Attack("last unit missing, DONE agrees", join(front, *units[:5], (b"DONE", done(5))), BitstreamError)
    yield Attack("unit too many", join(front, *units, (b"DATA", data(6)), (b"DONE", done(7))), BitstreamError)
    yield Attack("unit index 2^32-1", join(front, (b"DATA", data((1 << 32) - 1)), end), BitstreamError)
    for count in (0, 5, 7, (1 << 32) - 1):
        yield Attack(f"DONE counts {count} of 6", join(front, *units, (b"DONE", done(count))), BitstreamError)
    yield Attack("HEAD between units", join(front, units[0], front, *units[1:], end), BitstreamError)


def metadata_and_alpha(who: Identity = ANYONE) -> Attacks:
    """Metadata and alpha planes that are doubled, empty, late, missing or not announced."""
    front, *units = tiled_chunks(who)
    end = (b"DONE", done(6))
    with_alpha, plane, *_ = tiled_chunks(who, alpha=True)
    yield Attack("ALPH missing", join(with_alpha, *units, end), BitstreamError)
    yield Attack("ALPH not announced", join(front, plane, *units, end), BitstreamError)
    yield Attack("ALPH twice", join(with_alpha, plane, plane, *units, end), BitstreamError)
    yield Attack("ALPH after a unit", join(with_alpha, plane, units[0], plane, *units[1:], end), BitstreamError)
    yield Attack("ALPH only after a unit", join(with_alpha, units[0], plane, *units[1:], end), BitstreamError)
    yield Attack("ALPH empty", join(with_alpha, (b"ALPH", b""), *units, end), BitstreamError)
    for kind in (b"iccp", b"exif", b"xmp_", b"text"):
        block, name = (kind, b"data"), kind.decode()
        yield Attack(f"{name} twice", join(front, block, block, *units, end), BitstreamError)
        yield Attack(f"{name} after a unit", join(front, units[0], block, *units[1:], end), BitstreamError)
        yield Attack(f"{name} after ALPH", join(with_alpha, plane, block, *units, end), BitstreamError)
        yield Attack(f"{name} empty", join(front, (kind, b""), *units, end), BitstreamError)
        yield Attack(f"{name} before DONE", join(front, *units, block, end), BitstreamError)


def unknown_types(who: Identity = ANYONE) -> Attacks:
    """Chunk types that this release does not know, or that are no type at all."""
    front, *units = tiled_chunks(who)
    end = (b"DONE", done(6))
    for kind in (b"ZZZZ", b"Data", b"A000", b"X___"):
        unknown = (kind, b"?")
        name = kind.decode()
        yield Attack(f"critical {name} before the units", join(front, unknown, *units, end), UnsupportedError)
        yield Attack(
            f"critical {name} among the units", join(front, units[0], unknown, *units[1:], end), UnsupportedError
        )
        yield Attack(f"critical {name} after the units", join(front, *units, unknown, end), UnsupportedError)
    for kind in (b"\0\0\0\0", b"1abc", b"_abc", b"DA A", b"ab\xe4c", b"abc\n"):
        yield Attack(f"type {kind!r}", join(front, (kind, b""), *units, end), BitstreamError)
    unchecked = SIGNATURE + chunk(*front) + chunk(b"zzzz", b"skipped", crc=0)
    yield Attack("ancillary chunk with a wrong CRC-32", unchecked, BitstreamError)
    yield Attack("critical chunk with a wrong CRC-32", unchecked.replace(b"zzzz", b"ZZZZ"), BitstreamError)


def false_indexes(who: Identity = ANYONE) -> Attacks:
    """Indexes that lie about the units, and end marks that lie about the index."""
    chunks = tiled_chunks(who)
    good = with_index(*chunks)
    body, table = good[: good.rindex(b"indx")], good[good.rindex(b"indx") + 5 : good.rindex(b"DONE") - 4]

    def file(payload: bytes, size: int | None = None, *, between: tuple[Chunk, ...] = ()) -> bytes:
        index = chunk(b"indx", payload)
        filler = b"".join(chunk(*extra) for extra in between)
        return body + index + filler + chunk(b"DONE", done(6, len(index) if size is None else size))

    distances = list(table)
    assert all(distance < 128 for distance in distances)
    tables = {
        "empty": b"",
        "one entry short": table[:-1],
        "one entry long": table + b"\x10",
        "far too long": bytes(31),
        "all zero": bytes(6),
        "one byte off": bytes([distances[0] + 1, *distances[1:]]),
        "unit 0 for unit 1": bytes([distances[0], 9, *distances[2:]]),
        "skips unit 1": bytes([distances[0], distances[1] + distances[2], *distances[3:5], 9, 9]),
        "units 1 and 2 swapped in size": bytes([distances[0], distances[1] + 1, distances[2] - 1, *distances[3:]]),
        "behind the end": table[:-1] + b"\xff\xff\xff\xff\x0f",
        "at itself": bytes([*distances[:-1], len(body) - sum(distances[:-1])]),
        "entry padded": table[:-1] + bytes([0x80 | table[-1], 0]),
        "entry of six bytes": table[:-1] + b"\x80\x80\x80\x80\x80\x01",
    }
    for name, payload in tables.items():
        yield Attack(f"index {name}", file(payload), BitstreamError)
    for size in (0, 1, 14, 16, 1 << 31, (1 << 32) - 1):
        yield Attack(f"DONE says that the index has {size} bytes", file(table, size), BitstreamError)
    for count in (0, 5, 7):
        end = chunk(b"DONE", done(count, len(chunk(b"indx", table))))
        yield Attack(f"DONE behind an index counts {count} of 6", good[:-17] + end, BitstreamError)
    five = chunk(b"indx", table[:-1])
    agreed = body + five + chunk(b"DONE", done(5, len(five)))
    yield Attack("index and DONE agree on 5 of 6", agreed, BitstreamError)
    other = chunk(b"zzzz", table)
    yield Attack("another chunk plays the index", body + other + chunk(b"DONE", done(6, len(other))), BitstreamError)
    more = chunk(b"indx", table) + chunk(b"zzzz", b"")
    yield Attack("index size spans two chunks", body + more + chunk(b"DONE", done(6, len(more))), BitstreamError)
    yield Attack("DONE points to an index, none is there", body + chunk(b"DONE", done(6, 15)), BitstreamError)
    yield Attack("index twice", body + chunk(b"indx", table) * 2 + good[-17:], BitstreamError)
    yield Attack("index not before DONE", file(table, between=(Chunk(b"zzzz", b""),)), BitstreamError)
    yield Attack("index among the units", join(*chunks[:2], (b"indx", table), *chunks[2:]), BitstreamError)
    yield Attack("index before the units", join(chunks[0], (b"indx", table), *chunks[1:]), BitstreamError)
    yield Attack("index and no DONE", good[:-17], TruncatedError)
    first = chunks[0]
    front = SIGNATURE + chunk(*first) + chunk(b"text", b"hello")
    rest = b"".join(chunk(*unit) for unit in chunks[1:])
    lie = chunk(b"indx", bytes([8 + len(chunk(*first)), 14 + distances[1], *distances[2:]]))
    yield Attack(
        "index takes a text for a unit", front + rest + lie + chunk(b"DONE", done(6, len(lie))), BitstreamError
    )
    only = join((b"HEAD", head(who)), (b"DATA", data(None)), (b"indx", b"\x30"))
    yield Attack("index behind the only unit", only, BitstreamError)


def huge_sounds(who: Identity = ANYONE) -> Attacks:
    """Headers of sounds of a few bytes that ask for years."""

    def bomb(**fields: int) -> bytes:
        unit = data(None, payload=b"\x40") if "chunk" not in fields else data(0, payload=b"\x40")
        return join((b"HEAD", sound_head(who, **fields)), (b"DATA", unit))

    yield Attack("2^48-1 samples", bomb(samples=(1 << 48) - 1), LimitExceededError)
    yield Attack("2^33+1 samples", bomb(samples=(1 << 33) + 1), LimitExceededError)
    yield Attack(
        "few samples, many for the model", bomb(samples=1 << 24, rate=1, model_rate=1 << 13), LimitExceededError
    )
    yield Attack("2^48 samples", bomb(samples=1 << 48), BitstreamError)
    yield Attack("2^64 samples", bomb(samples=(1 << 64) - 1), BitstreamError)
    units = bomb(samples=(1 << 48) - 1, model_rate=(1 << 24) - 1, rate=1, hop=1, chunk=1)
    yield Attack("more than 2^32 units", units, BitstreamError)
    yield Attack("a unit more than allowed", bomb(samples=(1 << 20) + 1, hop=1, chunk=1), LimitExceededError)
    million = bomb(samples=1 << 20, hop=1, chunk=1)
    yield Attack("a million units, then the end", million, TruncatedError)


def broken_sound_heads(who: Identity = ANYONE) -> Attacks:
    """`HEAD` payloads of sounds with a right CRC-32 and wrong content."""
    unit = (b"DATA", data(None, payload=b"\x40"))

    def file(**fields: int | bytes) -> bytes:
        return join((b"HEAD", sound_head(who, **fields)), unit)

    for reserved in (0x08, 0x10, 0x80, 0xF8):
        fields = bytes([reserved]) + sound_head(who)[-8:]
        yield Attack(f"channels byte {reserved:#x}", file(fields=fields), UnsupportedError)
    for name in ("rate", "model_rate", "hop"):
        yield Attack(f"{name} 0", file(**{name: 0}), BitstreamError)
    for name, most in (("rate", 1 << 24), ("model_rate", 1 << 24), ("hop", (1 << 16) + 1)):
        yield Attack(f"{name} {most}", file(**{name: most}), BitstreamError)
        yield Attack(f"{name} 2^32", file(**{name: 1 << 32}), BitstreamError)
    for frames in (0, (1 << 20) + 1, (1 << 32) - 1):
        yield Attack(f"chunks of {frames} frames", file(samples=1 << 33, hop=1, chunk=frames), BitstreamError)
    yield Attack("cut although it is one chunk", file(chunk=70), BitstreamError)
    yield Attack("silence in chunks", file(samples=0, chunk=1), BitstreamError)
    yield Attack("SINGLE with a length of chunks", file(chunk=25, flags=0x10), BitstreamError)
    yield Attack("several units, no length of chunks", file(flags=0), BitstreamError)
    whole = sound_head(who, channels=2, chunk=25)
    for length in range(len(whole)):
        yield Attack(f"sound HEAD cut to {length} bytes", join((b"HEAD", whole[:length]), unit), BitstreamError)
    yield Attack("sound HEAD with a byte too many", join((b"HEAD", whole + b"\0"), unit), BitstreamError)
    padded = b"\x00\xc0\xbe\x80\x00\xc0\x3e\x64\xd8\x36\x00"
    yield Attack("sample rate padded", file(fields=padded), BitstreamError)
    yield Attack("flags of a sound", file(flags=0x30), UnsupportedError)


def sounds_out_of_order(who: Identity = ANYONE) -> Attacks:
    """Sounds with units that are missing, doubled or too many, and with what only images have."""
    front, *units = sound_chunks(who)
    end = (b"DONE", done(3))
    yield Attack("sound with ALPH", join(front, (b"ALPH", b"\1x"), *units, end), BitstreamError)
    yield Attack("sound unit missing", join(front, units[0], units[2], end), BitstreamError)
    yield Attack("sound unit twice", join(front, units[0], units[0], *units[1:], end), BitstreamError)
    yield Attack("last sound unit missing", join(front, *units[:2], (b"DONE", done(2))), BitstreamError)
    yield Attack("sound unit too many", join(front, *units, (b"DATA", data(3)), (b"DONE", done(4))), BitstreamError)
    yield Attack("sound without DONE", join(front, *units), TruncatedError)
    yield Attack("sound without units", join(front), TruncatedError)
    yield Attack("byte after a sound", sound(who) + b"\0", BitstreamError)
    yield Attack("byte after a sound of one unit", single_sound(who) + b"\0", BitstreamError)


def broken_video_heads(who: Identity = ANYONE) -> Attacks:
    """`HEAD` payloads of videos with a right CRC-32 and wrong content, or that ask for too much."""
    unit, end = (b"DATA", data(0, payload=group(0, 0, 1))), (b"DONE", done(1))

    def file(**fields: Any) -> bytes:
        return join((b"HEAD", video_head(who, **fields)), unit, end)

    for sample in (0x17, 0x27, 0x37, 0x87):
        yield Attack(f"video samples {sample:#x}", file(sample=sample), UnsupportedError)
    for display in (0x1C, 0x20, 0x80, 0xE0):
        yield Attack(f"video display {display:#x}", file(display=display), UnsupportedError)
    yield Attack("flags of a video", file(flags=0x20), UnsupportedError)
    yield Attack("SINGLE video", file(flags=0x10), BitstreamError)
    for name, fields in {
        "no width": {"sides": (0, 5)},
        "no height": {"sides": (5, 0)},
        "side of 2^31": {"sides": (1 << 31, 1)},
        "no aspect": {"aspect": (0, 1)},
        "aspect over nothing": {"aspect": (1, 0)},
        "aspect not in lowest terms": {"aspect": (2, 4)},
        "no tick": {"tick": (0, 1)},
        "tick over nothing": {"tick": (1, 0)},
        "tick not in lowest terms": {"tick": (5, 25)},
        "no ticks a frame": {"ticks": 0},
        "no frames a unit": {"most": 0},
        "65536 frames a unit": {"most": 1 << 16},
        "ticks of 2^32": {"ticks": 1 << 32},
    }.items():
        yield Attack(f"video: {name}", file(**fields), BitstreamError)
    for sides in ((1 << 20, 1 << 20), ((1 << 31) - 1, (1 << 31) - 1), (178_956_971, 1)):
        yield Attack(f"video of {sides[0]} x {sides[1]}", file(sides=sides), LimitExceededError)
    whole = video_head(who)
    for length in range(len(whole)):
        yield Attack(f"video HEAD cut to {length} bytes", join((b"HEAD", whole[:length]), unit, end), BitstreamError)
    yield Attack("video HEAD with a byte too many", join((b"HEAD", whole + b"\0"), unit, end), BitstreamError)


def broken_groups(who: Identity = ANYONE) -> Attacks:
    """Groups of pictures that do not follow each other, or ask for too much."""
    front, track, *units = video_chunks(who)

    def file(*groups: bytes) -> bytes:
        chunks = [Chunk(b"DATA", data(i, payload=payload)) for i, payload in enumerate(groups)]
        return join(front, track, *chunks, (b"DONE", done(len(groups))))

    first = group(0, 0, 3)
    yield Attack("video begins with frame 1", file(group(1, 0, 3)), BitstreamError)
    yield Attack("video begins late", file(group(0, 1, 3)), BitstreamError)
    for name, bad in {
        "frame left out": group(4, 3, 1),
        "frames again": group(0, 0, 3),
        "gap in time": group(3, 4, 1),
        "back in time": group(3, 2, 1),
        "no frames": group(3, 3, 0),
        "more frames than HEAD says": group(3, 3, 9),
        "frame of no time": group(3, 3, 2, timing=b"\1\1\0"),
        "durations missing": group(3, 3, 2, timing=b"\1"),
        "time of 2^48": group(3, 1 << 48, 1),
    }.items():
        yield Attack(f"group: {name}", file(first, bad), BitstreamError)
    yield Attack("group: timing 2", file(first, group(3, 3, 1, timing=b"\2")), UnsupportedError)
    many = group((1 << 22) - 1, 3, 2)
    yield Attack("group: more frames than allowed", file(first, many), LimitExceededError)
    for length in range(5):
        yield Attack(f"group cut to {length} bytes", file(group(0, 0, 1)[:length]), BitstreamError)
    yield Attack("video unit missing", join(front, track, units[0], units[2], (b"DONE", done(2))), BitstreamError)
    yield Attack("video with ALPH", join(front, (b"ALPH", b"\1x"), *units, (b"DONE", done(3))), BitstreamError)
    yield Attack("trak twice", join(front, track, track, *units, (b"DONE", done(3))), BitstreamError)
    yield Attack("trak after a unit", join(front, units[0], track, *units[1:], (b"DONE", done(3))), BitstreamError)
    for count in (0, 2, 4, (1 << 32) - 1):
        yield Attack(
            f"video DONE counts {count} of 3", join(front, track, *units, (b"DONE", done(count))), BitstreamError
        )
    yield Attack("video without DONE", join(front, track, *units), TruncatedError)
    yield Attack("video without units", join(front, track, (b"DONE", done(0))), BitstreamError)
    yield Attack("byte after a video", video(who) + b"\0", BitstreamError)
    for spans in (
        ((3, 3), (2, 9), (2, 1)),
        ((3, 3), (2, 8), (1, 1)),
        ((3, 3), (0, 9), (1, 1)),
        ((3, 3), (2, 0), (1, 1)),
    ):
        yield Attack(f"video index says {spans}", with_video_index([front, track, *units], spans), BitstreamError)


def track_elsewhere(who: Identity = ANYONE) -> Attacks:
    """A sound track where there is no video."""
    front, *units = tiled_chunks(who)
    yield Attack("image with trak", join(front, (b"trak", b"\0\1\1\0"), *units, (b"DONE", done(6))), BitstreamError)
    front, *units = sound_chunks(who)
    yield Attack("sound with trak", join(front, (b"trak", b"\0\1\1\0"), *units, (b"DONE", done(3))), BitstreamError)


def valid_videos(who: Identity = ANYONE) -> Iterator[tuple[str, bytes]]:
    """The videos that the attacks vary, and some at the limits of what there may be: these must be read."""
    yield "video", video(who)
    yield "video without an index", join(*video_chunks(who), (b"DONE", done(3)))
    one = (b"DATA", data(0, payload=group(0, 0, 1)))
    for name, fields in {
        "one frame": {},
        "slowest clock": {"tick": ((1 << 32) - 1, 1), "ticks": (1 << 32) - 1},
        "longest groups": {"most": (1 << 16) - 1},
    }.items():
        yield f"video: {name}", join((b"HEAD", video_head(who, **fields)), one, (b"DONE", done(1)))


ATTACKS: tuple[Callable[[Identity], Attacks], ...] = (
    foreign_files,
    huge_images,
    lying_lengths,
    padded_varints,
    reserved_values,
    broken_heads,
    wrong_order,
    metadata_and_alpha,
    unknown_types,
    false_indexes,
    huge_sounds,
    broken_sound_heads,
    sounds_out_of_order,
    broken_video_heads,
    broken_groups,
    track_elsewhere,
)


def all_attacks(who: Identity = ANYONE) -> Attacks:
    """Every attack of every idea."""
    for idea in ATTACKS:
        yield from idea(who)


def valid_sounds(who: Identity = ANYONE) -> Iterator[tuple[str, bytes]]:
    """The sounds that the attacks vary, and some at the limits of what there may be: these must be read."""
    yield "single sound", single_sound(who)
    yield "sound", sound(who)
    yield "sound without an index", join(*sound_chunks(who), (b"DONE", done(3)))
    for name, fields in {
        "no samples": {"samples": 0},
        "highest rates": {"rate": (1 << 24) - 1, "model_rate": (1 << 24) - 1},
        "lowest rates": {"rate": 1, "model_rate": 1},
        "largest hop, eight channels": {"hop": 1 << 16, "channels": 8},
        "most samples": {"samples": 1 << 33},
    }.items():
        yield name, join((b"HEAD", sound_head(who, **fields)), (b"DATA", data(None, payload=b"\x40" * 12)))


def valid_files(who: Identity = ANYONE) -> Iterator[tuple[str, bytes]]:
    """The files that the attacks vary: these must be read without an error."""
    yield "single", single(who)
    yield "tiled", tiled(who)
    yield "tiled, no index", plain_tiled(who)
    yield "tiled, index", with_index(*tiled_chunks(who))
    front, *units = tiled_chunks(who)
    spread = [piece for unit in units for piece in (Chunk(b"zzzz", b"skip"), unit)]
    yield "unknown chunks among the units", with_index(front, *spread, Chunk(b"zz_0", b""))
