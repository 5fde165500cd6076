import contextlib
import io
import sys
import wave
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.errors import BitstreamError, CodecError, LimitExceededError, TruncatedError, UnsupportedError
from triode.io.audio import READABLE, SoundReader, SoundWriter, read_sound, write_sound
from triode.media import Sound

RNG = np.random.default_rng(3)
BITS = {"pcm16": 16, "pcm24": 24}


def tone(frames=4000, rate=16000, channels=1):
    t = np.arange(frames) / rate
    wave_ = np.stack([0.4 * np.sin(2 * np.pi * (300 + 200 * c) * t) for c in range(channels)])
    return Sound(wave_.astype(np.float32), rate)


def integers(bits, channels=2, frames=501):
    most = 1 << (bits - 1)
    values = RNG.integers(-most, most, (channels, frames))
    values[0, :2] = -most, most - 1
    return Sound((values / most).astype(np.float32), 22050)


def encoded(sound, fmt="wav", subtype="pcm16"):
    file = io.BytesIO()
    write_sound(file, sound, subtype, fmt)
    return file.getvalue()


class Pipe(io.RawIOBase):
    """A file that cannot seek."""

    def __init__(self, data=b""):
        self.file = io.BytesIO(data)

    def readable(self):
        return True

    def writable(self):
        return True

    def seekable(self):
        return False

    def read(self, size=-1):
        return self.file.read(size)

    def write(self, data):
        return self.file.write(data)


class TestRoundTrip:
    @pytest.mark.parametrize("fmt", ["wav", "flac"])
    @pytest.mark.parametrize("subtype", ["pcm16", "pcm24"])
    def test_integers_come_back_as_they_were(self, tmp_path, fmt, subtype):
        pytest.importorskip("soundfile")
        sound = integers(BITS[subtype])
        write_sound(tmp_path / f"a.{fmt}", sound, subtype)
        back = read_sound(tmp_path / f"a.{fmt}")
        assert back.rate == 22050
        np.testing.assert_array_equal(back.samples, sound.samples)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 4), st.integers(0, 40), st.sampled_from(["pcm16", "pcm24", "float"]), st.randoms())
    def test_wav(self, channels, frames, subtype, random):
        pytest.importorskip("soundfile")
        rng = np.random.default_rng(random.randrange(1 << 30))
        samples = rng.uniform(-1, 1, (channels, frames)).astype(np.float32)
        back = read_sound(io.BytesIO(encoded(Sound(samples, 8000), "wav", subtype)))
        assert back.samples.shape == samples.shape
        step = 0 if subtype == "float" else 2.0 ** (1 - BITS[subtype])
        assert np.all(np.abs(back.samples - samples) <= step)  # half a step, and a whole one where +1 is clipped

    def test_wav_as_the_standard_library_reads_it(self):
        sound = integers(16)
        with wave.open(io.BytesIO(encoded(sound))) as file:
            facts = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes())
            values = np.frombuffer(file.readframes(501), "<i2").reshape(-1, 2).T
        assert facts == (2, 2, 22050, 501)
        np.testing.assert_array_equal(values, sound.samples * 32768)

    @pytest.mark.parametrize("subtype", ["pcm16", "pcm24", "float"])
    def test_wav_as_libsndfile_reads_it(self, subtype):
        soundfile = pytest.importorskip("soundfile")
        data = encoded(integers(24, channels=1), "wav", subtype)
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            assert file.subtype == {"pcm16": "PCM_16", "pcm24": "PCM_24", "float": "FLOAT"}[subtype]
            assert file.frames == 501
        assert len(data) % 2 == 0
        assert int.from_bytes(data[4:8], "little") == len(data) - 8

    def test_what_is_too_loud_is_clipped(self):
        pytest.importorskip("soundfile")
        sound = Sound(np.array([[2, -2, 1, 0.5]], np.float32), 8000)
        back = read_sound(io.BytesIO(encoded(sound)))
        np.testing.assert_allclose(back.samples, [[32767 / 32768, -1, 32767 / 32768, 0.5]], rtol=0)

    @pytest.mark.parametrize("fmt", ["wav", "flac"])
    def test_blocks_make_the_same_file_as_the_whole(self, fmt):
        pytest.importorskip("soundfile")
        sound = integers(16, frames=1000)
        file = io.BytesIO()
        with SoundWriter(file, sound.rate, 2, fmt=fmt) as writer:
            for start in range(0, 1000, 300):
                writer.write(sound.samples[:, start : start + 300])
        assert file.getvalue() == encoded(sound, fmt)

    @pytest.mark.parametrize("fmt", ["wav", "flac"])
    def test_pipes(self, fmt):
        pytest.importorskip("soundfile")
        sound = integers(16)
        pipe = Pipe()
        write_sound(pipe, sound, fmt=fmt)
        assert not pipe.file.closed
        back = read_sound(Pipe(pipe.file.getvalue()))
        np.testing.assert_array_equal(back.samples, sound.samples)

    def test_a_file_goes_where_the_target_stands(self):
        pytest.importorskip("soundfile")
        for fmt in ("wav", "flac"):
            file = io.BytesIO()
            file.write(b"before")
            write_sound(file, tone(), fmt=fmt)
            assert file.getvalue() == b"before" + encoded(tone(), fmt)


