"""The container of video: its part of `HEAD`, groups of pictures, sound packets, the index, files that grow."""

import dataclasses
import io
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.container import (
    MAX_GOP,
    CodedFrame,
    ContainerReader,
    ContainerWriter,
    DecodeLimits,
    FrameKind,
    GopSpan,
    Head,
    ImageHead,
    MetadataKind,
    Packet,
    SoundTrack,
    TrackMethod,
    Unit,
    VideoHead,
    VideoUnit,
    pack_head,
    pack_packets,
    pack_track,
    pack_video_unit,
    unpack_head,
    unpack_packets,
    unpack_track,
    unpack_video_unit,
)
from triode.container.chunks import MAX_VARINT
from triode.container.track import TriodeSound, pack_triode_sound, unpack_triode_sound
from triode.container.video import MAX_TICKS, pack_gop_index, read_span, unpack_gop_index
from triode.errors import BitstreamError, CodecError, LimitExceededError, TruncatedError, UnsupportedError

DIGESTS = (b"abcd", b"efgh")
HEAD = VideoHead(65, 37, Fraction(1, 90_000), 3600, 32)
VARINT = st.integers(1, MAX_VARINT)
relaxed = settings(max_examples=60, deadline=None)


def head_of(body=HEAD):
    return Head("intra.v1", *DIGESTS, body)


def group(first=0, start=0, frames=3, durations=None, sound=b""):
    coded = tuple(CodedFrame(FrameKind(min(i, 2)), i, b"f%d" % (first + i)) for i in range(frames))
    return VideoUnit(first, start, coded, durations, sound)


def written(groups, body=HEAD, *, close=True, index=True, track=None):
    out = io.BytesIO()
    writer = ContainerWriter(out, head_of(body), index=index)
    if track:
        writer.metadata(MetadataKind.TRACK, track)
    for number, one in enumerate(groups):
        writer.unit(Unit(number, 20, 0xFEED, pack_video_unit(one)))
    if close:
        writer.close()
    return out.getvalue()


GROUPS = (
    group(0, 0, 3),
    group(3, 10_800, 2, (3600, 9000)),
    group(5, 23_400, 1, sound=pack_packets([Packet(7, 1024, b"sound")])),
)
FILE = written(GROUPS)


class TestHead:
    @relaxed
    @given(
        st.builds(
            VideoHead,
            width=st.integers(1, 5000),
            height=st.integers(1, 5000),
            tick=st.builds(Fraction, VARINT, VARINT),
            frame_ticks=VARINT,
            most_frames=st.integers(1, MAX_GOP),
            matrix=st.integers(0, 255),
            primaries=st.integers(0, 255),
            transfer=st.integers(0, 255),
            full_range=st.booleans(),
            rotation=st.integers(0, 3),
            chroma_location=st.integers(0, 6),
            aspect=st.builds(Fraction, VARINT, VARINT),
            bit_depth=st.integers(1, 16),
        )
    )
    def test_round_trip(self, body):
        payload = pack_head(head_of(body))
        assert len(payload) < 1024
        found = unpack_head(payload)
        assert found.video == body
        assert (found.counted, found.single, found.alpha) == (False, False, False)
        with pytest.raises(UnsupportedError, match="not an image"):
            _ = found.image
        with pytest.raises(UnsupportedError, match="not audio"):
            _ = found.audio

    def test_other_media_have_no_video(self):
        with pytest.raises(UnsupportedError, match="holds image, not video"):
            _ = Head("m", *DIGESTS, ImageHead(4, 4)).video

    @pytest.mark.parametrize(
        "change",
        [
            {"width": 0},
            {"height": 1 << 31},
            {"frame_ticks": 0},
            {"most_frames": 0},
            {"most_frames": MAX_GOP + 1},
            {"matrix": 256},
            {"rotation": 4},
            {"chroma_location": 7},
            {"bit_depth": 17},
            {"tick": Fraction(1, 1 << 32)},
            {"tick": Fraction(0)},
            {"aspect": Fraction(1 << 32, 1)},
        ],
    )
    def test_out_of_range(self, change):
        with pytest.raises(ValueError, match="must be"):
            dataclasses.replace(HEAD, **change)

    def test_rate(self):
        assert HEAD.rate == 25
        assert VideoHead(2, 2, Fraction(1, 30_000), 1001, 9).rate == Fraction(30_000, 1001)

    def test_limits(self):
        payload = pack_head(head_of())
        with pytest.raises(LimitExceededError, match="max_pixels"):
            unpack_head(payload, DecodeLimits(max_pixels=65 * 37 - 1))
        assert unpack_head(payload, DecodeLimits(max_pixels=65 * 37, max_units=1)).video == HEAD


