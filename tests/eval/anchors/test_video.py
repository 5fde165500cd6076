import contextlib
import io
import os
from fractions import Fraction

import numpy as np
import pytest

from triode.errors import CodecError, UnsupportedError
from triode.eval.coder import create_coder, list_coders
from triode.io.video import planes_to_frame, read_clip
from triode.media import Clip

av = pytest.importorskip("av")

NAMES = ("x264", "x265", "svt-av1", "vvc")
FORMS = {"x264": "h264", "x265": "hevc", "svt-av1": "obu", "vvc": "vvc"}
BIDIRECTIONAL = 3
MIDDLE = {"x264": 30, "x265": 30, "svt-av1": 35, "vvc": 32}


def moving(width=64, height=48, frames=8, rate=Fraction(30000, 1001), matrix="bt709", full=False):
    """Make waves that move, each frame of another brightness."""

    def plane(rows, columns, phase):
        y, x = np.mgrid[:rows, :columns]
        waves = [
            128 + 40 * np.sin((x + 3 * t) / 7 + phase) + 30 * np.cos((y - 2 * t) / 5) + 3 * t for t in range(frames)
        ]
        return np.stack(waves).clip(0, 255).astype(np.uint8)

    half = ((height + 1) // 2, (width + 1) // 2)
    return Clip(plane(height, width, 0), plane(*half, 1), plane(*half, 2), rate, matrix, full)


def coder(spec):
    try:
        return create_coder(spec, "video")
    except UnsupportedError as error:
        if spec.startswith("vvc"):
            pytest.skip(str(error))
        raise


def psnr(one, other):
    return 10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other) ** 2)))


def order(clip, back):
    """Find for every frame that came back the frame of the clip that it is."""
    distance = np.abs(back.y[:, None].astype(int) - clip.y[None]).mean(axis=(2, 3))
    return distance.argmin(axis=1).tolist()


@pytest.mark.parametrize("name", NAMES)
class TestEveryCoder:
    @pytest.mark.parametrize("options", ["", ":bframes=0", ":keyint=8,bframes=0", ":keyint=4"])
    def test_all_frames_come_back_in_order(self, name, options):
        clip = moving(matrix="bt601", full=True)
        codec = coder(name + options)
        data = codec.encode(clip, MIDDLE[name])
        back = codec.decode(data)
        assert order(clip, back) == list(range(8))
        assert (back.rate, back.matrix, back.full_range) == (clip.rate, "bt601", True)
        for plane in "yuv":
            assert getattr(back, plane).shape == getattr(clip, plane).shape
            assert psnr(getattr(back, plane), getattr(clip, plane)) > 31
        assert len(data) < clip.y.size / 8

    @pytest.mark.parametrize(("width", "height", "frames"), [(63, 47, 3), (1, 1, 1), (5, 20, 2)])
    def test_sizes(self, name, width, height, frames):
        clip = moving(width, height, frames)
        codec = coder(name)
        back = codec.decode(codec.encode(clip, MIDDLE[name]))
        assert back.y.shape == clip.y.shape
        assert back.u.shape == clip.u.shape
        assert back.y.flags.c_contiguous
        assert psnr(back.y, clip.y) > 25

    def test_quality_goes_from_few_bytes_to_many(self, name):
        clip = moving(frames=3)
        codec = coder(name)
        low, high = codec.qualities[0], codec.qualities[-1]
        few, many = codec.encode(clip, low), codec.encode(clip, high)
        assert len(few) < len(many)
        assert psnr(codec.decode(few).y, clip.y) < psnr(codec.decode(many).y, clip.y)
        assert list(codec.qualities) == sorted(codec.qualities, reverse=True)

    def test_payload_is_the_elementary_stream(self, name):
        clip = moving()
        codec = coder(name)
        data = codec.encode(clip, MIDDLE[name])
        payload = codec.payload_bytes(data)
        assert codec.parts(data) == {"header": 21, "payload": payload}
        assert len(data) == 21 + payload
        with contextlib.suppress(UnsupportedError):  # the FFmpeg of PyAV may lack a decoder
            played = read_clip(io.BytesIO(data[21:]), form=FORMS[name])
            assert played.frames == 8
            assert order(clip, played) == list(range(8))

    def test_the_same_clip_makes_the_same_file(self, name):
        codec = coder(name)
        assert codec.encode(moving(), MIDDLE[name]) == codec.encode(moving(), MIDDLE[name])

    def test_facts(self, name):
        codec = coder(name)
        facts = codec.facts()
        assert (codec.name, codec.media, facts.kind) == (name, "video", "classical")
        assert facts.options["threads"] == 1
        assert all(version and version != "unknown" for version in facts.versions.values())
        assert len(facts.versions) >= 2

    def test_damage(self, name):
        codec = coder(name)
        data = codec.encode(moving(32, 32, 2), MIDDLE[name])
        for damaged in (b"", data[:20], data[:21], data[:-1], data + b"\0", bytes(len(data))):
            with pytest.raises(CodecError):
                codec.decode(damaged)
        rng = np.random.default_rng(0)
        for number in range(3 if name == "vvc" else 12):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data) if number % 2 else 25, 3):
                damaged[place] = rng.integers(256)
            with contextlib.suppress(CodecError):
                codec.decode(bytes(damaged))

    def test_wrong_use(self, name):
        codec = coder(name)
        for quality in (-1, 64):
            with pytest.raises(ValueError, match=f"Quality of {name}"):
                codec.encode(moving(frames=1), quality)
        with pytest.raises(ValueError, match="Clip"):
            codec.encode(np.zeros((4, 4, 3), np.uint8), 30)
        for option in ("preset=best", "bframes=many", "keyint=-1", "threads=0", "crf=3"):
            with pytest.raises(ValueError, match=name):
                create_coder(f"{name}:{option}", "video")

    def test_nothing_is_printed(self, name, capfd):
        codec = coder(name)
        codec.decode(codec.encode(moving(frames=2), MIDDLE[name]))
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["x264", "x265", "svt-av1"])
def test_bytes_of_frames(name):
    clip = moving(frames=12)
    y = np.concatenate([clip.y[:7], 255 - clip.y[7:, ::-1, ::-1]])
    cut = Clip(np.ascontiguousarray(y), clip.u, clip.v, clip.rate)
    sizes = {}
    for options in ("", ":bframes=0"):
        codec = create_coder(name + options, "video")
        data = codec.encode(cut, MIDDLE[name])
        sizes[options] = codec.frame_bytes(data)
        assert (len(sizes[options]), sum(sizes[options])) == (12, codec.payload_bytes(data))
    with av.open(io.BytesIO(codec.stream(data)), format=FORMS[name]) as file:
        assert list(sizes[":bframes=0"]) == [packet.size for packet in file.demux(video=0) if packet.size]
    if name == "x264":  # another picture takes many bytes, wherever in the stream its frame is
        assert {*np.argsort(sizes[""])[-2:]} == {0, 7}


