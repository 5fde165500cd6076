"""Clips and parts of them through the codec, with a tiny model that looks at the frame before, and with images."""

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models.clip_source import Source, cut
from models.learned_video import threads
from models.tiny import NAME
from models.tiny_video import TinyVideo, moving_clip, tiny_video

from triode.codecs.gop_engine import ProcessEngine, SerialEngine, ThreadEngine
from triode.codecs.video import VideoCodec
from triode.container import (
    ContainerReader,
    ContainerWriter,
    DecodeLimits,
    FrameKind,
    MetadataKind,
    unpack_video_unit,
)
from triode.errors import LimitExceededError, ModelMismatchError, TruncatedError, UnsupportedError
from triode.media import Clip

WEIGHTS = tiny_video()
CODEC = VideoCodec(WEIGHTS, gop=6)
CLIP = moving_clip(20)
FILE = CODEC.encode(CLIP, quality=60).data
WHOLE = CODEC.decode(FILE)
MATRIX = st.sampled_from(["bt709", "bt601"])


class Pipe:
    """A source with `read` only."""

    def __init__(self, data):
        self._read = io.BytesIO(data).read

    def read(self, size, /):
        return self._read(min(size, 100))


def same(one, other):
    return all(np.array_equal(getattr(one, plane), getattr(other, plane)) for plane in "yuv")


def psnr(one, other):
    return -10 * np.log10(max(np.square(one.y.astype(float) - other.y).mean(), 1e-9) / 255**2)


def kinds(data):
    reader = ContainerReader(io.BytesIO(data))
    found = [unpack_video_unit(u.payload, reader.head.video).frames for u in reader.units()]
    return [[frame.kind for frame in frames] for frames in found]


class TestWhole:
    def test_round_trip(self):
        assert WHOLE.y.shape == CLIP.y.shape
        assert (WHOLE.rate, WHOLE.matrix, WHOLE.full_range, WHOLE.times) == (CLIP.rate, "bt709", False, None)
        assert psnr(WHOLE, CLIP) > 25
        worse = CODEC.encode(CLIP, quality=10)
        assert worse.bytes < len(FILE)
        assert psnr(CODEC.decode(worse.data), CLIP) < psnr(WHOLE, CLIP)

    def test_what_encode_says(self):
        result = CODEC.encode(CLIP, quality=60)
        assert result.data == FILE
        assert (result.frames, result.gops, result.seconds, result.bytes) == (20, 4, 0.8, len(FILE))
        assert result.kbps == pytest.approx(8 * len(FILE) / 800)
        assert result.bpp == pytest.approx(8 * len(FILE) / (35 * 21 * 20))
        assert result.frame_bytes < result.payload_bytes < result.bytes
        assert result.rate_point == 38

    def test_info_and_verify(self):
        info = CODEC.info(FILE)
        assert (info.media, info.model, info.width, info.height) == ("video", "tiny-video.v1", 35, 21)
        assert (info.frames, info.seconds, info.rate, info.gops, info.gop_frames) == (20, 0.8, 25, 4, 6)
        assert (info.variable, info.sound, info.rate_points) == (False, "none", (38,))
        assert len(info.frame_bytes) == 20
        assert CODEC.verify(FILE) == info
        assert CODEC.verify(Pipe(FILE)) == info

    def test_frames_of_all_kinds(self):
        i, p, r = FrameKind.INTRA, FrameKind.INTER, FrameKind.REFRESH
        assert kinds(FILE)[0] == [i, p, p, p, r, p]
        only = VideoCodec(tiny_video([i]), gop=6).encode(CLIP, quality=60)
        assert {kind for group in kinds(only.data) for kind in group} == {i}
        assert only.bytes > len(FILE)

    def test_kinds_that_the_model_does_not_code(self):
        other = VideoCodec(tiny_video([FrameKind.INTRA, FrameKind.INTER]))
        with pytest.raises(UnsupportedError, match=r"group 0, frames 0 to 5.* kind refresh"):
            other.decode(FILE)

    def test_from_a_pipe_to_a_pipe(self):
        out = io.BytesIO()

        class Sink:
            write = out.write

        result = CODEC.encode(Source(CLIP), Sink(), quality=60)
        assert (result.data, result.frames) == (None, 20)
        assert out.getvalue() == FILE
        assert same(CODEC.decode(Pipe(FILE)), WHOLE)

    @settings(max_examples=15, deadline=None)
    @given(
        st.integers(1, 19), st.integers(1, 19), st.integers(1, 7), st.booleans(), st.sampled_from(["bt709", "bt601"])
    )
    def test_any_size(self, width, height, frames, full, matrix):
        clip = moving_clip(frames, width, height, full_range=full, matrix=matrix, rate=Fraction(30000, 1001))
        found = CODEC.decode(CODEC.encode(clip, quality=90).data)
        assert found.y.shape == clip.y.shape
        assert found.u.shape == clip.u.shape
        assert (found.full_range, found.matrix, found.rate) == (full, matrix, Fraction(30000, 1001))
        assert psnr(found, clip) > 12

    def test_colour_and_shape_are_kept(self):
        clip = moving_clip(1, primaries=9, transfer=16, aspect=Fraction(16, 11))
        found = CODEC.decode(CODEC.encode(clip).data)
        assert (found.primaries, found.transfer, found.aspect) == (9, 16, Fraction(16, 11))

    def test_frames_come_as_they_are_decoded(self):
        seen = []
        frames = CODEC.frames(FILE, progress=seen.append)
        assert [clip.frames for clip in frames] == [6, 6, 6, 2]
        assert seen == [0.3, 0.6, 0.9, 1.0]
        assert (frames.width, frames.height, frames.lost, frames.sound) == (35, 21, [], None)

    def test_encoding_takes_few_frames_at_a_time(self):
        """A unit is written while its successors are still in the source."""
        source, ahead = Source(moving_clip(200, 8, 8), frames=200), []
        CODEC.encode(source, progress=lambda share: ahead.append(source.given - 200 * share))
        assert len(ahead) == 34
        assert max(ahead) <= 3 * 6 + 8

    def test_rotation(self):
        """A file may say how frames are set upright; the decoder does it."""
        data = rewritten(FILE, rotation=1, aspect=Fraction(4, 3))
        turned = CODEC.decode(data)
        for plane in "yuv":
            assert np.array_equal(getattr(turned, plane), np.rot90(getattr(WHOLE, plane), 1, (1, 2)))
        assert turned.aspect == Fraction(3, 4)
        info = CODEC.info(data)
        assert (info.width, info.height) == (21, 35)
        assert CODEC.frames(data).width == 21


