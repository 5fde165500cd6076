"""Recordings through the command line, with the real codec and tiny weights that nobody trained."""

import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from abuse.samples import chunk, split
from cli.conftest import SOUND_MODEL, SOUND_RATE, break_unit, make_photo, make_talk

from triode.codecs.audio import AudioCodec
from triode.codecs.sound_decoding import SoundBlocks
from triode.container import AudioHead, ContainerWriter, Head
from triode.errors import EntropyMismatchError
from triode.io.audio import SoundReader, read_sound

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
    "kbps": float,
    "rate": int,
    "channels": int,
    "samples": int,
    "duration": float,
    "seconds": float,
}
TAGS = (("TITLE", "A talk"), ("ARTIST", "Ä. Nobody"), ("COMMENT", "two\nlines"))


@pytest.fixture
def talk(folder):
    """A recording `talk.wav` of half a second."""
    return make_talk("talk.wav")


def encode(run, *words):
    return run("encode", *words, "-m", SOUND_MODEL)


@pytest.fixture
def coded(sounds, folder):
    """A recording `talk.tri` of three chunks and a bit, in stereo."""
    make_talk("talk.wav", 6.6, channels=2)
    result = encode(sounds, "talk.wav")
    assert result.code == 0, result.err
    return Path("talk.tri")


def samples_of(path):
    return read_sound(Path(path)).samples


