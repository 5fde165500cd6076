"""The complete files that `docs/format.md` prints are what the writer writes and the reader reads."""

import io
import re
from fractions import Fraction
from pathlib import Path

import pytest

from triode.container import (
    AudioHead,
    ChunkType,
    CodedFrame,
    ContainerReader,
    ContainerWriter,
    FrameKind,
    Head,
    ImageHead,
    Layout,
    MetadataKind,
    Packet,
    SoundTrack,
    SoundUnit,
    TrackMethod,
    Unit,
    VideoHead,
    VideoUnit,
    pack_packets,
    pack_sound_unit,
    pack_track,
    pack_video_unit,
    read_sound_unit,
    unpack_packets,
    unpack_track,
    unpack_video_unit,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
DIGESTS = (bytes.fromhex("a1b2c3d4"), bytes.fromhex("0badcafe"))


def dumps():
    return re.findall(r"^```hexdump\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def parse(dump):
    """Return the bytes of a dump, whose lines read `offset  bytes | meaning`."""
    data = b""
    for line in dump.splitlines():
        offset, hexadecimal, meaning = re.fullmatch(r"([0-9a-f]{4})  ([0-9a-f ]+?) +\| (.+)", line).groups()
        assert int(offset, 16) == len(data), line
        assert meaning
        data += bytes.fromhex(hexadecimal)
    return data


def write_single(fp):
    head = Head("image-light.v2", *DIGESTS, ImageHead(768, 512, tile_log2=10))
    with ContainerWriter(fp, head) as writer:
        writer.unit(Unit(0, 20, 0x1234ABCD, bytes.fromhex("5ec0de0ff1ce")))


def write_tiled(fp):
    body = ImageHead(40, 20, layout=Layout.GREY, alpha=True, tile_log2=5)
    with ContainerWriter(fp, Head("image-light.v2", *DIGESTS, body)) as writer:
        writer.metadata(MetadataKind.TEXT, b"hello")
        writer.alpha(b"\x01\x00")
        writer.unit(Unit(0, 20, 0x1234ABCD, bytes.fromhex("5ec0de")))
        writer.unit(Unit(1, 20, 0xFEEDBEEF, bytes.fromhex("0ff1ce01")))


SOUND_UNITS = (
    SoundUnit(None, (3, 3), (16,), bytes.fromhex("5ec0de")),
    SoundUnit(43, (-2, None), (16,), bytes.fromhex("0ff1ce01")),
)


def write_sound(fp):
    head = Head("audio-light.v1", *DIGESTS, AudioHead(80_000, 44_100, 2, 16_000, 320, chunk_frames=48))
    with ContainerWriter(fp, head) as writer:
        for index, (unit, crc) in enumerate(zip(SOUND_UNITS, (0x1234ABCD, 0xFEEDBEEF), strict=True)):
            writer.unit(Unit(index, 31, crc, pack_sound_unit(unit)))


VIDEO_UNITS = (
    VideoUnit(
        0,
        0,
        (CodedFrame(FrameKind.INTRA, 31, b"\x5e\xc0\xde"), CodedFrame(FrameKind.INTER, 30, b"\x0f\xf1")),
        sound=pack_packets([Packet(0, 1024, b"\xce\x01")]),
    ),
    VideoUnit(2, 2002, (CodedFrame(FrameKind.INTRA, 31, b"\xca\xfe"),), durations=(1500,)),
)
TRACK = SoundTrack(TrackMethod.COPIED, Fraction(1, 48_000), b"\x1a\x45\xdf\xa3", lead=1024)


def write_video(fp):
    body = VideoHead(65, 37, Fraction(1, 30_000), 1001, 32, primaries=1, transfer=1)
    with ContainerWriter(fp, Head("video-light.v1", *DIGESTS, body)) as writer:
        writer.metadata(MetadataKind.TRACK, pack_track(TRACK))
        for index, (unit, crc) in enumerate(zip(VIDEO_UNITS, (0x1234ABCD, 0xFEEDBEEF), strict=True)):
            writer.unit(Unit(index, 31, crc, pack_video_unit(unit)))


def test_there_are_four_dumps():
    assert len(dumps()) == 4


@pytest.mark.parametrize(("number", "write"), [(0, write_single), (1, write_tiled), (2, write_sound), (3, write_video)])
def test_dump_is_what_the_writer_writes(number, write):
    fp = io.BytesIO()
    write(fp)
    assert parse(dumps()[number]).hex(" ") == fp.getvalue().hex(" ")


def test_dumps_are_read():
    single, tiled, sound, video = (ContainerReader(io.BytesIO(parse(dump))) for dump in dumps())
    assert [info.type for info in single.structure()] == ["HEAD", "DATA"]
    assert [info.type for info in tiled.structure()] == ["HEAD", "text", "ALPH", "DATA", "DATA", "indx", "DONE"]
    assert [hex(info.offset) for info in tiled.structure() if info.type == ChunkType.DATA] == ["0x48", "0x5a"]
    assert [read_sound_unit(u.payload, sound.head.audio, u.index) for u in sound.units()] == list(SOUND_UNITS)
    assert sound.head.audio.unit_frames(1) == 43
    assert [unpack_video_unit(u.payload, video.head.video) for u in video.units()] == list(VIDEO_UNITS)
    assert unpack_packets(unpack_video_unit(video.at(0).payload, video.head.video).sound) == (
        Packet(0, 1024, b"\xce\x01"),
    )
    assert unpack_track(video.metadata.track) == TRACK


def test_every_chunk_type_is_specified():
    for kind in (*ChunkType, *MetadataKind):
        assert f"`{kind}`" in DOCUMENT
