"""Packets of sound out of video files, and into others."""

import io
from dataclasses import replace
from fractions import Fraction

import pytest
from models.movies import movie
from models.tiny_video import moving_clip

from triode.errors import BitstreamError, CodecError, UnsupportedError
from triode.io.tracks import PacketReader
from triode.io.video import ClipReader, read_clip, write_clip
from triode.media import Clip

av = pytest.importorskip("av")
MOVIE = movie()


class Feed:
    """Gives all packets of a file at once."""

    def __init__(self, data):
        self.reader = PacketReader(io.BytesIO(data))
        self.header, self.tick = self.reader.header, self.reader.tick

    def take(self):
        return self.reader.until(None)


def packets(data):
    """Return the sound's packets, as FFmpeg demuxes them."""
    with av.open(io.BytesIO(data)) as file:
        return [bytes(p) for p in file.demux(audio=0) if p.size]


class TestReading:
    @pytest.mark.parametrize(("fmt", "sound"), [("mp4", "aac"), ("matroska", "flac"), ("matroska", "pcm_s16le")])
    def test_gives_every_packet(self, fmt, sound):
        data = movie(fmt=fmt, sound=sound)
        with PacketReader(io.BytesIO(data)) as reader:
            assert reader.codec == sound
            found = reader.until(None)
            assert [packet.data for packet in found] == packets(data)
            assert reader.until(None) == []
            assert [p.time for p in found] == sorted(p.time for p in found)

    def test_what_mp4_does_not_hold(self):
        film = movie(3, fmt="matroska", sound="wavpack")
        clip, feed = read_clip(io.BytesIO(film)), Feed(film)
        write_clip(io.BytesIO(), clip, "mkv", feed)
        with pytest.raises(UnsupportedError, match=r"mp4 does not (take|hold)"):
            write_clip(io.BytesIO(), clip, "mp4", Feed(film))

    def test_until_a_time(self):
        with PacketReader(io.BytesIO(MOVIE)) as reader:
            assert reader.tick == Fraction(1, 48_000)
            first, second = reader.until(Fraction(1, 4)), reader.until(Fraction(1, 2))
            assert all(packet.time < 12_000 for packet in first)
            assert all(12_000 <= packet.time < 24_000 for packet in second)
            assert first[-1].time + 1024 == second[0].time
            assert reader.until(Fraction(1, 2)) == []
            assert len(first) + len(second) + len(reader.until(None)) == len(packets(MOVIE))

    def test_sound_that_begins_before_the_frames(self):
        with PacketReader(io.BytesIO(MOVIE)) as reader:
            assert reader.lead == 1024  # the encoder's delay
            assert reader.until(Fraction(0))[0].time == -1024

    def test_frames_that_begin_late(self):
        """Times count from the first frame."""
        data = movie(stamps=[n + 15 for n in range(24)])
        with PacketReader(io.BytesIO(data)) as reader:
            late = 15 * 1001 / 30000 * 48_000  # which MP4 rounds to thousandths of a second
            assert reader.until(None)[0].time == pytest.approx(-1024 - late, abs=48)

    def test_from_a_path(self, tmp_path):
        path = tmp_path / "a.mp4"
        path.write_bytes(MOVIE)
        with PacketReader(path) as reader:
            assert len(reader.until(None)) == len(packets(MOVIE))

    def test_a_codec_that_is_not_known(self):
        data = movie(3, fmt="matroska", sound="pcm_s16le", seconds=0.1)
        reader = Feed(data)
        with pytest.raises(UnsupportedError, match="does not know the codec of the sound"):
            PacketReader(io.BytesIO(data.replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT")))
        reader.header = reader.header.replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT")
        with pytest.raises(UnsupportedError, match="does not know the codec of the sound"):
            write_clip(io.BytesIO(), read_clip(io.BytesIO(data)), "mkv", reader)

    def test_no_sound(self):
        with pytest.raises(UnsupportedError, match="no sound"):
            PacketReader(io.BytesIO(movie(sound=None)))

    @pytest.mark.parametrize("data", [b"", b"no video", MOVIE[:200]])
    def test_no_video(self, data):
        with pytest.raises(CodecError):
            PacketReader(io.BytesIO(data)).until(None)


class TestWriting:
    @pytest.mark.parametrize("fmt", ["mkv", "mp4"])
    def test_packets_come_through(self, fmt):
        clip, out = read_clip(io.BytesIO(MOVIE)), io.BytesIO()
        write_clip(out, clip, fmt, Feed(MOVIE))
        assert packets(out.getvalue()) == packets(MOVIE)
        back = read_clip(io.BytesIO(out.getvalue()))
        for plane in "yuv":
            assert (getattr(back, plane) == getattr(clip, plane)).all()
        assert (back.rate, back.times) == (clip.rate, None)

    def test_sound_stays_beside_the_frames(self):
        out = io.BytesIO()
        write_clip(out, read_clip(io.BytesIO(MOVIE)), "mp4", Feed(MOVIE))
        with PacketReader(io.BytesIO(out.getvalue())) as one, PacketReader(io.BytesIO(MOVIE)) as other:
            assert [p.time for p in one.until(None)] == [p.time for p in other.until(None)]

    def test_y4m_has_none(self):
        with pytest.raises(UnsupportedError, match="y4m holds no sound"):
            write_clip(io.BytesIO(), read_clip(io.BytesIO(MOVIE)), "y4m", Feed(MOVIE))

    def test_broken_header(self):
        feed = Feed(MOVIE)
        feed.header = b"nothing"
        with pytest.raises((UnsupportedError, BitstreamError)):
            write_clip(io.BytesIO(), read_clip(io.BytesIO(MOVIE)), "mkv", feed)


class TestTimes:
    STAMPS = (0, 40, 79, 150, 151, 400, 1000, 1040)

    def test_are_those_of_the_file(self):
        data = movie(8, fmt="matroska", sound=None, stamps=self.STAMPS, clock=Fraction(1, 1000))
        clip = read_clip(io.BytesIO(data))
        assert clip.times == tuple(Fraction(stamp, 1000) for stamp in self.STAMPS)
        with ClipReader(io.BytesIO(data)) as reader:
            assert reader.tick == Fraction(1, 1000)
            parts = list(reader)
        assert tuple(time for part in parts[2:] for time in part.times) == clip.times[2:]

    @pytest.mark.parametrize("fmt", ["matroska", "mp4"])
    def test_regular_ones_are_not_listed(self, fmt):
        """Matroska rounds to thousandths of a second, which is no irregularity."""
        clip = read_clip(io.BytesIO(movie(24, fmt=fmt, sound=None)))
        assert (clip.times, clip.rate) == (None, Fraction(30000, 1001))

    @pytest.mark.parametrize("fmt", ["mkv", "mp4"])
    def test_are_written(self, fmt):
        data = movie(8, fmt="matroska", sound=None, stamps=self.STAMPS, clock=Fraction(1, 1000))
        clip, out = read_clip(io.BytesIO(data)), io.BytesIO()
        write_clip(out, clip, fmt)
        assert read_clip(io.BytesIO(out.getvalue())).times == clip.times

    @pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001), Fraction(299_997_003, 9_999_991)])
    @pytest.mark.parametrize("fmt", ["mkv", "mp4"])
    def test_of_parts_are_written(self, fmt, rate):
        """The first part does not tell that frames of later ones come at uneven times."""
        clip, out = moving_clip(6, 48, 32), io.BytesIO()
        times = (*(n / rate for n in range(3)), *(3 / rate + Fraction(n, 100) for n in range(3)))
        parts = [
            Clip(clip.y[:3], clip.u[:3], clip.v[:3], rate),
            Clip(clip.y[3:], clip.u[3:], clip.v[3:], rate, times=times[3:]),
        ]
        write_clip(out, parts, fmt)
        found = read_clip(io.BytesIO(out.getvalue())).times
        assert max(abs(a - b) for a, b in zip(found, times, strict=True)) < Fraction(1, 900)

    @pytest.mark.parametrize("fmt", ["mkv", "mp4"])
    def test_even_ones_of_parts_stay_even(self, fmt):
        clip, out = moving_clip(6, 48, 32), io.BytesIO()
        rate = Fraction(24000, 1001)
        parts = [Clip(clip.y[n : n + 3], clip.u[n : n + 3], clip.v[n : n + 3], rate) for n in (0, 3)]
        write_clip(out, parts, fmt)
        found = read_clip(io.BytesIO(out.getvalue()))
        assert (found.times, found.rate) == (None, rate)

    @pytest.mark.parametrize("fmt", ["mkv", "mp4"])
    @pytest.mark.parametrize(
        "facts",
        [
            {"rate": Fraction(4294967291, 4294967279)},
            {"rate": Fraction(1, 4294967291)},
            {"aspect": Fraction(4294967291, 4294967279)},
            {"times": (Fraction(0), Fraction(2**60))},
        ],
    )
    def test_numbers_that_containers_do_not_hold(self, fmt, facts):
        clip = replace(moving_clip(2, 48, 32), **facts)
        for given in (clip, [clip]):
            with pytest.raises(UnsupportedError, match="does not hold numbers as large"):
                write_clip(io.BytesIO(), given, fmt)

    def test_skipped_frames_count(self):
        data = movie(8, fmt="matroska", sound=None, stamps=self.STAMPS, clock=Fraction(1, 1000))
        assert read_clip(io.BytesIO(data), 5).times == tuple(Fraction(s, 1000) for s in self.STAMPS[5:])