def test_bytes_of_frames_that_cannot_be_told():
    codec = coder("vvc")
    assert codec.frame_bytes(codec.encode(moving(frames=2), 32)) == ()


class TestOptions:
    def test_without_b_frames_the_stream_is_in_order(self):
        """Of the types of slices in the stream, B is there by default and not without B-frames (by PyAV's decoder)."""

        one = moving(frames=1)
        still = Clip(*(np.repeat(plane, 8, axis=0) for plane in (one.y, one.u, one.v)), one.rate)

        def types(spec):
            data = coder(spec).encode(still, 30)[21:]
            with av.open(io.BytesIO(data), format="h264") as file:
                return {int(frame.pict_type) for frame in file.decode(video=0)}

        assert BIDIRECTIONAL in types("x264")
        assert BIDIRECTIONAL not in types("x264:bframes=0")

    @pytest.mark.parametrize("name", ["x264", "x265"])
    def test_keyint(self, name):
        def keys(spec):
            data = coder(spec).encode(moving(), 30)[21:]
            with av.open(io.BytesIO(data), format=FORMS[name]) as file:
                return sum(frame.key_frame for frame in file.decode(video=0))

        assert keys(name) == 1
        assert keys(f"{name}:keyint=4,bframes=0") == 2

    @pytest.mark.parametrize(
        ("name", "options"), [("x264", "preset=ultrafast"), ("x264", "tune=psnr"), ("x265", "preset=ultrafast")]
    )
    def test_options_reach_the_encoder(self, name, options):
        clip = moving()
        assert coder(f"{name}:{options}").encode(clip, 30) != coder(name).encode(clip, 30)

    def test_recorded(self):
        facts = coder("x265:preset=fast,tune=psnr,bframes=3,keyint=32").facts()
        assert facts.title == "H.265 (x265, preset fast, 3 B-frames)"
        assert {"preset": "fast", "tune": "psnr", "bf": "3", "g": "32"}.items() <= facts.options.items()
        facts = coder("svt-av1:preset=10,bframes=0").facts()
        assert facts.title == "AV1 (SVT-AV1, preset 10, no B-frames)"
        assert facts.options["svtav1-params"] == "lp=1:pred-struct=1"
        assert coder("vvc:bframes=0,keyint=8").facts().options["vvenc-params"].endswith("gopsize=8:intraperiod=8")

    def test_svt_av1_has_no_number_of_b_frames(self):
        with pytest.raises(ValueError, match="default or 0"):
            coder("svt-av1:bframes=2")


class TestX264Signature:
    def test_cut_and_missed_by_no_decoder(self):
        """The stream without x264's message decodes to what the packets decode to."""
        clip = moving()
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
        context.framerate, context.time_base, context.thread_count = clip.rate, 1 / clip.rate, 1
        context.options = {"preset": "medium", "crf": "30"}
        context.colorspace, context.color_range = 1, 1
        frames = [*(planes_to_frame(clip, number) for number in range(8)), None]
        whole = b"".join(bytes(packet) for frame in frames for packet in context.encode(frame))
        codec = coder("x264")
        stream = codec.encode(clip, 30)[21:]
        assert b"x264 - core" in whole
        assert b"x264" not in stream
        assert 500 < len(whole) - len(stream) < 900
        np.testing.assert_array_equal(
            read_clip(io.BytesIO(whole), form="h264").y, codec.decode(codec.encode(clip, 30)).y
        )

    def test_version_is_read_from_it(self):
        assert coder("x264").facts().versions["libx264"].startswith("core ")


def test_names():
    assert set(NAMES) <= set(list_coders("video"))


def test_environment_stays_as_it_was(monkeypatch):
    monkeypatch.delenv("SVT_LOG", raising=False)
    coder("svt-av1").encode(moving(frames=1), 40)
    assert "SVT_LOG" not in os.environ
    monkeypatch.setenv("SVT_LOG", "2")
    coder("svt-av1").encode(moving(frames=1), 40)
    assert os.environ["SVT_LOG"] == "2"


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no scheduling policies")
def test_svt_av1_leaves_the_process_its_scheduling():
    # Run by root, the encoder makes the whole process real-time, which starves everything else on the machine.
    before = os.sched_getscheduler(0)
    coder("svt-av1:preset=12").encode(moving(frames=2), 40)
    threads = [int(name) for name in os.listdir("/proc/self/task")] if os.path.isdir("/proc/self/task") else [0]
    assert {os.sched_getscheduler(thread) for thread in threads} == {before}