class TestThereAndBack:
    @pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (8000, 2), (11025, 1), (16000, 3)])
    def test_size_comes_back(self, sounds, folder, rate, channels):
        make_talk("talk.wav", 0.3, channels, rate)
        [found] = encode(sounds, "talk.wav", "--json", "-q", "70", "--verify").objects
        assert {key: type(value) for key, value in found.items()} == FIELDS
        size = Path("talk.tri").stat().st_size
        assert found["bytes"] == size > found["payload_bytes"]
        assert found["kbps"] == round(8 * size / 1000 / (round(0.3 * rate) / rate), 6)
        assert (found["media"], found["model"], found["rate_point"]) == ("audio", SOUND_MODEL, 44)
        wanted = (rate, channels, round(0.3 * rate), pytest.approx(0.3, abs=1e-4))
        assert (found["rate"], found["channels"], found["samples"], found["duration"]) == wanted

        [back] = sounds("decode", "talk.tri", "-o", "back.wav", "--json").objects
        assert {key: type(value) for key, value in back.items()} == FIELDS
        same = FIELDS.keys() - {"input", "output", "seconds"}
        assert {key: back[key] for key in same} == {key: found[key] for key in same}
        sound = read_sound(Path("back.wav"))
        assert (sound.rate, sound.samples.shape) == (rate, (channels, round(0.3 * rate)))

    def test_more_quality_more_bytes_less_noise(self, sounds, talk):
        sizes, errors = [], []
        for quality in (0, 40, 80, 100):
            encode(sounds, talk, "-q", quality, "-o", "a.tri", "-f")
            sounds("decode", "a.tri", "-f")
            sizes.append(Path("a.tri").stat().st_size)
            errors.append(np.square(samples_of("a.wav") - samples_of(talk)).mean())
        assert sizes == sorted(set(sizes))
        assert errors == sorted(set(errors), reverse=True)

    @pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "opus", "aiff"])
    def test_formats_that_are_read(self, sounds, folder, suffix):
        soundfile = pytest.importorskip("soundfile")
        form = {"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}.get(suffix, (suffix.upper(), None))
        original = make_talk("talk.wav", 0.4, rate=16000)
        name = Path(f"coded.{suffix}")
        with soundfile.SoundFile(name, "w", 16000, 1, format=form[0], subtype=form[1]) as out:
            out.write(samples_of(original)[0])
        [found] = encode(sounds, name, "--json").objects
        # Lossy coders resample, and some pad.
        assert found["duration"] == pytest.approx(0.4, abs=0.2)
        [piped] = sounds("encode", "-", "-m", SOUND_MODEL, "-o", "piped.tri", "--json", stdin=name.read_bytes()).objects
        assert Path("piped.tri").read_bytes() == Path("coded.tri").read_bytes()
        assert piped["samples"] == found["samples"]

    def test_a_name_may_say_what_the_bytes_do_not(self, sounds, talk):
        talk.rename("talk.jpg")
        assert encode(sounds, "talk.jpg").code == 0
        Path("noise.mp3").write_text("This is no sound.")
        result = encode(sounds, "noise.mp3")
        assert (result.code, "not sound of a known format" in result.err) == (1, True)

    def test_nothing_in_it(self, sounds, folder):
        make_talk("empty.wav", 0)
        [found] = encode(sounds, "empty.wav", "--json", "--verify").objects
        assert (found["samples"], found["kbps"]) == (0, 0)
        assert sounds("decode", "empty.tri", "-o", "back.wav").code == 0
        assert samples_of("back.wav").shape == (1, 0)
        result = sounds("decode", "empty.tri", "-o", "back.flac")
        assert (result.code, Path("back.flac").exists()) == (1, False)

    def test_same_input_same_bytes(self, sounds, talk):
        assert encode(sounds, talk, "-o", "-").data == encode(sounds, talk, "-o", "-").data


class TestTargets:
    @pytest.mark.parametrize(("words", "most"), [(("--kbps", "24"), 3000), (("--size", "2k"), 2000)])
    def test_are_kept(self, sounds, folder, words, most):
        make_talk("talk.wav", 1)
        [found] = encode(sounds, "talk.wav", *words, "--json").objects
        assert 0.8 * most < found["bytes"] <= most
        assert 0 < found["quality"] < 100

    def test_out_of_reach(self, sounds, talk, files):
        result = encode(sounds, talk, "--kbps", "0.1")
        assert (result.code, "cannot be met" in result.err) == (1, True)
        assert files() == ["talk.wav"]

    @pytest.mark.parametrize("words", [("--bpp", "1"), ("--psnr", "30"), ("--effort", "low")])
    def test_of_images(self, sounds, talk, files, words):
        result = encode(sounds, talk, *words)
        assert (result.code, f"{words[0]} is for images" in result.err) == (2, True)
        assert files() == ["talk.wav"]

    def test_of_recordings(self, sounds, folder, files):
        make_photo("photo.png")
        result = sounds("encode", "photo.png", "--kbps", "6")
        assert (result.code, "--kbps is for recordings" in result.err) == (2, True)
        assert files() == ["photo.png"]
        assert sounds("encode", "photo.png", "--kbps", "6", "-q", "5").code == 2


class TestOutputs:
    def test_suffix_and_format(self, sounds, coded, files):
        pytest.importorskip("soundfile")
        assert sounds("decode", coded, "-o", "a.flac").code == 0
        assert sounds("decode", coded, "-o", "b", "--format", "FLAC").code == 0
        assert sounds("decode", coded, "-f").code == 0
        assert sounds("decode", coded, "--format", ".flac").code == 0
        assert [Path(n).read_bytes()[:4] for n in ("a.flac", "b", "talk.wav", "talk.flac")] == [b"fLaC"] * 2 + [
            b"RIFF",
            b"fLaC",
        ]
        assert np.array_equal(samples_of("a.flac"), samples_of("talk.wav"))
        assert files() == ["a.flac", "b", "talk.flac", "talk.tri", "talk.wav"]

    @pytest.mark.parametrize("words", [("-o", "a.png"), ("-o", "a.wav", "--format", "png"), ("-o", "a.mp3")])
    def test_not_of_images(self, sounds, coded, files, words):
        result = sounds("decode", coded, *words)
        assert (result.code, "written as" in result.err) == (2, True)
        assert files() == ["talk.tri", "talk.wav"]

    def test_images_are_no_sound(self, sounds, folder, files):
        make_photo("photo.png")
        sounds("encode", "photo.png")
        assert sounds("decode", "photo.tri", "-o", "a.wav").code == 2
        for words in (("--range", "0:1"), ("--partial",)):
            result = sounds("decode", "photo.tri", "-o", "a.png", *words)
            assert (result.code, f"{words[0]} is for recordings" in result.err) == (2, True)
        assert files() == ["photo.png", "photo.tri"]

    def test_no_overwriting(self, sounds, coded):
        before = Path("talk.wav").read_bytes()
        result = sounds("decode", coded)
        assert (result.code, "-f overwrites" in result.err) == (2, True)
        assert Path("talk.wav").read_bytes() == before


class TestTags:
    @pytest.fixture
    def tagged(self, sounds, folder):
        pytest.importorskip("soundfile")
        return make_talk("talk.flac", 0.2, tags=TAGS)

    def test_are_kept(self, sounds, tagged):
        encode(sounds, tagged)
        for name in ("back.flac", "back.wav"):
            assert sounds("decode", "talk.tri", "-o", name).code == 0
            assert read_sound(Path(name)).tags == TAGS
        assert ["title", "A", "talk"] in [line.split() for line in sounds("info", "talk.tri").out.splitlines()]
        assert sounds("info", "talk.tri", "--json").objects[0]["tags"] == [list(tag) for tag in TAGS]

    def test_are_stripped(self, sounds, tagged):
        encode(sounds, tagged, "--strip")
        sounds("decode", "talk.tri", "-o", "back.flac")
        assert read_sound(Path("back.flac")).tags == ()
        assert "metadata  none" in sounds("info", "talk.tri").out


class TestRange:
    @pytest.fixture
    def whole(self, sounds, coded):
        assert sounds("decode", coded, "-o", "whole.wav").code == 0
        return samples_of("whole.wav")

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("1s:2s", (8000, 16000)),
            ("1.5s:", (12000, 52800)),
            (":100", (0, 100)),
            ("16383:16385", (16383, 16385)),
            ("3s:1h", (24000, 52800)),
            ("52799:", (52799, 52800)),
            (":", (0, 52800)),
        ],
    )
    def test_has_the_samples_of_the_whole(self, sounds, coded, whole, text, part):
        [found] = sounds("decode", coded, "--range", text, "-o", "part.wav", "--json").objects
        assert np.array_equal(samples_of("part.wav"), whole[:, slice(*part)])
        assert (found["samples"], found["duration"]) == (part[1] - part[0], (part[1] - part[0]) / SOUND_RATE)

    @pytest.mark.parametrize("text", ["52800:", "8s:9s", "1s:8000", "nonsense"])
    def test_holds_nothing(self, sounds, coded, files, text):
        result = sounds("decode", coded, "--range", text, "-o", "part.wav")
        assert (result.code, "--range" in result.err) == (2, True)
        assert files() == ["talk.tri", "talk.wav"]


