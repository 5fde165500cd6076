"""y4m in plain Python, against what FFmpeg reads of the same bytes; any video, from files and pipes."""

import io
from fractions import Fraction

import numpy as np
import pytest
from models.movies import movie
from models.tiny_video import moving_clip

from triode.errors import BitstreamError, LimitExceededError, TruncatedError, UnsupportedError
from triode.io.files import JoinedFile, SharedFile
from triode.io.video import ClipReader
from triode.io.video_writing import write_clip
from triode.io.y4m import Y4mReader, open_clip

FACTS = ("width", "height", "rate", "matrix", "full_range", "tick", "primaries", "transfer", "aspect")


def y4m(clip):
    out = io.BytesIO()
    write_clip(out, clip, "y4m")
    return out.getvalue()


CLIP = moving_clip(5, 35, 21, rate=Fraction(30000, 1001))
FILE = y4m(CLIP)
FIRST = FILE.index(b"\n") + 1


class Pipe:
    """A file that gives what it likes, and cannot seek."""

    def __init__(self, data, most=1 << 20):
        self.file, self.most = io.BytesIO(data), most

    def read(self, count=-1):
        return self.file.read(min(count, self.most) if count >= 0 else self.most)

    def seekable(self):
        return False


def all_of(reader):
    parts = []
    while (part := reader.read(2)) is not None:
        parts.append(part)
    return [np.concatenate([getattr(part, plane) for part in parts]) for plane in "yuv"]


def same(planes, clip):
    return all(np.array_equal(found, getattr(clip, plane)) for found, plane in zip(planes, "yuv", strict=True))


class TestReading:
    @pytest.mark.parametrize(("width", "height", "frames"), [(35, 21, 5), (1, 1, 1), (16, 2, 3), (2, 577, 1)])
    @pytest.mark.parametrize("full", [False, True])
    def test_gives_what_ffmpeg_gives(self, width, height, frames, full):
        pytest.importorskip("av")
        clip = moving_clip(frames, width, height, full_range=full)
        data = y4m(clip)
        with Y4mReader(io.BytesIO(data)) as reader, ClipReader(io.BytesIO(data)) as other:
            assert [getattr(reader, fact) for fact in FACTS] == [getattr(other, fact) for fact in FACTS]
            assert reader.frames == frames
            assert same(all_of(reader), clip)
            assert same(all_of(other), clip)
            assert reader.read(1) is None

    def test_a_few_frames_at_a_time(self):
        pipe = Pipe(FILE)
        with Y4mReader(pipe) as reader:
            assert reader.frames is None
            assert pipe.file.tell() == FIRST
            first = reader.read(3)
            assert first.frames == 3
            assert np.array_equal(first.y, CLIP.y[:3])
            assert pipe.file.tell() == FIRST + 3 * (len(FILE) - FIRST) // 5
            assert (reader.read(3).frames, reader.read(3)) == (2, None)
            with pytest.raises(ValueError, match="count"):
                reader.read(0)

    @pytest.mark.parametrize("most", [1, 7, 1000])
    def test_pipes_that_give_little(self, most):
        with Y4mReader(Pipe(FILE, most)) as reader:
            assert same(all_of(reader), CLIP)

    @pytest.mark.parametrize(
        ("header", "rate", "aspect", "full"),
        [
            (b"W35 H21", 25, 1, False),
            (b"W35 H21 F0:0 A0:0 Ip", 25, 1, False),
            (
                b"H21 W35 F24000:1001 A128:117 It C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=FULL",
                Fraction(24000, 1001),
                0,
                1,
            ),
            (b"W35 H21 F50:2 C420paldv XCOLORRANGE=LIMITED", 25, 1, False),
        ],
    )
    def test_headers(self, header, rate, aspect, full):
        frames = FILE[FIRST:].replace(b"FRAME\n", b"FRAME It Xsome\n")
        with Y4mReader(io.BytesIO(b"YUV4MPEG2 " + header + b"\n" + frames)) as reader:
            assert (reader.rate, reader.full_range) == (rate, full)
            assert reader.aspect == (aspect or Fraction(128, 117))
            assert same(all_of(reader), CLIP)


