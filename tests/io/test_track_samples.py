"""The sound of a video as samples, in time with its frames; and PCM beside frames."""

import io
from fractions import Fraction

import numpy as np
import pytest
from models.movies import movie
from models.tiny_video import moving_clip

from triode.errors import CodecError, UnsupportedError
from triode.io.track_samples import PcmFeed, TrackReader
from triode.io.tracks import NoSoundError
from triode.io.video import read_clip
from triode.io.video_writing import write_clip

pytest.importorskip("av")


def wave(count, first=0):
    """The sound of a `movie`."""
    return 0.3 * np.sin((first + np.arange(count)) * 0.05)


def all_of(reader, count=1000):
    blocks = [reader.read(count)]
    while blocks[-1].shape[1]:
        blocks.append(reader.read(count))
    return np.concatenate(blocks, axis=1)


class Samples:
    """Gives samples in some pieces."""

    def __init__(self, samples, rate, start=Fraction(0), pieces=3):
        self.rate, self.channels, self.start = rate, len(samples), start
        self.pieces = np.array_split(samples, pieces, axis=1)

    def take(self):
        return self.pieces.pop(0) if self.pieces else np.zeros((self.channels, 0), np.float32)


def film(samples, rate, fmt="mkv", frames=24, **more):
    out = io.BytesIO()
    clip = moving_clip(frames, 48, 32)
    parts = [
        type(clip)(clip.y[n : n + 6], clip.u[n : n + 6], clip.v[n : n + 6], clip.rate) for n in range(0, frames, 6)
    ]
    write_clip(out, parts, fmt, PcmFeed(Samples(samples, rate, **more)))
    return out.getvalue()


def noise(channels, count, seed=0):
    return np.random.default_rng(seed).integers(-32768, 32768, (channels, count)).astype(np.float32) / 32768


class TestReading:
    @pytest.mark.parametrize(("fmt", "sound", "error"), [("mp4", "aac", 0.04), ("matroska", "pcm_s16le", 1e-4)])
    def test_begins_with_the_first_frame(self, fmt, sound, error):
        with TrackReader(io.BytesIO(movie(fmt=fmt, sound=sound))) as reader:
            assert (reader.rate, reader.channels, reader.frames) == (48_000, 1, None)
            found = all_of(reader)
        assert 38_400 <= found.shape[1] < 38_400 + 2048
        assert np.abs(found[0, 2000:36_000] - wave(34_000, 2000)).max() < error

    def test_sound_before_the_frames_is_left_out(self):
        late = movie(5, fmt="matroska", sound="pcm_s16le", stamps=range(500, 1000, 100), clock=Fraction(1, 1000))
        with TrackReader(io.BytesIO(late)) as reader:
            found = all_of(reader)
        assert found.shape[1] == 38_400 - 24_000
        assert np.abs(found[0] - wave(14_400, 24_000)).max() < 1e-4

    def test_silence_before_the_sound(self):
        samples = noise(1, 3000)
        with TrackReader(io.BytesIO(film(samples, 8000, start=Fraction(1, 4)))) as reader:
            found = all_of(reader, 700)
        assert not found[:, :2000].any()
        assert np.array_equal(found[:, 2000:], samples)

    def test_no_sound(self, tmp_path):
        (tmp_path / "a.mp4").write_bytes(movie(2, sound=None))
        with pytest.raises(NoSoundError):
            TrackReader(tmp_path / "a.mp4")
        for data in (b"", b"no video" * 9):
            with pytest.raises(CodecError):
                TrackReader(io.BytesIO(data))


class TestWriting:
    @pytest.mark.parametrize("fmt", ["mkv", "mp4"])
    @pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 48_000), (6, 11_025)])
    def test_comes_back(self, fmt, channels, rate):
        samples = noise(channels, rate)
        data = film(samples, rate, fmt)
        with TrackReader(io.BytesIO(data)) as reader:
            assert (reader.rate, reader.channels) == (rate, channels)
            assert np.array_equal(all_of(reader), samples)
        assert read_clip(io.BytesIO(data)).frames == 24

    def test_loud_samples_are_clipped(self):
        with TrackReader(io.BytesIO(film(np.array([[2.0, -2.0, 1.0]], np.float32), 8000, pieces=1))) as reader:
            assert all_of(reader).tolist() == [[32767 / 32768, -1.0, 32767 / 32768]]

    def test_too_many_channels(self):
        with pytest.raises(UnsupportedError, match="9 channels"):
            PcmFeed(Samples(noise(9, 10), 8000))