def rewritten(data, track=None, **changes):
    """Return a file with changes to its `HEAD`."""
    reader, out = ContainerReader(io.BytesIO(data)), io.BytesIO()
    body = replace(reader.head.video, **changes)
    with ContainerWriter(out, replace(reader.head, body=body)) as writer:
        if track:
            writer.metadata(MetadataKind.TRACK, track)
        for unit in reader.units():
            writer.unit(unit)
    return out.getvalue()


class TestNewerFiles:
    @pytest.mark.parametrize(
        ("change", "said"), [({"bit_depth": 10}, "10 bits a sample"), ({"matrix": 9}, "colour matrix 9")]
    )
    def test_samples_that_are_not_decoded(self, change, said):
        with pytest.raises(UnsupportedError, match=said):
            CODEC.decode(rewritten(FILE, **change))

    def test_sound_of_another_kind_is_left_out(self):
        data = rewritten(FILE, track=b"\x07what")
        assert CODEC.info(data).sound == "unknown"
        frames = CODEC.frames(data)
        assert sum(clip.frames for clip in frames) == 20
        assert (frames.track, frames.sound, frames.take_packets()) == (None, None, [])


class TestImages:
    """Every frame by a model of images."""

    def test_round_trip(self):
        codec = VideoCodec(NAME, gop=3)
        clip = moving_clip(4, 37, 23)
        result = codec.encode(clip, quality=80)
        assert result.model == NAME
        found = codec.decode(result.data)
        assert psnr(found, clip) > 20
        assert same(found, VideoCodec().decode(result.data))  # by the name in the file
        assert same(codec.decode(result.data, start=2, stop=3), cut(found, 2, 3))
        assert codec.verify(result.data).frames == 4

    def test_a_frame_is_what_it_is_alone(self):
        codec = VideoCodec(NAME)
        clip = moving_clip(3)
        alone = codec.decode(codec.encode(cut(clip, 2, 3)).data)
        assert same(alone, cut(codec.decode(codec.encode(clip).data), 2, 3))

    def test_weights_that_do_not_fit(self):
        with pytest.raises(ModelMismatchError, match="no-such"):
            VideoCodec("no-such.v1").encode(CLIP)
        with pytest.raises(ModelMismatchError, match="entropy digest"):
            VideoCodec(NAME).decode(FILE)


