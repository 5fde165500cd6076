"""Encodings that are stopped and go on, and encodings at a bit rate."""

import io
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from models.clip_source import Source
from models.tiny_sound import smooth_sound, tiny_sound
from models.tiny_video import TinyVideo, moving_clip, tiny_video

from triode.codecs.rate_control import OVERHEAD, LeakyBucket
from triode.codecs.video import VideoCodec
from triode.codecs.video_journal import Entry, VideoJournal
from triode.codecs.video_sound import CopiedSound, TriodeSoundOfVideo
from triode.container import ContainerReader, Unit
from triode.errors import UnsupportedError
from triode.media import Clip, SoundPacket

CODEC = VideoCodec(tiny_video(), gop=5)
CLIP = moving_clip(32, scenes=[13])


class StopError(Exception):
    """The encoder is killed."""


class Sounds:
    """A recording, block by block."""

    rate, channels, frames = 1000, 1, None

    def __init__(self):
        self.samples = smooth_sound(1, 1300)

    def read(self, count):
        block, self.samples = self.samples[:, :100], self.samples[:, 100:]
        return block


def options(kind):
    sound = {"sound": TriodeSoundOfVideo(tiny_sound(), Sounds(), 30, seconds=0.1)} if kind == "sound" else {}
    return {**({"kbps": 16} if kind == "kbps" else {"quality": 40}), **sound}


def stopped(journal, after, kind="quality", clip=CLIP):
    """Encode, and stop after so many groups."""
    calls = []

    def watch(_):
        calls.append(1)
        if len(calls) == after:
            raise StopError

    with pytest.raises(StopError):
        CODEC.encode(Source(clip, clip.frames), io.BytesIO(), journal=journal, progress=watch, **options(kind))


@pytest.mark.parametrize("kind", ["quality", "kbps", "sound"])
def test_resumed_is_the_same(tmp_path, monkeypatch, kind):
    whole = CODEC.encode(CLIP, **options(kind))
    assert whole.gops == 7
    journal = tmp_path / "clip.journal"
    stopped(journal, 3, kind)
    stopped(journal, 2, kind)
    coded = []
    plain = TinyVideo.encode
    monkeypatch.setattr(TinyVideo, "encode", lambda self, *a: coded.append(1) or plain(self, *a))
    again = CODEC.encode(CLIP, journal=journal, **options(kind))
    assert again.data == whole.data
    assert again.resumed == 5
    assert kind == "kbps" or len(coded) == 32 - 23
    assert not journal.exists()


def test_stopped_at_the_very_end(tmp_path):
    whole = CODEC.encode(CLIP, **options("sound"))
    stopped(tmp_path / "j", 7, "sound")
    again = CODEC.encode(CLIP, journal=tmp_path / "j", **options("sound"))
    assert (again.data, again.resumed) == (whole.data, 7)