frames = st.builds(CodedFrame, st.sampled_from(FrameKind), st.integers(0, 63), st.binary(max_size=9))
firsts = st.builds(CodedFrame, st.just(FrameKind.INTRA), st.integers(0, 63), st.binary(max_size=9))


@st.composite
def units(draw):
    coded = (draw(firsts), *draw(st.lists(frames, max_size=5)))
    durations = draw(st.none() | st.tuples(*[VARINT] * len(coded)))
    first, start = draw(st.integers(0, 1 << 20)), draw(st.integers(0, MAX_TICKS))
    return VideoUnit(first, start, coded, durations, draw(st.binary(max_size=20)))


class TestUnit:
    @relaxed
    @given(units())
    def test_round_trip(self, unit):
        payload = pack_video_unit(unit)
        assert unpack_video_unit(payload, HEAD) == unit
        assert read_span(payload, HEAD) == unit.span(HEAD)
        for length in range(len(payload)):
            with pytest.raises(BitstreamError):
                unpack_video_unit(payload[:length], HEAD)
        with pytest.raises(BitstreamError, match="left over"):
            unpack_video_unit(payload + b"\0", HEAD)

    def test_durations(self):
        assert GROUPS[0].span(HEAD) == GopSpan(0, 3, 0, 10_800)
        assert GROUPS[1].span(HEAD) == GopSpan(3, 2, 10_800, 12_600)
        assert (GROUPS[1].span(HEAD).stop, GROUPS[1].span(HEAD).end) == (5, 23_400)

    def test_reserved_codes(self):
        payload = bytearray(pack_video_unit(group(frames=1)))
        assert payload[4] == 0  # timing
        with pytest.raises(UnsupportedError, match="timing 2"):
            unpack_video_unit(bytes(payload[:4]) + b"\2" + bytes(payload[5:]), HEAD)
        with pytest.raises(UnsupportedError, match="kind 3"):
            unpack_video_unit(bytes(payload[:6]) + b"\xc0" + bytes(payload[7:]), HEAD)
        with pytest.raises(BitstreamError, match="first frame of a unit is an intra"):
            unpack_video_unit(bytes(payload[:6]) + b"\x40" + bytes(payload[7:]), HEAD)

    def test_rules(self):
        with pytest.raises(BitstreamError, match="0 ticks"):
            unpack_video_unit(b"\0\0\0\1\1\0\0\0\0", HEAD)
        with pytest.raises(BitstreamError, match=r"0 frames; by HEAD it has 1\.\.32"):
            unpack_video_unit(b"\0\0\0\0\0\0", HEAD)
        with pytest.raises(BitstreamError, match="33 frames"):
            unpack_video_unit(pack_video_unit(group(frames=33)), HEAD)
        with pytest.raises(LimitExceededError, match="max_frames"):
            unpack_video_unit(pack_video_unit(group(8, 0, 3)), HEAD, DecodeLimits(max_frames=10))
        with pytest.raises(ValueError, match="durations"):
            group(frames=2, durations=(1,))
        with pytest.raises(BitstreamError, match=r"below 2\^48"):
            unpack_video_unit(b"\0\0\x80\x80\x04\1\0\0\0\0", HEAD)