class TestParts:
    @pytest.mark.parametrize("index", [True, False], ids=["index", "pipe"])
    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, 7), (6, 12), (13, None), (19, 20), (18, 99), (0, 20)])
    def test_frames(self, start, stop, index):
        source = FILE if index else Pipe(FILE)
        assert same(CODEC.decode(source, start=start, stop=stop), cut(WHOLE, start, min(stop or 20, 20)))

    @pytest.mark.parametrize(
        ("start", "stop", "first", "last"),
        [("0.2", "0.48", 5, 12), ("0.21", "0.44", 6, 11), ("0", "0.01", 0, 1), ("0.7", None, 18, 20)],
    )
    def test_times(self, start, stop, first, last):
        found = CODEC.decode(FILE, start=Fraction(start), stop=stop and Fraction(stop))
        assert same(found, cut(WHOLE, first, last))
        assert found.times is None

    def test_only_what_is_needed_is_decoded(self, monkeypatch):
        decoded = []
        plain = TinyVideo.decode
        monkeypatch.setattr(TinyVideo, "decode", lambda self, *a: decoded.append(1) or plain(self, *a))
        CODEC.decode(FILE, start=7, stop=8)
        assert len(decoded) == 6
        CODEC.decode(FILE, start=Fraction("0.5"), stop=Fraction("0.8"))
        assert len(decoded) == 6 + 8

    def test_frames_before_are_not_made_where_none_looks_at_them(self, monkeypatch):
        codec = VideoCodec(tiny_video([FrameKind.INTRA]), gop=20)
        data = codec.encode(CLIP).data
        made = []
        plain = TinyVideo.synthesis
        monkeypatch.setattr(TinyVideo, "synthesis", lambda self, *a: made.append(1) or plain(self, *a))
        codec.decode(data, start=7, stop=9)
        assert len(made) == 2

    @pytest.mark.parametrize(
        ("start", "stop"), [(-1, None), (3, 3), (4, 3), (Fraction(1), 3), (2, Fraction(3)), (Fraction(-1), None)]
    )
    def test_no_ranges(self, start, stop):
        with pytest.raises(ValueError, match="`start` and `stop` must be"):
            CODEC.decode(FILE, start=start, stop=stop)

    def test_behind_the_end(self):
        for part in ({"start": 20}, {"start": Fraction(1)}):
            with pytest.raises(ValueError, match="no frames in this part"):
                CODEC.decode(FILE, **part)

    def test_a_file_that_grows(self):
        growing = FILE[: FILE.index(b"indx")]
        got = []
        with pytest.raises(TruncatedError, match="group 4, from frame 20 on"):
            got += CODEC.frames(growing)
        got = list(zip(range(4), CODEC.frames(growing), strict=False))
        assert same(got[3][1], cut(WHOLE, 18, 20))
        assert same(CODEC.decode(growing, start=2, stop=9), cut(WHOLE, 2, 9))