class TestPartial:
    def test_what_is_left(self, sounds, coded, files):
        sounds("decode", coded, "-o", "whole.wav")
        break_unit(coded, 2)
        result = sounds("decode", coded, "-o", "part.wav")
        assert (result.code, "CRC-32" in result.err) == (3, True)
        assert files() == ["talk.tri", "talk.wav", "whole.wav"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            [found] = sounds("decode", coded, "-o", "part.wav", "--partial", "--json").objects
        assert (found["concealed"], found["samples"]) == ([2], 52800)
        assert "quality" not in found
        whole, part = samples_of("whole.wav"), samples_of("part.wav")
        assert part.shape == whole.shape
        assert np.array_equal(part[:, :7500], whole[:, :7500])
        assert not np.array_equal(part[:, 33000:48000], whole[:, 33000:48000])
        result = sounds("decode", coded, "-o", "part.wav", "--partial", "-f")
        assert "1 of 4 chunks concealed (2)" in result.err
        assert "warning" not in result.err

    def test_nothing_is_lost(self, sounds, coded):
        [found] = sounds("decode", coded, "-o", "part.wav", "--partial", "--json").objects
        assert (found["concealed"], found["quality"]) == ([], 50.8)

    def test_nothing_is_left(self, sounds, coded, files):
        break_unit(coded, 0, 1, 2, 3)
        result = sounds("decode", coded, "-o", "part.wav", "--partial")
        assert (result.code, "no chunk is intact" in result.err) == (3, True)
        assert files() == ["talk.tri", "talk.wav"]

    def test_of_a_pipe(self, sounds, coded):
        break_unit(coded, 1)
        result = sounds("decode", "-", "--partial", stdin=coded.read_bytes())
        assert (result.code, read_sound(io.BytesIO(result.data)).samples.shape) == (0, (2, 52800))


class TestFailuresLeaveNothing:
    def test_every_cut(self, sounds, coded, files):
        data = coded.read_bytes()
        for end in sorted({*range(0, 80, 5), *range(80, len(data), 701), len(data) - 1}):
            Path("cut.tri").write_bytes(data[:end])
            for words in ("decode cut.tri -o cut.wav", "decode cut.tri -o -", "verify cut.tri"):
                result = sounds(*words.split())
                assert (result.code, result.data) == (3, b""), (end, words)
        assert files() == ["cut.tri", "talk.tri", "talk.wav"]

    def test_every_flip(self, sounds, coded, files):
        data = coded.read_bytes()
        for at in range(0, len(data), 199):
            Path("bad.tri").write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
            result = sounds("decode", "bad.tri", "-o", "bad.wav")
            assert result.code in {1, 3, 4}, at
            assert result.err.startswith("triode: bad.tri: ")
            assert "internal error" not in result.err
        assert files() == ["bad.tri", "talk.tri", "talk.wav"]

    def test_symbols_that_do_not_match(self, sounds, coded, files):
        data = coded.read_bytes()
        parts = [
            (kind, bytes([payload[0], payload[1], payload[2] ^ 1]) + payload[3:] if kind == b"DATA" else payload)
            for kind, payload in split(data)
        ]
        coded.write_bytes(data[:8] + b"".join(chunk(kind, payload) for kind, payload in parts))
        for words in (("verify", coded), ("decode", coded, "-o", "a.wav"), ("decode", coded, "-o", "-")):
            result = sounds(*words)
            assert (result.code, result.data, "chunk 0 of 4" in result.err) == (3, b"", True)
        assert files() == ["talk.tri", "talk.wav"]

    @pytest.mark.parametrize("cut", [20, 60, 3000])
    def test_a_recording_that_is_cut_short(self, sounds, talk, files, cut):
        talk.write_bytes(talk.read_bytes()[:-cut])
        result = encode(sounds, talk)
        assert (result.code, "cut short" in result.err) == (3, True)
        assert files() == ["talk.wav"]

    @pytest.mark.parametrize("broken", ["raises", "loses"])
    def test_in_verification(self, sounds, talk, files, monkeypatch, broken):
        real = SoundBlocks.__iter__

        def blocks(self):
            yield from list(real(self))[1:]
            if broken == "raises":
                raise EntropyMismatchError("no")

        monkeypatch.setattr(SoundBlocks, "__iter__", blocks)
        assert encode(sounds, talk, "--verify").code == 6
        result = encode(sounds, talk, "--verify", "-o", "-")
        assert (result.code, result.data) == (6, b"")
        assert files() == ["talk.wav"]

    @pytest.mark.parametrize("force", [False, True])
    def test_in_the_middle(self, sounds, coded, files, monkeypatch, force):
        before, old = files(), Path("talk.wav").read_bytes()

        def blocks(self):
            yield np.zeros((2, 100), np.float32)
            raise KeyboardInterrupt

        monkeypatch.setattr(SoundBlocks, "__iter__", blocks)
        target = ["-f"] if force else ["-o", "new.wav"]
        assert sounds("decode", coded, *target).code == 130
        assert (files(), Path("talk.wav").read_bytes()) == (before, old)


class TestStandardStreams:
    def test_pipes(self, sounds, folder):
        data = make_talk("talk.wav", 1.2, channels=2).read_bytes()
        coded = sounds("encode", "-", "-m", SOUND_MODEL, stdin=data)
        assert coded.code == 0, coded.err
        assert encode(sounds, "talk.wav", "-o", "-", "--quiet").data == coded.data
        decoded = sounds("decode", "-", stdin=coded.data)
        assert read_sound(io.BytesIO(decoded.data)).samples.shape == (2, 9600)
        assert len(decoded.data) == 44 + 4 * 9600, "the header knows the length"
        for name in ("info", "verify"):
            assert sounds(name, "-", stdin=coded.data).code == 0

    def test_flac(self, sounds, coded):
        pytest.importorskip("soundfile")
        result = sounds("decode", "-", "--format", "flac", stdin=coded.read_bytes())
        assert result.data[:4] == b"fLaC"

    def test_endless_input(self, sounds, monkeypatch):
        monkeypatch.setattr("triode.cli.common._PIPE_BYTES", 100)
        monkeypatch.setattr("triode.cli.common._LONG_PIPE_BYTES", 1000)
        start = b"RIFF\xff\xff\xff\xffWAVEfmt "
        assert sounds("encode", "-", stdin=start + bytes(1000)).code == 4
        assert sounds("encode", "-", stdin=start + bytes(900)).code == 3

    def test_to_a_terminal(self, sounds, talk, coded):
        assert encode(sounds, talk, "-o", "-", "-f").code == 0
        assert sounds("encode", talk, "-m", SOUND_MODEL, "-o", "-", terminal=True).code == 2
        assert sounds("decode", coded, "-o", "-", terminal=True).code == 2


class TestBatches:
    @pytest.fixture
    def mixed(self, folder):
        for name in ("in/a.png", "in/sub/b.jpg"):
            make_photo(name)
        for name in ("in/c.wav", "in/sub/d.wav"):
            make_talk(name, 0.2)
        Path("in/sub/notes.txt").write_text("no media")
        return Path("in")

    def test_a_folder_of_photos_and_recordings(self, sounds, mixed, files, monkeypatch):
        monkeypatch.setattr("triode.codecs.audio.default_weights", lambda media, **_: SOUND_MODEL)
        encoded = sounds("encode", "-r", mixed, "--output-dir", "tri", "--json", "-q", "30")
        assert encoded.code == 0, encoded.err
        kinds = [(Path(found["input"]).name, found["media"]) for found in encoded.objects]
        assert kinds == [("a.png", "image"), ("c.wav", "audio"), ("b.jpg", "image"), ("d.wav", "audio")]
        decoded = sounds("decode", "-r", "tri", "--output-dir", "out", "--json")
        assert decoded.code == 0, decoded.err
        assert [name for name in files() if name.startswith("out")] == [
            "out/a.png",
            "out/c.wav",
            "out/sub/b.png",
            "out/sub/d.wav",
        ]
        assert samples_of("out/sub/d.wav").shape == samples_of("in/sub/d.wav").shape
        paths = sorted(Path("tri").rglob("*.tri"))
        assert [found["media"] for found in sounds("verify", *paths, "--json").objects] == ["image", "audio"] * 2

    def test_a_format_is_for_its_medium(self, sounds, mixed, files, monkeypatch):
        monkeypatch.setattr("triode.codecs.audio.default_weights", lambda media, **_: SOUND_MODEL)
        sounds("encode", "-r", mixed, "--output-dir", "tri")
        assert sounds("decode", "-r", "tri", "--output-dir", "one", "--format", "webp").code == 0
        assert sounds("decode", "-r", "tri", "--output-dir", "two", "--format", "flac").code == 0
        found = [Path(name).name for name in files() if name.startswith(("one", "two"))]
        assert found == ["a.webp", "c.wav", "b.webp", "d.wav", "a.png", "c.flac", "b.png", "d.flac"]

    def test_one_that_fails_does_not_stop_the_others(self, sounds, mixed, monkeypatch):
        monkeypatch.setattr("triode.codecs.audio.default_weights", lambda media, **_: SOUND_MODEL)
        Path("in/c.wav").write_bytes(Path("in/c.wav").read_bytes()[:-50])
        result = sounds("encode", "-r", mixed, "--output-dir", "tri", "--json")
        assert result.code == 1
        assert [found.get("kind") for found in result.objects] == [None, "TruncatedError", None, None]

    @pytest.mark.slow
    def test_in_worker_processes(self, folder, sound_home):
        for name in ("a.wav", "b.wav"):
            make_talk(name, 0.2)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRIODE_HOME": str(sound_home)}
        command = [sys.executable, "-m", "triode", "encode", "a.wav", "b.wav", "-j", "2", "-m", SOUND_MODEL, "--json"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=280)
        assert done.returncode == 0, done.stderr.decode()
        assert [json.loads(line)["output"] for line in done.stdout.splitlines()] == ["a.tri", "b.tri"]


class TestInfo:
    def test_json(self, sounds, coded):
        [found] = sounds("info", coded, "--json").objects
        wanted = {"media": "audio", "model": SOUND_MODEL, "rate": 8000, "model_rate": 8000, "channels": 2, "chunks": 4}
        assert wanted.items() <= found.items()
        assert found["bytes"] == coded.stat().st_size
        assert found["duration"] == 6.6
        assert found["kbps"] == round(8 * found["bytes"] / 6600, 6)
        assert "seconds" not in found

    def test_verified(self, sounds, coded):
        [found] = sounds("verify", coded, "--json").objects
        assert found.pop("seconds") >= 0
        assert found == {
            "input": "talk.tri",
            "media": "audio",
            "model": SOUND_MODEL,
            "bytes": coded.stat().st_size,
            "units": 4,
            "rate": 8000,
            "channels": 2,
            "samples": 52800,
            "verified": True,
        }


class TestModels:
    @pytest.fixture
    def bare(self, sounds, tmp_path_factory, monkeypatch):
        """No weights for sound in the package, and a folder for them."""
        folder = tmp_path_factory.mktemp("bare")
        monkeypatch.setattr("triode.models.weights.catalogue._folders", lambda: [folder])
        return folder

    def test_none_are_installed(self, sounds, bare, talk, files):
        result = sounds("encode", talk)
        assert (result.code, "No weights for sound are installed" in result.err) == (5, True)
        assert "audio-light-speech.v1" in result.err
        assert files() == ["talk.wav"]

    def test_by_rate_and_channels(self, sounds, bare, sound_home, folder):
        from triode.models.base import AudioModel
        from triode.models.weights import load_weights, save_weights

        model = load_weights(str(sound_home / f"{SOUND_MODEL}.safetensors"), AudioModel).model
        for name in ("audio-light-speech.v1", "audio-light-general.v2"):
            save_weights(model, bare / f"{name}.safetensors", name=name, architecture="audio-light")
        for rate, channels, kind in ((16000, 1, "speech.v1"), (16000, 2, "speech.v1"), (44100, 1, "general.v2")):
            make_talk("talk.wav", 0.1, channels, rate)
            [found] = sounds("encode", "talk.wav", "-f", "--json").objects
            assert found["model"] == f"audio-light-{kind}"

    def test_of_another_medium(self, sounds, talk):
        result = sounds("encode", talk, "-m", "image-light.v2")
        assert (result.code, "weights for image" in result.err) == (5, True)


class TestLimits:
    def test_strict(self, sounds, folder):
        out = io.BytesIO()
        head = Head(SOUND_MODEL, b"\1\2\3\4", b"\5\6\7\x08", AudioHead(30_000_000, 8000, 1, 8000, 64, 128))
        ContainerWriter(out, head)
        Path("long.tri").write_bytes(out.getvalue())
        for command in ("decode", "info", "verify"):
            assert sounds(command, "long.tri", "--strict-limits").code == 4
            assert sounds(command, "long.tri").code in {3, 5}

    def test_of_what_is_encoded(self, sounds, talk, files, monkeypatch):
        from triode.container import DecodeLimits

        monkeypatch.setattr(DecodeLimits, "strict", classmethod(lambda cls: cls(max_samples=3999)))
        assert encode(sounds, talk, "--strict-limits").code == 4
        monkeypatch.setattr(DecodeLimits, "strict", classmethod(lambda cls: cls(max_samples=4000)))
        assert encode(sounds, talk, "--strict-limits").code == 0

    def test_memory_does_not_grow_with_length(self, sounds, folder, monkeypatch):
        """A recording goes through in blocks, none of which is longer than ten seconds."""
        made, taken = [], []
        read, iterate = SoundReader.read, SoundBlocks.__iter__

        def reading(self, count):
            block = read(self, count)
            made.append(block.shape[1])
            return block

        def going_through(self):
            for block in iterate(self):
                taken.append(block.shape[1])
                yield block

        monkeypatch.setattr(SoundReader, "read", reading)
        monkeypatch.setattr(SoundBlocks, "__iter__", going_through)
        monkeypatch.setattr(AudioCodec, "decode", None)
        make_talk("long.wav", 30)
        assert encode(sounds, "long.wav", "-q", "0").code == 0
        assert sounds("decode", "long.tri", "-f").code == 0
        assert sum(made) == sum(taken) == 30 * SOUND_RATE
        assert max(*made, *taken) <= 10 * SOUND_RATE
