"""Videos through the command line, with the real codec and tiny weights for images that nobody trained."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli.conftest import IMAGE_MODEL, SOUND_MODEL, break_unit, make_film, make_photo, make_talk
from models.movies import movie
from models.tiny_video import moving_clip

from triode.cli.main import main
from triode.codecs.gop_engine import SerialEngine
from triode.codecs.video import ClipFrames, VideoCodec
from triode.container import SIGNATURE, ContainerReader
from triode.errors import EntropyMismatchError
from triode.io.track_samples import TrackReader
from triode.io.tracks import PacketReader
from triode.io.video import read_clip
from triode.io.video_writing import write_clip

pytest.importorskip("av")
ROOT = Path(__file__).resolve().parents[2]
FIELDS = {
    "input": str,
    "output": str,
    "media": str,
    "model": str,
    "quality": float,
    "rate_point": int,
    "bytes": int,
    "payload_bytes": int,
    "bpp": float,
    "kbps": float,
    "width": int,
    "height": int,
    "frames": int,
    "fps": float,
    "duration": float,
    "gops": int,
    "audio": str,
    "seconds": float,
}


@pytest.fixture
def videos(real_triode, sound_home, monkeypatch):
    """Return a function that runs the command line with tiny weights in reach."""
    monkeypatch.setenv("TRIODE_HOME", str(sound_home))
    return real_triode


def encode(run, *words, **more):
    return run("encode", *words, "-m", IMAGE_MODEL, **more)


@pytest.fixture(scope="session")
def film(sound_home):
    """A clip of 14 frames as y4m, and as `.tri` in four groups."""
    clip = moving_clip(14, matrix="bt601")
    model = str(sound_home / f"{IMAGE_MODEL}.safetensors")
    return y4m(clip), VideoCodec(model, gop=4, scenes=False).encode(clip, quality=30).data


@pytest.fixture
def coded(videos, film):
    """A video `clip.tri`, and `clip.y4m`, what it was made of."""
    for name, data in zip(("clip.y4m", "clip.tri"), film, strict=True):
        Path(name).write_bytes(data)
    return Path("clip.tri")


def y4m(clip):
    out = io.BytesIO()
    write_clip(out, clip, "y4m")
    return out.getvalue()


def same(one, other):
    return all(np.array_equal(getattr(one, plane), getattr(other, plane)) for plane in "yuv")


def packets(path):
    with PacketReader(Path(path)) as reader:
        return reader.until(None)


class TestThereAndBack:
    @pytest.mark.parametrize(("width", "height", "frames"), [(48, 32, 5), (35, 21, 3), (1, 1, 1), (17, 2, 2)])
    def test_size_comes_back(self, videos, folder, width, height, frames):
        make_film("clip.y4m", frames, width=width, height=height)
        [found] = encode(videos, "clip.y4m", "--json", "-q", "70", "--verify").objects
        assert {key: type(value) for key, value in found.items()} == FIELDS
        size = Path("clip.tri").stat().st_size
        assert found["bytes"] == size > found["payload_bytes"]
        assert found["bpp"] == round(8 * size / (width * height * frames), 6)
        assert found["kbps"] == round(8 * size / 1000 / (frames / 25), 6)
        assert (found["media"], found["model"], found["rate_point"]) == ("video", IMAGE_MODEL, 44)
        wanted = (width, height, frames, 25.0, frames / 25, 1, "none")
        names = ("width", "height", "frames", "fps", "duration", "gops", "audio")
        assert tuple(found[name] for name in names) == wanted

        [back] = videos("decode", "clip.tri", "--json").objects
        assert {key: type(value) for key, value in back.items()} == FIELDS
        unlike = {"input", "output", "seconds"}
        assert {key: back[key] for key in FIELDS.keys() - unlike} == {key: found[key] for key in FIELDS.keys() - unlike}
        clip = read_clip(Path("clip.mkv"))
        assert (clip.width, clip.height, clip.frames, clip.rate) == (width, height, frames, 25)

    @pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
    def test_sound_comes_along(self, videos, folder, name):
        make_film(name)
        [found] = encode(videos, name, "--json").objects
        assert (found["frames"], found["audio"], found["fps"]) == (8, "copy", 29.97003)
        for out in ("back.mkv", "back.mp4"):
            assert videos("decode", "clip.tri", "-o", out).code == 0
            assert [p.data for p in packets(out)] == [p.data for p in packets(name)]
            assert read_clip(Path(out)).frames == 8
        assert "sound copied" in videos("info", "clip.tri").out
        assert same(read_clip(Path("back.mkv")), read_clip(Path("back.mp4")))

    def test_sound_is_left_out(self, videos, folder):
        make_film("clip.mp4")
        [found] = encode(videos, "clip.mp4", "--audio", "none", "--json").objects
        assert found["audio"] == "none"
        assert "no sound" in videos("info", "clip.tri").out
        assert encode(videos, "clip.mp4", "-f").code == 0
        result = videos("decode", "clip.tri", "-o", "a.y4m")
        assert (result.code, "without its sound" in result.err) == (0, True)

    def test_sound_that_cannot_be_copied(self, videos, folder, files, monkeypatch):
        make_film("clip.mp4")
        monkeypatch.setattr("triode.io.tracks.BITEXACT", {"no such": "option"})
        monkeypatch.setattr("av.container.output.OutputContainer.add_stream_from_template", _refuse)
        result = encode(videos, "clip.mp4")
        assert (result.code, "cannot be copied; `--audio none` leaves it out" in result.err) == (1, True)
        assert files() == ["clip.mp4"]
        assert encode(videos, "clip.mp4", "--audio", "none").code == 0

    def test_more_quality_more_bytes_less_noise(self, videos, folder):
        original = read_clip(make_film("clip.y4m", 3))
        sizes, errors = [], []
        for quality in (0, 50, 100):
            # The default weights: how good tiny ones are is a matter of chance.
            assert videos("encode", "clip.y4m", "-q", quality, "-f").code == 0
            assert videos("decode", "clip.tri", "-o", "a.y4m", "-f").code == 0
            sizes.append(Path("clip.tri").stat().st_size)
            errors.append(np.square(read_clip(Path("a.y4m")).y.astype(float) - original.y).mean())
        assert sizes == sorted(set(sizes))
        assert errors == sorted(set(errors), reverse=True)

    def test_uneven_times_are_kept(self, videos, folder):
        stamps = [0, 2, 3, 7, 8]
        make_film("clip.mkv", 5, stamps=[100 * stamp for stamp in stamps], clock=Fraction(1, 1000), sound=None)
        assert encode(videos, "clip.mkv").code == 0
        assert videos("decode", "clip.tri", "-o", "back.mkv").code == 0
        assert read_clip(Path("back.mkv")).times == tuple(Fraction(stamp, 10) for stamp in stamps)
        assert "uneven" in videos("info", "clip.tri").out

    def test_the_default_weights_are_those_of_video(self, videos, folder):
        make_film("clip.y4m", 2, width=16, height=16)
        [found] = videos("encode", "clip.y4m", "--json").objects
        assert found["model"] == "video-light.v2"
        assert videos("verify", "clip.tri").code == 0


def _refuse(*_):
    raise ValueError("no such codec")


class TestSoundByTriode:
    @pytest.fixture
    def weights(self, monkeypatch):
        monkeypatch.setattr("triode.codecs.video_sound.default_weights", lambda media, **_: SOUND_MODEL)

    def test_comes_back_as_samples(self, videos, weights, folder):
        make_film("clip.mp4", 30, seconds=1.0)
        [found] = encode(videos, "clip.mp4", "--audio", "triode", "--gop", "10", "--json").objects
        assert found["audio"] == "triode"
        assert "sound coded" in videos("info", "clip.tri").out
        [copied] = encode(videos, "clip.mp4", "-o", "copied.tri", "--gop", "10", "--json").objects
        assert found["frames"] == copied["frames"]
        for name in ("back.mkv", "back.mp4"):
            [back] = videos("decode", "clip.tri", "-o", name, "--json").objects
            assert back["audio"] == "triode"
            with TrackReader(Path(name)) as reader:
                assert (reader.rate, reader.channels) == (48_000, 1)
                assert 47_000 < reader.read(100_000).shape[1] < 51_000
        assert videos("decode", "clip.tri", "--range", "20:", "-o", "part.mkv").code == 0
        assert videos("decode", "clip.tri", "-o", "a.y4m").code == 0
        assert videos("verify", "clip.tri").code == 0

    def test_without_weights(self, videos, folder, files, monkeypatch):
        for name in ("SPEECH", "GENERAL"):
            monkeypatch.setattr(f"triode.models.weights.catalogue.{name}", "absent.v1")
        make_film("clip.mp4", 2)
        result = encode(videos, "clip.mp4", "--audio", "triode")
        assert (result.code, "No weights for sound" in result.err) == (5, True)
        make_film("silent.mp4", 2, sound=None)
        assert encode(videos, "silent.mp4", "--audio", "triode").code == 0
        assert files() == ["clip.mp4", "silent.mp4", "silent.tri"]


class TestGroups:
    def test_length(self, videos, coded):
        assert videos("info", coded, "--json").objects[0]["gops"] == 4
        assert encode(videos, "clip.y4m", "-f").code == 0
        assert videos("info", coded, "--json").objects[0]["gops"] == 1
        for wrong in ("0", "65536", "x"):
            assert encode(videos, "clip.y4m", "-f", "--gop", wrong).code == 2

    def test_scenes(self, videos, folder):
        make_film("clip.y4m", 12, scenes=[7])
        for words, count in (((), 2), (("--no-scene-cuts",), 1)):
            [found] = encode(videos, "clip.y4m", "-f", "--json", *words).objects
            assert found["gops"] == count

    def test_several_at_a_time(self, videos, coded, monkeypatch):
        used = []

        def noted(name):
            class Engine(SerialEngine):
                def __init__(self, *jobs):
                    used.append((name, *jobs))

            monkeypatch.setattr(f"triode.codecs.{name}", Engine)

        for name in ("gop_engine.ProcessEngine", "gop_engine.SerialEngine", "video.ThreadEngine"):
            noted(name)
        before = coded.read_bytes()
        for words in (("-j", "3"), ("-j", "1"), ()):
            assert encode(videos, "clip.y4m", "--gop", "4", "--no-scene-cuts", "-q", "30", "-f", *words).code == 0
            assert coded.read_bytes() == before
        assert used == [("gop_engine.ProcessEngine", 3), ("gop_engine.SerialEngine",), ("video.ThreadEngine",)]

    def test_engines(self, videos, coded, monkeypatch):
        assert encode(videos, "clip.y4m", "--ray-address", "auto").code == 2
        assert encode(videos, "clip.y4m", "--engine", "magic").code == 2
        monkeypatch.setitem(sys.modules, "ray", None)
        result = encode(videos, "clip.y4m", "-f", "--engine", "ray")
        assert (result.code, "triode[ray]" in result.err) == (1, True)


class TestTargets:
    def test_rate_is_kept(self, videos, folder):
        make_film("clip.y4m", 10, width=48, height=48)
        [found] = encode(videos, "clip.y4m", "--kbps", "60", "--json", "--gop", "5").objects
        assert 30 < found["kbps"] <= 60

    def test_out_of_reach(self, videos, folder, files):
        make_film("clip.y4m", 3)
        result = encode(videos, "clip.y4m", "--kbps", "0.1")
        assert (result.code, "cannot be met" in result.err) == (1, True)
        assert files() == ["clip.y4m"]

    def test_of_other_media(self, videos, folder, files):
        make_film("clip.y4m", 1)
        for words in (("--bpp", "1"), ("--psnr", "30"), ("--size", "9k"), ("--effort", "low")):
            result = encode(videos, "clip.y4m", *words)
            assert (result.code, f"{words[0]} is for images" in result.err) == (2, True)
        assert files() == ["clip.y4m"]


class TestOutputs:
    def test_suffix_and_format(self, videos, coded, files):
        for words in (("-o", "a.y4m"), ("-o", "b", "--format", "Y4M"), ("-o", "c"), ("--format", "mkv")):
            assert videos("decode", coded, *words).code == 0, words
        starts = [Path(name).read_bytes()[:4] for name in ("a.y4m", "b", "c", "clip.mkv")]
        assert starts == [b"YUV4", b"YUV4", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3"]
        assert files() == ["a.y4m", "b", "c", "clip.mkv", "clip.tri", "clip.y4m"]
        assert same(read_clip(Path("a.y4m")), read_clip(Path("c")))

    def test_mp4_takes_even_sizes(self, videos, coded, files):
        result = videos("decode", coded, "-o", "a.mp4")
        assert (result.code, "mp4 takes even sizes, and this video is 35 x 21" in result.err) == (1, True)
        assert files() == ["clip.tri", "clip.y4m"]

    def test_not_of_other_media(self, videos, coded, files):
        for words in (("-o", "a.png"), ("-o", "a.avi"), ("--format", "gif"), ("-o", "a.wav")):
            result = videos("decode", coded, *words)
            assert (result.code, "video is not written as" in result.err) == (2, True)
        assert files() == ["clip.tri", "clip.y4m"]

    def test_no_overwriting(self, videos, coded, files):
        Path("clip.mkv").write_text("mine")
        result = videos("decode", coded)
        assert (result.code, "-f overwrites" in result.err) == (2, True)
        assert encode(videos, "clip.y4m").code == 2
        assert Path("clip.mkv").read_text() == "mine"
        assert videos("decode", coded, "-f").code == 0
        assert read_clip(Path("clip.mkv")).frames == 14


class TestRange:
    @pytest.fixture
    def whole(self, videos, coded):
        assert videos("decode", coded, "-o", "whole.y4m").code == 0
        return read_clip(Path("whole.y4m"))

    def test_has_the_frames_of_the_whole(self, videos, coded, whole):
        parts = {"3:9": (3, 9), "13:": (13, 14), ":1": (0, 1), "4:8": (4, 8), ":": (0, 14), "5:500": (5, 14)}
        times = {"200ms:320ms": (5, 8), "0.21s:": (6, 14), ":0.1s": (0, 3), "0:0.1s": (0, 3)}
        for text, (start, stop) in {**parts, **times}.items():
            [found] = videos("decode", coded, "--range", text, "-o", "part.y4m", "--json", "-f").objects
            clip, count = read_clip(Path("part.y4m")), stop - start
            assert (found["frames"], found["duration"], clip.frames) == (count, count / 25, count)
            assert all(np.array_equal(getattr(clip, p), getattr(whole, p)[start:stop]) for p in "yuv"), text

    def test_holds_nothing(self, videos, coded, files):
        for text in ("14:", "0.6s:", "1s:20", "3:1s", "41ms:42ms", "nonsense"):
            result = videos("decode", coded, "--range", text, "-o", "part.mkv")
            assert (result.code, "--range" in result.err) == (2, True)
        assert files() == ["clip.tri", "clip.y4m"]

    def test_sound_of_a_part(self, videos, folder):
        make_film("clip.mp4", 24, seconds=0.8)
        encode(videos, "clip.mp4", "--gop", "6")
        assert videos("decode", "clip.tri", "--range", "6:12", "-o", "part.mkv").code == 0
        part, whole = [p.data for p in packets("part.mkv")], [p.data for p in packets("clip.mp4")]
        assert 0 < len(part) < len(whole) / 2
        assert part == whole[(first := whole.index(part[0])) : first + len(part)]

    def test_sound_that_is_not_wanted_is_not_kept(self, videos, folder, monkeypatch):
        """Hours of it would fill the memory."""
        make_film("clip.mp4", 24, seconds=0.8)
        taken, real = [], ClipFrames.take_packets
        monkeypatch.setattr(ClipFrames, "take_packets", lambda self: taken.append(real(self)) or taken[-1])
        assert encode(videos, "clip.mp4", "--gop", "6", "--verify").code == 0
        assert videos("decode", "clip.tri", "-o", "clip.y4m").code == 0
        assert sum(map(len, taken)) == 2 * len(packets("clip.mp4"))

    def test_damage_elsewhere_does_not_matter(self, videos, coded, whole):
        break_unit(coded, 2)
        assert videos("decode", coded, "-o", "a.mkv").code == 3
        [found] = videos("decode", coded, "--range", "2:8", "-o", "a.mkv", "--json").objects
        assert np.array_equal(read_clip(Path("a.mkv")).y, whole.y[2:8])
        assert (found["frames"], "quality" in found) == (6, False)


class TestPartial:
    """A flipped bit costs the group that it lies in and no other."""

    @pytest.mark.parametrize("group", [0, 2, 3])
    def test_what_is_left(self, videos, coded, files, group):
        videos("decode", coded, "-o", "whole.y4m")
        whole = read_clip(Path("whole.y4m"))
        break_unit(coded, group)
        result = videos("decode", coded, "-o", "part.y4m")
        assert (result.code, f"group {group}" in result.err) == (3, True)
        assert videos("verify", coded).code == 3
        assert files() == ["clip.tri", "clip.y4m", "whole.y4m"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            [found] = videos("decode", coded, "-o", "part.y4m", "--partial", "--json").objects
        assert (found["concealed"], found["frames"]) == ([group], 14)
        assert not {"quality", "kbps", "bpp", "gops", "payload_bytes"} & found.keys()
        part = read_clip(Path("part.y4m"))
        lost = range(4 * group, min(4 * group + 4, 14))
        for number in range(14):
            assert np.array_equal(part.y[number], whole.y[number]) == (number not in lost), number
        result = videos("decode", coded, "-o", "part.y4m", "--partial", "-f")
        assert f"1 group concealed ({group})" in result.err
        assert "warning" not in result.err

    def test_nothing_is_lost(self, videos, coded):
        [found] = videos("decode", coded, "-o", "part.y4m", "--partial", "--json").objects
        assert (found["concealed"], found["gops"]) == ([], 4)

    def test_nothing_is_left(self, videos, coded, files):
        break_unit(coded, 0, 1, 2, 3)
        result = videos("decode", coded, "-o", "part.y4m", "--partial")
        assert (result.code, "no group of pictures is intact" in result.err) == (3, True)
        assert files() == ["clip.tri", "clip.y4m"]

    def test_of_a_file_that_is_cut(self, videos, coded):
        data = coded.read_bytes()
        coded.write_bytes(data[: 2 * len(data) // 3])
        [found] = videos("decode", coded, "-o", "part.mkv", "--partial", "--json").objects
        assert found["frames"] in {4, 8, 12}
        assert read_clip(Path("part.mkv")).frames == found["frames"]


class TestFailuresLeaveNothing:
    def test_every_cut(self, videos, coded, files):
        data = coded.read_bytes()
        for end in sorted({*range(0, 80, 11), *range(80, len(data), 997), len(data) - 1}):
            Path("cut.tri").write_bytes(data[:end])
            for words in ("decode cut.tri -o cut.mkv", "verify cut.tri", "info cut.tri"):
                result = videos(*words.split())
                assert (result.code, result.data) == (3, b""), (end, words)
        assert files() == ["clip.tri", "clip.y4m", "cut.tri"]

    def test_every_flip(self, videos, coded, files):
        data = coded.read_bytes()
        for at in range(0, len(data), 499):
            Path("bad.tri").write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
            result = videos("decode", "bad.tri", "-o", "bad.mkv")
            assert result.code in {1, 3, 4}, at
            assert result.err.startswith("triode: bad.tri: ")
            assert "internal error" not in result.err
        assert files() == ["bad.tri", "clip.tri", "clip.y4m"]

    @pytest.mark.parametrize("name", ["clip.y4m", "clip.mp4"])
    def test_a_video_that_is_cut_short(self, videos, folder, files, name):
        path = make_film(name)
        path.write_bytes(path.read_bytes()[:-1000])
        result = encode(videos, name)
        assert (result.code, "internal error" in result.err) == (3, False) or name == "clip.mp4"
        assert result.code in {1, 3}
        assert files() == [name]

    @pytest.mark.parametrize("broken", ["raises", "loses"])
    def test_in_verification(self, videos, coded, files, monkeypatch, broken):
        real, before = ClipFrames.__iter__, files()

        def frames(self):
            yield from list(real(self))[1:]
            if broken == "raises":
                raise EntropyMismatchError("no")

        monkeypatch.setattr(ClipFrames, "__iter__", frames)
        assert encode(videos, "clip.y4m", "--gop", "4", "--verify", "-o", "b.tri").code == 6
        result = encode(videos, "clip.y4m", "--gop", "4", "--verify", "-o", "-")
        assert (result.code, result.data) == (6, b"")
        assert files() == before

    @pytest.mark.parametrize("force", [False, True])
    def test_in_the_middle(self, videos, coded, files, monkeypatch, force):
        Path("clip.mkv").write_text("old")
        before, real = files(), ClipFrames.__iter__

        def frames(self):
            yield next(real(self))
            raise KeyboardInterrupt

        monkeypatch.setattr(ClipFrames, "__iter__", frames)
        target = ["-f"] if force else ["-o", "new.mkv"]
        assert videos("decode", coded, *target).code == 130
        assert (files(), Path("clip.mkv").read_text()) == (before, "old")

    def test_limits(self, videos, coded, files):
        for words in (("decode", coded, "-o", "a.mkv"), ("encode", "clip.y4m", "-o", "a.tri")):
            result = videos(*words, "--max-pixels", "700")
            assert (result.code, "max_pixels=700" in result.err) == (4, True)
        assert files() == ["clip.tri", "clip.y4m"]


class TestResume:
    WORDS = ("--gop", "4", "--no-scene-cuts", "-q", "30")

    def test_a_journal_that_is_there(self, videos, coded, files, monkeypatch):
        whole = coded.read_bytes()
        real = VideoCodec.encode

        def stop(self, clip, target, *, progress, **more):
            calls = []

            def watch(_):
                calls.append(1)
                if len(calls) == 2:
                    raise KeyboardInterrupt

            return real(self, clip, target, progress=watch, **more)

        with monkeypatch.context() as patch:
            patch.setattr(VideoCodec, "encode", stop)
            assert encode(videos, "clip.y4m", "-o", "b.tri", "--resume", *self.WORDS).code == 130
        assert files() == ["b.tri.journal", "clip.tri", "clip.y4m"]
        result = encode(videos, "clip.y4m", "-o", "b.tri", "--resume", "--gop", "5")
        assert (result.code, "another encoding" in result.err) == (1, True)
        [found] = encode(videos, "clip.y4m", "-o", "b.tri", "--resume", *self.WORDS, "--json").objects
        assert (found["resumed"], found["gops"]) == (2, 4)
        assert Path("b.tri").read_bytes() == whole
        assert files() == ["b.tri", "clip.tri", "clip.y4m"]

    def test_an_output_that_cannot_be_written(self, videos, coded, files):
        """What is coded is not lost before the file is in its place."""
        result = encode(videos, "clip.y4m", "-o", "gone/b.tri", "--resume", *self.WORDS)
        assert result.code == 1
        assert encode(videos, "clip.y4m", "-o", "-", "--resume").code == 2
        assert files() == ["clip.tri", "clip.y4m"]

    def test_a_kill(self, videos, files):
        """The encoder dies without a chance to do anything; begun again, it makes the file that it would have made."""
        make_film("clip.mp4", 24, seconds=0.8)
        words = ["clip.mp4", "--gop", "2"]
        assert encode(videos, *words, "-o", "whole.tri").code == 0
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "triode", "encode", *words, "-m", IMAGE_MODEL, "--resume"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        journal, deadline = Path("clip.tri.journal"), time.monotonic() + 250
        while not (journal.exists() and journal.stat().st_size > 500) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert files() == ["clip.mp4", "clip.tri.journal", "whole.tri"]
        [found] = encode(videos, *words, "--resume", "--json").objects
        assert 0 < found["resumed"] <= found["gops"]
        assert Path("clip.tri").read_bytes() == Path("whole.tri").read_bytes()
        assert files() == ["clip.mp4", "clip.tri", "whole.tri"]


class TestStandardStreams:
    def test_y4m_flows(self, videos, coded):
        data = Path("clip.y4m").read_bytes()
        words = ("--gop", "4", "--no-scene-cuts", "-q", "30")
        piped = encode(videos, "-", *words, stdin=data)
        assert (piped.code, piped.data) == (0, coded.read_bytes())
        back = videos("decode", "-", stdin=piped.data)
        videos("decode", coded, "-o", "a.y4m")
        assert (back.code, back.data) == (0, Path("a.y4m").read_bytes())
        for name in ("info", "verify"):
            assert videos(name, "-", stdin=piped.data).code == 0

    def test_frames_are_coded_as_they_come(self, videos, monkeypatch):
        """What is coded of a pipe is out before the rest has come."""
        data = y4m(moving_clip(24, 64, 48))
        out = io.BytesIO()

        class Slow(io.BytesIO):
            before_the_end = 0

            def seekable(self):
                return False

            def read(self, count=-1):
                piece = super().read(count)
                if piece:
                    Slow.before_the_end = len(out.getvalue())
                return piece

            read1 = read

        class Out(io.StringIO):
            buffer = out

        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Slow(data), isatty=lambda: False))
        monkeypatch.setattr("sys.stdout", Out())
        assert main(["encode", "-", "-m", IMAGE_MODEL, "--gop", "1", "--quiet"]) == 0
        assert len(out.getvalue()) > Slow.before_the_end > len(out.getvalue()) / 3
        assert VideoCodec().decode(out.getvalue()).frames == 24

    def test_frames_are_shown_as_they_come(self, videos, film, monkeypatch):
        """What is decoded of a pipe is out before the rest has come."""
        clip, model = moving_clip(64, 64, 48), str(Path(os.environ["TRIODE_HOME"]) / f"{IMAGE_MODEL}.safetensors")
        data = VideoCodec(model, gop=1).encode(clip, quality=100).data
        out = io.BytesIO()
        before_the_end = []

        class Slow(io.BytesIO):
            def seekable(self):
                return False

            def read(self, count=-1):
                piece = super().read(count)
                if piece:
                    before_the_end.append(len(out.getvalue()))
                return piece

            read1 = read

        class Out(io.StringIO):
            buffer = out

        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Slow(data), isatty=lambda: False))
        monkeypatch.setattr("sys.stdout", Out())
        assert main(["decode", "-", "--quiet"]) == 0
        assert len(data) > 3 * 4096
        assert before_the_end[-1] > len(out.getvalue()) / 4
        assert read_clip(io.BytesIO(out.getvalue())).frames == 64

    def test_pipes_that_flow_and_break(self, videos, coded, film):
        data = film[1]
        for end in (5, 30, 60, len(data) // 2, len(data) - 1):
            result = videos("decode", "-", stdin=data[:end])
            assert (result.code, "internal error" in result.err) == (3, False)
        assert videos("decode", "-", "--range", "3:5", stdin=data).data.count(b"FRAME") == 2
        assert videos("decode", "-", "--range", "99:", stdin=data).code == 2
        assert videos("decode", "-", "--partial", stdin=data).data.count(b"FRAME") == 14
        assert videos("decode", "-", "--max-pixels", "99", stdin=data).code == 4

    def test_other_videos(self, videos, folder):
        data = movie(6, seconds=0.2)
        [found] = encode(videos, "-", "-o", "a.tri", "--json", stdin=data).objects
        assert (found["frames"], found["audio"]) == (6, "copy")
        back = videos("decode", "-", "--format", "mkv", stdin=Path("a.tri").read_bytes())
        assert read_clip(io.BytesIO(back.data)).frames == 6
        with PacketReader(io.BytesIO(back.data)) as one, PacketReader(io.BytesIO(data)) as other:
            assert [p.data for p in one.until(None)] == [p.data for p in other.until(None)]
        wide = b"YUV4MPEG2 W8 H6 F25:1 C444\n" + b"FRAME\n" + bytes(range(144))
        assert encode(videos, "-", stdin=wide).data[:8] == SIGNATURE

    def test_a_pipe_that_ends_early(self, videos, coded):
        for end in (9, 12, 60, 400, 5000):
            result = encode(videos, "-", "-o", "a.tri", stdin=Path("clip.y4m").read_bytes()[:end])
            assert (result.code, Path("a.tri").exists()) == (3, False)

    def test_a_pipe_with_a_name(self, videos, coded, folder):
        """It can be read once: nothing is taken from it to name the output."""
        os.mkfifo("a.tri")
        data = coded.read_bytes()
        feeder = threading.Thread(target=lambda: Path("a.tri").write_bytes(data), daemon=True)
        feeder.start()
        [found] = videos("decode", "a.tri", "--output-dir", "out", "--json").objects
        feeder.join(60)
        assert "'.png'; known are .mkv" in found["error"]

    def test_to_a_terminal(self, videos, coded):
        assert encode(videos, "clip.y4m", "-o", "-", terminal=True).code == 2
        assert videos("decode", coded, "-o", "-", terminal=True).code == 2


class TestMedia:
    def test_name_and_content(self, videos, folder, files):
        Path("clip").write_bytes(movie(2, sound=None))
        assert encode(videos, "clip").code == 0
        assert ContainerReader(io.BytesIO(Path("clip.tri").read_bytes())).head.media.name == "VIDEO"
        Path("photo.mp4").write_bytes(make_photo("photo.png").read_bytes())
        assert encode(videos, "photo.mp4", "--json").objects[0]["media"] == "image"
        Path("text.mp4").write_text("This is no video at all.")
        result = encode(videos, "text.mp4")
        assert (result.code, "not video of a known format" in result.err) == (1, True)
        Path("sound.mp4").write_bytes(only_sound())
        result = encode(videos, "sound.mp4")
        assert (result.code, "no video in this file" in result.err) == (1, True)

    def test_a_folder_of_all_media(self, videos, folder, files, monkeypatch):
        make_photo("in/a.png")
        make_film("in/b.mp4", 2)
        make_talk("in/sub/c.wav", 0.2)
        make_film("in/sub/d.y4m", 2)
        monkeypatch.setattr("triode.codecs.audio.default_weights", lambda media, **_: "tiny-light.v1")
        encoded = videos("encode", "-r", "in", "--output-dir", "tri", "--json", "-q", "30", "--gop", "1")
        assert encoded.code == 0, encoded.err
        assert [found["media"] for found in encoded.objects] == ["image", "video", "audio", "video"]
        decoded = videos("decode", "-r", "tri", "--output-dir", "out", "--format", "y4m")
        assert decoded.code == 0, decoded.err
        names = ["out/a.png", "out/b.y4m", "out/sub/c.wav", "out/sub/d.y4m"]
        assert [name for name in files() if name.startswith("out")] == names
        assert videos("verify", *sorted(Path("tri").rglob("*.tri"))).code == 0

    def test_a_file_of_another_medium(self, videos, coded, files):
        data = bytearray(coded.read_bytes())
        make_photo("photo.png")
        videos("encode", "photo.png", "-m", IMAGE_MODEL)
        before = files()
        assert videos("decode", "photo.tri", "-o", "a.mkv").code == 2
        assert videos("decode", coded, "-o", "a.png").code == 2
        result = encode(videos, coded, "-o", "b.tri")
        assert (result.code, "Triode file already" in result.err) == (1, True)
        assert videos("decode", coded, "-m", "tiny-light.v1", "-o", "a.mkv").code == 5
        assert videos("decode", coded, "-m", "image-light.v2", "-o", "a.mkv").code == 5
        assert files() == before
        assert data == coded.read_bytes()


def only_sound():
    """Return MP4 with sound and no video."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out, av.open(io.BytesIO(movie(2))) as source:
        track = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = track
                out.mux(packet)
    return file.getvalue()


class TestInspection:
    def test_info(self, videos, coded):
        text = videos("info", coded).out
        assert "video, 35 x 21 pixels, 14 frames in 0.56 s, 25 a second, BT.601, no sound" in text
        assert "4 groups of up to 4 frames, rate point 19" in text
        [found] = videos("info", coded, "--json").objects
        assert (found["fps"], found["duration"], len(found["frame_bytes"])) == (25.0, 0.56, 14)
        assert found["bytes"] == coded.stat().st_size

    def test_verify(self, videos, coded):
        [found] = videos("verify", coded, "--json").objects
        assert (found["units"], found["width"], found["frames"], found["verified"]) == (4, 35, 14, True)