class TestReader:
    def test_attributes_and_blocks(self):
        pytest.importorskip("soundfile")
        sound = tone(1000, channels=2)
        with SoundReader(io.BytesIO(encoded(sound))) as reader:
            assert (reader.rate, reader.channels, reader.frames, reader.format) == (16000, 2, 1000, "WAV PCM_16")
            first = reader.read(300)
            rest = list(reader.blocks(300))
            assert [block.shape for block in (first, *rest)] == [(2, 300), (2, 300), (2, 300), (2, 100)]
            assert all(block.dtype == np.float32 for block in (first, *rest))
            assert reader.read(5).shape == (2, 0)
        np.testing.assert_allclose(np.concatenate([first, *rest], axis=1), sound.samples, atol=2**-16)

    def test_wrong_use(self):
        pytest.importorskip("soundfile")
        reader = SoundReader(io.BytesIO(encoded(tone())))
        with pytest.raises(ValueError, match="positive"):
            reader.read(0)
        reader.close()
        with pytest.raises(ValueError, match="closed"):
            reader.read(1)

    def test_a_given_file_stays_open(self):
        pytest.importorskip("soundfile")
        file = io.BytesIO(encoded(tone()))
        read_sound(file)
        assert not file.closed

    @pytest.mark.parametrize(
        ("fmt", "subtype"),
        [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("CAF", "ALAC_16")],
    )
    def test_formats(self, fmt, subtype):
        soundfile = pytest.importorskip("soundfile")
        sound = tone(8000)
        file = io.BytesIO()
        soundfile.write(file, sound.samples.T, 16000, format=fmt, subtype=subtype)
        back = read_sound(file)
        assert (back.rate, back.samples.shape) == (16000, (1, 8000))
        assert np.corrcoef(back.samples[0], sound.samples[0])[0, 1] > 0.98

    @pytest.mark.parametrize(("codec", "container"), [("aac", "ipod"), ("pcm_s16le", "matroska"), ("pcm_u8", "avi")])
    def test_other_formats_through_ffmpeg(self, codec, container):
        av = pytest.importorskip("av")
        sound = tone(8192)
        file = io.BytesIO()
        with av.open(file, "w", format=container) as out:
            stream = out.add_stream(codec, rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.rint(sound.samples * 32767).astype(np.int16), "s16p", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            for part in (frame, None):
                out.mux(stream.encode(part))
        with SoundReader(file) as reader:
            assert (reader.rate, reader.channels, reader.frames) == (16000, 1, None)
            blocks = list(reader.blocks(1000))
        assert all(block.shape == (1, 1000) for block in blocks[:-1])
        back = np.concatenate(blocks, axis=1)
        assert back.shape[1] >= 8192
        assert np.corrcoef(back[0, :8192], sound.samples[0])[0, 1] > 0.98
        assert np.std(back[0, :8192]) == pytest.approx(np.std(sound.samples), rel=0.05)


class TestDamage:
    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"", TruncatedError),
            (b"garbage" * 20, UnsupportedError),
            (b"OggS" + bytes(100), UnsupportedError),
            (b"RIFF\x04\0\0\0WAVE", BitstreamError),
            (encoded(tone())[:3000], TruncatedError),
            (b"\x1a\x45\xdf\xa3" + bytes(100), UnsupportedError),
        ],
    )
    def test_error_by_kind(self, data, error):
        pytest.importorskip("soundfile")
        with pytest.raises(error):
            read_sound(io.BytesIO(data))

    @pytest.mark.parametrize(("fmt", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
    def test_cut_files(self, fmt, subtype):
        soundfile = pytest.importorskip("soundfile")
        file = io.BytesIO()
        soundfile.write(file, tone(8000).samples.T, 16000, format=fmt, subtype=subtype)
        with pytest.raises(BitstreamError):
            read_sound(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))

    def test_a_length_that_is_not_known_is_no_damage(self):
        pytest.importorskip("soundfile")
        data = bytearray(encoded(tone(100)))
        data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
        assert read_sound(io.BytesIO(bytes(data))).samples.shape == (1, 100)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_samples_that_are_no_numbers(self, value):
        pytest.importorskip("soundfile")
        data = bytearray(encoded(tone(), "wav", "float"))
        data[-4:] = np.float32(value).tobytes()
        with pytest.raises(BitstreamError, match="infinite or no number"):
            read_sound(io.BytesIO(bytes(data)))

    @pytest.mark.parametrize("fmt", ["wav", "flac"])
    def test_flipped_bytes(self, fmt):
        pytest.importorskip("soundfile")
        data = encoded(integers(16, frames=300), fmt)
        rng = np.random.default_rng(0)
        for _ in range(40):
            damaged = bytearray(data)
            for place in rng.integers(0, min(len(data), 120), 3):
                damaged[place] = rng.integers(256)
            with contextlib.suppress(CodecError):
                read_sound(io.BytesIO(bytes(damaged)), max_samples=1 << 20)

    def test_a_playlist_opens_no_other_file(self, tmp_path):
        pytest.importorskip("av")
        write_sound(tmp_path / "a.wav", tone())
        (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'a.wav'}\n")
        (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile a.wav\n")
        for name in ("list.m3u8", "list.ffconcat"):
            with pytest.raises(UnsupportedError):
                read_sound(tmp_path / name)

    def test_limits(self):
        soundfile = pytest.importorskip("soundfile")
        with pytest.raises(LimitExceededError, match="max_samples=99"):
            read_sound(io.BytesIO(encoded(tone(50, channels=2))), max_samples=99)
        assert read_sound(io.BytesIO(encoded(tone(50, channels=2))), max_samples=100).samples.size == 100
        file = io.BytesIO()
        soundfile.write(file, tone(8000).samples.T, 16000, format="MP3")
        with SoundReader(file) as reader:
            assert reader.frames is None
        with pytest.raises(LimitExceededError):
            read_sound(file, max_samples=100)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            SoundReader(tmp_path / "none.wav")


class TestWriter:
    @pytest.mark.parametrize(
        ("name", "subtype", "channels"), [("a.mp3", "pcm16", 1), ("a.flac", "float", 1), ("a.flac", "pcm16", 9)]
    )
    def test_not_written(self, tmp_path, name, subtype, channels):
        with pytest.raises(UnsupportedError):
            write_sound(tmp_path / name, tone(10, channels=channels), subtype)
        assert list(tmp_path.iterdir()) == []

    def test_wrong_arguments(self, tmp_path):
        with pytest.raises(ValueError, match="subtype"):
            write_sound(tmp_path / "a.wav", tone(), "pcm8")
        with pytest.raises(ValueError, match="positive"):
            SoundWriter(tmp_path / "a.wav", 0, 1)
        writer = SoundWriter(tmp_path / "a.wav", 8000, 1)
        with pytest.raises(ValueError, match="not open"):
            writer.write(tone().samples)
        with pytest.raises(ValueError, match=r"\(1, T\)"), writer:
            writer.write(tone(channels=2).samples)
        with pytest.raises(ValueError, match="finite"), SoundWriter(tmp_path / "a.wav", 8000, 1) as other:
            other.write(np.full((1, 4), np.nan, np.float32))
        assert list(tmp_path.iterdir()) == []

    def test_failure_keeps_what_was_there(self, tmp_path):
        target = tmp_path / "a.wav"
        target.write_bytes(b"old")
        with pytest.raises(RuntimeError), SoundWriter(target, 8000, 1) as writer:  # noqa: PT012
            writer.write(tone().samples)
            raise RuntimeError("stop")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
        write_sound(target, tone())
        assert target.read_bytes() == encoded(tone())

    def test_flac_without_samples(self, tmp_path):
        pytest.importorskip("soundfile")
        with pytest.raises(UnsupportedError, match="without samples"):
            write_sound(tmp_path / "a.flac", tone(0))
        assert list(tmp_path.iterdir()) == []

    def test_wav_of_four_gibibytes(self, monkeypatch):
        monkeypatch.setattr("triode.io.audio._RIFF_MOST", 100)
        with pytest.raises(UnsupportedError, match="4 GiB"):
            encoded(tone(51))
        assert len(encoded(tone(50))) == 144
        with pytest.raises(UnsupportedError, match="4 GiB"):
            SoundWriter(io.BytesIO(), 8000, 1, frames=51)

    def test_a_length_that_is_known_is_told_to_a_pipe(self):
        pipe = Pipe()
        with SoundWriter(pipe, 16000, 1, frames=4000) as writer:
            writer.write(tone().samples)
        assert pipe.file.getvalue() == encoded(tone())


class TestMissingPackages:
    def test_wav_needs_none(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "soundfile", None)
        monkeypatch.setitem(sys.modules, "av", None)
        sound = integers(16)
        np.testing.assert_array_equal(read_sound(io.BytesIO(encoded(sound))).samples, sound.samples)
        with pytest.raises(UnsupportedError, match=r"triode\[audio\]"):
            read_sound(io.BytesIO(b"OggS" + bytes(60)))
        with pytest.raises(UnsupportedError, match=r"triode\[audio\]"):
            encoded(tone(), "flac")

    def test_what_libsndfile_does_not_know_needs_pyav(self, monkeypatch):
        pytest.importorskip("soundfile")
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(UnsupportedError, match=r"known format.*triode\[video\]"):
            read_sound(io.BytesIO(b"\0\0\0\x1cftypM4A " + bytes(40)))

    def test_ffmpeg_reads_where_soundfile_is_missing(self, monkeypatch):
        pytest.importorskip("av")
        pytest.importorskip("soundfile")
        sound = integers(16)
        data = encoded(sound, "flac")
        monkeypatch.setitem(sys.modules, "soundfile", None)
        np.testing.assert_array_equal(read_sound(io.BytesIO(data)).samples, sound.samples)


def test_suffixes():
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a"} <= READABLE
    assert all(suffix == suffix.lower() for suffix in READABLE)