class TestFile:
    def test_round_trip(self):
        reader = ContainerReader(io.BytesIO(FILE))
        found = [unpack_video_unit(u.payload, HEAD) for u in reader.units()]
        assert tuple(found) == GROUPS
        assert [c.type for c in reader.structure()] == ["HEAD", "DATA", "DATA", "DATA", "indx", "DONE"]
        assert reader.indexed
        assert reader.spans() == tuple(g.span(HEAD) for g in GROUPS)
        assert unpack_video_unit(reader.at(2).payload, HEAD) == GROUPS[2]
        for index in (3, -1):
            with pytest.raises(IndexError, match="the file has 3"):
                reader.at(index)

    def test_without_an_index(self):
        reader = ContainerReader(io.BytesIO(written(GROUPS, index=False)))
        assert not reader.indexed
        assert reader.spans() == tuple(g.span(HEAD) for g in GROUPS)
        assert reader.at(1).index == 1

    def test_grows(self):
        """What is there can be read; that more is to come is told after it."""
        growing = written(GROUPS, close=False)
        assert FILE.startswith(growing)
        reader = ContainerReader(io.BytesIO(growing))
        units = reader.units()
        assert [next(units).index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(TruncatedError, match="after 3 units, without DONE"):
            next(units)
        assert [u.index for u in reader.salvage()] == [0, 1, 2]

    def test_needs_a_unit(self):
        with pytest.raises(ValueError, match="at least one unit"):
            written([])
        head = written(GROUPS, close=False)[: FILE.index(b"DATA")]
        with pytest.raises(TruncatedError):
            list(ContainerReader(io.BytesIO(head)).units())

    @pytest.mark.parametrize(
        "bad", [group(4, 10_800), group(3, 10_801), group(0, 0), group(3, 0)], ids=["frame", "time", "again", "start"]
    )
    def test_groups_follow_each_other(self, bad):
        with pytest.raises(ValueError, match="does not follow"):
            written([GROUPS[0], bad])
        reader = ContainerReader(io.BytesIO(self._spliced([GROUPS[0], bad])))
        with pytest.raises(BitstreamError, match="expected frame 3 at 10800"):
            list(reader.units())

    @pytest.mark.parametrize("bad", [group(1, 0), group(0, 1)])
    def test_the_first_is_the_first(self, bad):
        with pytest.raises(ValueError, match="does not follow None"):
            written([bad])
        with pytest.raises(BitstreamError, match="expected frame 0 at 0"):
            list(ContainerReader(io.BytesIO(self._spliced([bad]))).units())

    @staticmethod
    def _spliced(groups):
        """Write units that do not follow each other, each through a writer of its own."""
        from abuse.samples import chunk, data

        head = written(GROUPS)[: FILE.index(b"DATA")]
        return head + b"".join(chunk(b"DATA", data(i, payload=pack_video_unit(g))) for i, g in enumerate(groups))

    def test_limits(self):
        for limits in (DecodeLimits(max_units=2), DecodeLimits(max_frames=5)):
            with pytest.raises(LimitExceededError):
                list(ContainerReader(io.BytesIO(FILE), limits).units())
        with pytest.raises(LimitExceededError, match="max_units"):
            ContainerReader(io.BytesIO(FILE), DecodeLimits(max_units=2)).spans()
        with pytest.raises(LimitExceededError, match="max_frames"):
            ContainerReader(io.BytesIO(FILE), DecodeLimits(max_frames=5)).spans()

    def test_every_bit_flipped(self):
        for place in range(len(FILE) * 8):
            damaged = bytearray(FILE)
            damaged[place // 8] ^= 1 << place % 8
            with pytest.raises(CodecError):
                list(ContainerReader(io.BytesIO(damaged)).units())

    def test_a_flipped_bit_costs_one_unit(self):
        damaged = bytearray(FILE)
        damaged[FILE.index(b"f3")] ^= 4
        assert [u.index for u in ContainerReader(io.BytesIO(damaged)).salvage()] == [0, 2]


class TestIndex:
    def test_round_trip(self):
        entries = [(50, GopSpan(0, 3, 0, 9)), (70, GopSpan(3, 1, 9, 1 << 40)), (99, GopSpan(4, MAX_GOP, 9 + 2**40, 5))]
        assert unpack_gop_index(pack_gop_index(entries), 3, 200) == tuple(entries)

    def test_distances_that_do_not_fit(self):
        span = GopSpan(0, 1, 0, 1)
        assert pack_gop_index([(8, span), (8 + (1 << 32), span)]) is None

    @pytest.mark.parametrize(
        ("payload", "units", "end"),
        [
            (b"", 1, 99),
            (b"\x32\x03\x09\x00" * 2, 1, 99),
            (b"\x08\x03\x09\x00", 1, 99),
            (b"\x32\x00\x09\x00", 1, 99),
            (b"\x32\x03\x00\x00", 1, 99),
            (b"\x32\x03\x09\x00", 1, 58),
            (b"\x32\x03\x09\x80\x00", 1, 99),
        ],
        ids=["empty", "long", "overlap", "no frames", "no time", "behind the end", "padded"],
    )
    def test_broken(self, payload, units, end):
        with pytest.raises(BitstreamError):
            unpack_gop_index(payload, units, end)

    def test_lies_are_found(self):
        index = FILE.index(b"indx")
        table = FILE[index + 5 : FILE.index(b"DONE") - 4]
        from abuse.samples import chunk, done

        for place in range(len(table)):
            lie = chunk(b"indx", table[:place] + bytes([table[place] ^ 1]) + table[place + 1 :])
            data = FILE[:index] + lie + chunk(b"DONE", done(3, len(lie)))
            with pytest.raises(BitstreamError):
                list(ContainerReader(io.BytesIO(data)).units())

    def test_done_of_none(self):
        from abuse.samples import chunk, done

        data = written(GROUPS, close=False) + chunk(b"DONE", done(0))
        with pytest.raises(BitstreamError, match="at least one"):
            ContainerReader(io.BytesIO(data)).at(0)
        with pytest.raises(BitstreamError, match="DONE says 0"):
            list(ContainerReader(io.BytesIO(data)).units())


packets = st.lists(
    st.builds(Packet, st.integers(0, 1 << 30), st.integers(0, MAX_VARINT), st.binary(max_size=9)), max_size=5
).map(lambda found: sorted(found, key=lambda p: p.time))


class TestSound:
    @relaxed
    @given(packets)
    def test_packets(self, some):
        field = pack_packets(some)
        assert unpack_packets(field) == tuple(some)
        assert (field == b"") == (not some)

    def test_broken_packets(self):
        good = pack_packets([Packet(5, 3, b"abc"), Packet(9, 3, b"de")])
        whole = {len(good), len(pack_packets([Packet(5, 3, b"abc")])), 0}
        for length in set(range(len(good))) - whole:
            with pytest.raises(BitstreamError):
                unpack_packets(good[:length])
        with pytest.raises(BitstreamError, match="after itself"):
            unpack_packets(b"\5\0\1\3\0")
        with pytest.raises(ValueError, match="varint"):
            pack_packets([Packet(5, 3, b""), Packet(4, 3, b"")])
        with pytest.raises(ValueError, match="out of range"):
            Packet(-1, 0, b"")

    @relaxed
    @given(
        st.builds(
            SoundTrack,
            st.sampled_from(TrackMethod),
            st.builds(Fraction, VARINT, VARINT),
            st.binary(max_size=9),
            st.integers(0, MAX_VARINT),
        )
    )
    def test_track(self, track):
        assert unpack_track(pack_track(track)) == track

    def test_broken_tracks(self):
        with pytest.raises(UnsupportedError, match="method 2"):
            unpack_track(b"\2\1\1\0")
        for payload in (b"", b"\0\1", b"\0\0\1\0", b"\0\2\4\0"):
            with pytest.raises(BitstreamError):
                unpack_track(payload)

    def test_triode_sound(self):
        sound = TriodeSound("audio-light.v1", b"abcd", b"efgh", 2, 44_100, 48)
        codec = pack_triode_sound(sound)
        assert unpack_triode_sound(codec) == sound
        for length in range(len(codec)):
            with pytest.raises(BitstreamError):
                unpack_triode_sound(codec[:length])
        for change in ({"rate": 0}, {"chunk_frames": 0}, {"channels": 9}, {"model": ""}):
            with pytest.raises(BitstreamError):
                unpack_triode_sound(pack_triode_sound(dataclasses.replace(sound, **change)))

    def test_in_a_file(self):
        track = pack_track(SoundTrack(TrackMethod.COPIED, Fraction(1, 48_000), b"mka", 1024))
        reader = ContainerReader(io.BytesIO(written(GROUPS, track=track)))
        assert reader.metadata.track == track
        assert unpack_packets(unpack_video_unit(reader.at(2).payload, HEAD).sound) == (Packet(7, 1024, b"sound"),)

    def test_images_have_none(self):
        out = io.BytesIO()
        writer = ContainerWriter(out, Head("m", *DIGESTS, ImageHead(4, 4)))
        with pytest.raises(ValueError, match="only a video"):
            writer.metadata(MetadataKind.TRACK, b"x")
        from abuse.samples import data, head, join

        bad = join((b"HEAD", head()), (b"trak", b"\0\1\1\0"), (b"DATA", data(None)))
        with pytest.raises(BitstreamError, match="only a video"):
            list(ContainerReader(io.BytesIO(bad)).units())