class TestTimes:
    TIMES = tuple(Fraction(n, 1000) for n in (0, 40, 79, 150, 151, 400, 1000, 1040))

    def clip(self, times=TIMES, **more):
        return moving_clip(len(times), times=times, **more)

    def test_are_exact(self):
        result = CODEC.encode(self.clip())
        assert result.seconds == 1.08
        assert CODEC.decode(result.data).times == self.TIMES
        assert CODEC.info(result.data).variable

    def test_of_a_part_count_from_its_first_frame(self):
        data = CODEC.encode(self.clip()).data
        assert CODEC.decode(data, start=2, stop=7).times == tuple(t - self.TIMES[2] for t in self.TIMES[2:7])
        by_time = CODEC.decode(data, start=Fraction("0.15"), stop=Fraction("1.02"))
        assert by_time.times == tuple(t - self.TIMES[3] for t in self.TIMES[3:7])

    def test_first_frame_is_the_beginning(self):
        moved = tuple(t + 7 for t in self.TIMES)
        assert CODEC.decode(CODEC.encode(self.clip(moved)).data).times == self.TIMES

    def test_regular_ones_need_no_list(self):
        regular = tuple(Fraction(n * 1001, 30000) for n in range(9))
        data = CODEC.encode(self.clip(regular, rate=Fraction(30000, 1001))).data
        assert not CODEC.info(data).variable
        assert CODEC.decode(data).times is None

    def test_of_a_source_may_begin_regular(self):
        clip = self.clip((*(Fraction(n, 25) for n in range(10)), Fraction(50, 100), Fraction(51, 100)))

        class Late(Source):
            def read(self, count):
                piece = super().read(count)
                late = piece is not None and self.given > 8
                return piece if piece is None or late else Clip(piece.y, piece.u, piece.v, piece.rate)

        data = CODEC.encode(Late(clip, tick=Fraction(1, 100))).data
        assert CODEC.decode(data).times == clip.times

    def test_finer_than_the_format(self):
        odd = tuple(Fraction(n * 1000, 1001 * 4_294_967_291) * 10**9 for n in range(3))
        found = CODEC.decode(CODEC.encode(self.clip(odd, rate=Fraction(25))).data).times
        assert found is not None
        assert max(abs(a - b) for a, b in zip(found, odd, strict=True)) <= Fraction(1, 180_000)

    def test_a_slow_rate(self):
        clip = moving_clip(2, rate=Fraction(1, 3600))
        assert CODEC.encode(clip).seconds == 7200
        with pytest.raises(UnsupportedError, match="last"):
            CODEC.encode(moving_clip(2, rate=Fraction(1, 1 << 33)))


class TestScenes:
    def test_cut_begins_a_group(self):
        clip = moving_clip(30, scenes=[7, 19])
        info = VideoCodec(WEIGHTS, gop=20).encode(clip)
        assert info.gops == 3
        reader = ContainerReader(io.BytesIO(info.data))
        assert [(span.first, span.frames) for span in reader.spans()] == [(0, 7), (7, 12), (19, 11)]

    def test_can_be_left_out(self):
        clip = moving_clip(30, scenes=[7, 19])
        assert VideoCodec(WEIGHTS, gop=20, scenes=False).encode(clip).gops == 2

    def test_motion_and_noise_are_no_cut(self):
        rng = np.random.default_rng(0)
        clip = moving_clip(20)
        noisy = Clip((clip.y + rng.integers(0, 30, clip.y.shape)).astype(np.uint8), clip.u, clip.v, clip.rate)
        assert VideoCodec(WEIGHTS, gop=64).encode(noisy).gops == 1


@pytest.mark.parametrize("engine", [SerialEngine(), ThreadEngine()])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_several_threads_make_the_same_file_and_the_same_frames(engine, count):
    with threads(count):
        codec = VideoCodec(WEIGHTS, gop=6, engine=engine)
        assert codec.encode(CLIP, quality=60).data == FILE
        assert same(codec.decode(FILE), WHOLE)


@pytest.mark.slow
def test_several_processes_make_the_same_file():
    codec = VideoCodec(WEIGHTS, gop=6, engine=ProcessEngine(2))
    assert codec.encode(CLIP, quality=60).data == FILE


@pytest.mark.parametrize(
    "call",
    [
        lambda: VideoCodec(gop=0),
        lambda: VideoCodec(gop=1 << 16),
        lambda: CODEC.encode(CLIP, quality=101),
        lambda: CODEC.encode(CLIP, kbps=0),
        lambda: CODEC.encode(CLIP, kbps=float("inf")),
        lambda: CODEC.encode(CLIP, kbps=5, quality=5),
        lambda: ProcessEngine(0),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError, match=r"must be|at most one"):
        call()


def test_no_frames():
    source = Source(CLIP)
    source.given = 20
    with pytest.raises((UnsupportedError, ValueError), match=r"no frames|at least one"):
        CODEC.encode(source)


def test_limits():
    for limits in (
        DecodeLimits(max_pixels=700),
        DecodeLimits(max_frames=19),
        DecodeLimits(max_units=3),
        DecodeLimits(max_memory_bytes=40_000),
    ):
        with pytest.raises(LimitExceededError):
            VideoCodec(WEIGHTS, limits=limits).decode(FILE)


def test_matrices():
    with pytest.raises(UnsupportedError, match="matrix 'ycgco'"):
        CODEC.encode(moving_clip(1, matrix="ycgco"))