class TestDamage:
    def test_cut_anywhere(self):
        ends = {FIRST + n * (len(FILE) - FIRST) // 5 for n in range(6)}
        for end in {*range(60), *range(FIRST - 2, len(FILE), 97)} - ends:
            with pytest.raises((TruncatedError, BitstreamError)):
                all_of(Y4mReader(io.BytesIO(FILE[:end])))

    @pytest.mark.parametrize(
        ("old", "new", "error"),
        [
            (b"YUV4", b"YUV5", BitstreamError),
            (b" W35", b" W0", BitstreamError),
            (b" W35", b"", BitstreamError),
            (b" W35", b" W3x", BitstreamError),
            (b" W35", b" W99999999", LimitExceededError),
            (b"H21 ", b"H21000000 ", LimitExceededError),
            (b" W35", b" X" + b"a" * 2000, BitstreamError),
            (b"C420mpeg2", b"C444", UnsupportedError),
            (b"C420mpeg2", b"C420p10", UnsupportedError),
            (b"FRAME\n", b"FRAMES", BitstreamError),
        ],
    )
    def test_headers(self, old, new, error):
        assert old in FILE
        with pytest.raises(error):
            all_of(Y4mReader(io.BytesIO(FILE.replace(old, new, 1))))


class TestAnyVideo:
    @pytest.mark.parametrize("pipe", [False, True])
    def test_y4m_needs_no_ffmpeg(self, pipe, monkeypatch, tmp_path):
        monkeypatch.setattr("triode.io.video.open_input", None)
        with open_clip(Pipe(FILE, 100) if pipe else io.BytesIO(FILE)) as reader:
            assert same(all_of(reader), CLIP)
        (tmp_path / "a.y4m").write_bytes(FILE)
        with open_clip(tmp_path / "a.y4m") as reader:
            assert same(all_of(reader), CLIP)

    @pytest.mark.parametrize("kind", ["film", "444"])
    def test_all_else_goes_through_it(self, kind, tmp_path):
        pytest.importorskip("av")
        data = movie(4, sound=None) if kind == "film" else wide(4)
        (tmp_path / "a.bin").write_bytes(data)
        found = []
        for source in (io.BytesIO(data), Pipe(data), tmp_path / "a.bin"):
            with open_clip(source) as reader:
                assert isinstance(reader, ClipReader)
                found.append(all_of(reader))
        assert len(found[0][0]) == 4
        assert all(np.array_equal(one, other) for planes in found for one, other in zip(planes, found[0], strict=True))

    def test_no_video(self):
        pytest.importorskip("av")
        with pytest.raises(UnsupportedError):
            open_clip(Pipe(b"no video at all" * 50))
        with pytest.raises(TruncatedError):
            open_clip(Pipe(b""))
        with pytest.raises(TruncatedError):
            open_clip(Pipe(b"YUV4MPEG2 W3"))


def wide(frames):
    """Return y4m with chroma in full."""
    return b"YUV4MPEG2 W8 H6 F25:1 C444\n" + b"".join(b"FRAME\n" + bytes(range(144)) for _ in range(frames))


def test_shared_files_have_their_own_places():
    file = io.BytesIO(bytes(range(100)))
    one, other = SharedFile(file), SharedFile(file)
    assert (one.read(3), other.read(2), one.read(2)) == (b"\0\1\2", b"\0\1", b"\3\4")
    assert (one.seek(-1, 2), other.seek(3, 1), one.tell(), other.tell()) == (99, 5, 99, 5)
    assert (one.read(), one.read(), other.read(1)) == (b"c", b"", b"\5")
    assert one.seekable()
    assert not JoinedFile(b"a", file).seekable()