def test_torn_entries_are_coded_again(tmp_path):
    whole, journal = CODEC.encode(CLIP, quality=40), tmp_path / "j"
    stopped(journal, 4)
    kept = journal.read_bytes()
    for cut in (1, 10, len(kept) // 2, len(kept) - 20, len(kept)):
        journal.write_bytes(kept[:-cut] if cut < len(kept) else b"")
        assert CODEC.encode(CLIP, quality=40, journal=journal).data == whole.data
    damaged = bytearray(kept)
    damaged[-3] ^= 1
    journal.write_bytes(damaged)
    again = CODEC.encode(CLIP, quality=40, journal=journal)
    assert (again.data, again.resumed) == (whole.data, 3)


def test_another_encoding_is_refused(tmp_path):
    journal = tmp_path / "j"
    stopped(journal, 4)
    with pytest.raises(UnsupportedError, match="another encoding"):
        CODEC.encode(CLIP, quality=41, journal=journal)
    with pytest.raises(UnsupportedError, match="another encoding"):
        VideoCodec(tiny_video(), gop=6).encode(CLIP, quality=40, journal=journal)
    y = CLIP.y.copy()
    y[7, 0, 0] ^= 1
    with pytest.raises(UnsupportedError, match="group 1, frames 5 to 9, differs"):
        CODEC.encode(Clip(y, CLIP.u, CLIP.v, CLIP.rate), quality=40, journal=journal)
    assert CODEC.encode(CLIP, quality=40, journal=journal).resumed == 4


class Packets:
    """Packets of a track that is copied, the last of them after the frames."""

    tick, lead, header = Fraction(1, 1000), 0, b"a track"

    def __init__(self, other=None):
        self.left = [SoundPacket(100 * n, 100, b"other" if n == other else b"packet") for n in range(20)]

    def until(self, seconds):
        found = [p for p in self.left if seconds is None or p.time * self.tick < seconds]
        self.left = self.left[len(found) :]
        return found


@pytest.mark.parametrize("after", [4, 7])
def test_another_sound_is_refused(tmp_path, after):
    def encode(other=None, **more):
        sound = CopiedSound(Packets(other))
        return CODEC.encode(Source(CLIP, CLIP.frames), quality=40, sound=sound, journal=tmp_path / "j", **more)

    def stop(_):
        calls.append(1)
        if len(calls) == after:
            raise StopError

    calls, whole = [], CODEC.encode(CLIP, quality=40, sound=CopiedSound(Packets())).data
    with pytest.raises(StopError):
        encode(progress=stop)
    for other in [0, 3, *([19] if after == 7 else [])]:
        with pytest.raises(UnsupportedError, match=r"other sound: group \d, frames .* differs"):
            encode(other)
    again = encode()
    assert (again.data, again.resumed) == (whole, after)


def test_other_files_are_left_alone(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8\xff" * 50)
    with pytest.raises(UnsupportedError, match="no journal"):
        CODEC.encode(CLIP, journal=photo)
    assert photo.read_bytes() == b"\xff\xd8\xff" * 50


def test_journal_keeps_entries_in_order(tmp_path):
    entries = [Entry(Unit(n, n, 7, b"unit %d" % n), n + 3, n + 9) for n in range(3)]
    with VideoJournal(tmp_path / "j", b"d" * 32) as journal:
        for entry in (*entries, Entry(Unit(7, 0, 0, b""), 0, 0)):
            journal.add(entry)
    with VideoJournal(tmp_path / "j", b"d" * 32) as journal:
        assert journal.entries == tuple(entries)


def test_a_journal_that_is_being_written_is_refused(tmp_path):
    path = tmp_path / "j"
    with VideoJournal(path, b"digest") as journal:
        with pytest.raises(UnsupportedError, match="is the journal of an encoding that is running"):
            VideoJournal(path, b"digest")
        journal.add(Entry(Unit(0, 1, 2, b"x"), 1, 3))
    with VideoJournal(path, b"digest") as journal:
        assert len(journal.entries) == 1


def test_nonsense_behind_the_entries_takes_no_memory(tmp_path):
    entry = Entry(Unit(0, 5, 7, b"unit"), 3, 9)
    with VideoJournal(tmp_path / "j", b"d" * 32) as journal:
        journal.add(entry)
    with (tmp_path / "j").open("ab") as file:
        file.write(b"\xff" * 40)
    tracemalloc.start()
    try:
        with VideoJournal(tmp_path / "j", b"d" * 32) as journal:
            assert journal.entries == (entry,)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


class TestRate:
    @pytest.mark.parametrize("kbps", [9, 11, 13])
    def test_is_kept_and_used(self, kbps):
        clip = moving_clip(100, scenes=[23, 61])
        result = VideoCodec(tiny_video(), gop=10).encode(clip, kbps=kbps)
        assert 0.75 * kbps < result.kbps <= kbps

    def test_is_kept_at_any_time(self):
        clip = moving_clip(100)
        data = VideoCodec(tiny_video(), gop=10).encode(clip, kbps=14).data
        reader = ContainerReader(io.BytesIO(data))
        ends = [c.offset + c.size for c in reader.structure() if c.type == "DATA"]
        for span, end in zip(reader.spans(), ends, strict=True):
            assert 8 * end / 1000 <= 14 * span.stop / 25

    def test_too_low(self):
        with pytest.raises(UnsupportedError, match=r"2 kbps cannot be met: quality 0 takes"):
            CODEC.encode(CLIP, kbps=2)

    def test_more_than_the_model_can_use(self):
        result = CODEC.encode(CLIP, kbps=1e6)
        assert result.data == CODEC.encode(CLIP, quality=100).data

    def test_more_than_numbers_hold(self):
        assert CODEC.encode(moving_clip(2), kbps=1e308).quality == 100

    def test_savings_leak(self):
        bucket = LeakyBucket(1000, seconds=2)
        for _ in range(10):
            bucket.add(5, 100, 1, OVERHEAD)
        assert bucket.saved == 2000


def test_fingerprint_sees_times(tmp_path):
    journal = tmp_path / "j"
    stopped(journal, 4)
    times = tuple(Fraction(n * 2 + (n == 3), 50) for n in range(32))
    moved = Clip(CLIP.y, CLIP.u, CLIP.v, CLIP.rate, times=times)
    with pytest.raises(UnsupportedError, match=r"another encoding|group 0"):
        CODEC.encode(moved, quality=40, journal=journal)
    assert np.array_equal(moved.y, CLIP.y)
