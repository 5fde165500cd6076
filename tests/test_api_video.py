"""The user's API on clips, with the real codec and tiny weights for images, which code frame by frame."""

import io
from fractions import Fraction

import numpy as np
import pytest
from models.movies import movie
from models.tiny import save_tiny
from models.tiny_audio import tiny_sound_model
from models.tiny_video import moving_clip

import triode
from triode.io.tracks import PacketReader
from triode.io.video_writing import write_clip
from triode.models.weights import save_weights

MODEL = "tiny.v1"
CLIP = moving_clip(10, 24, 17)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    save_tiny(folder, name=MODEL)
    return folder


@pytest.fixture(autouse=True)
def weights(home, monkeypatch):
    monkeypatch.setenv("TRIODE_HOME", str(home))


@pytest.fixture(scope="module")
def data(home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIODE_HOME", str(home))
        return triode.VideoCodec(MODEL, gop=4).encode(CLIP, quality=60).data


class Pipe:
    """A file that is read once."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


def same(one, other):
    return all(np.array_equal(getattr(one, plane), getattr(other, plane)) for plane in "yuv")


class TestBytes:
    def test_there_and_back(self):
        data = triode.encode(CLIP, quality=80, model=MODEL)
        found = triode.decode(data)
        assert isinstance(found, triode.Clip)
        assert (found.rate, found.y.shape, found.u.shape) == (CLIP.rate, CLIP.y.shape, CLIP.u.shape)
        assert np.abs(found.y.astype(float) - CLIP.y).mean() < 20, "nobody trained the weights"
        for source in (io.BytesIO(data), Pipe(data)):
            assert same(triode.decode(source), found)

    def test_targets(self):
        small, large = (triode.encode(CLIP, quality=q, model=MODEL) for q in (10, 90))
        assert len(small) < len(large)
        assert triode.info(triode.encode(CLIP, kbps=100, model=MODEL)).kbps <= 100
        for option in ({"bpp": 1.0}, {"psnr": 30.0}, {"size": 999}, {"convert": True}, {"rate": 25}):
            with pytest.raises(ValueError, match="are not for clips"):
                triode.encode(CLIP, model=MODEL, **option)

    def test_info_and_verify(self, data):
        found = triode.info(data)
        assert isinstance(found, triode.VideoInfo)
        assert (found.media, found.frames, found.gops, found.seconds) == ("video", 10, 3, 0.4)
        assert triode.verify(data) == triode.verify(Pipe(data)) == triode.info(Pipe(data)) == found
        for call in (triode.verify, triode.info, triode.decode):
            with pytest.raises(triode.TruncatedError):
                call(data[:-1])
            with pytest.raises(triode.LimitExceededError):
                call(data, limits=triode.DecodeLimits(max_frames=9))


class TestFiles:
    def test_y4m(self, tmp_path):
        path, target = tmp_path / "clip.y4m", tmp_path / "clip.tri"
        clip = moving_clip(3, matrix="bt601")
        write_clip(path, clip)
        triode.save(target, path, model=MODEL)
        assert target.read_bytes() == triode.encode(str(path), model=MODEL) == triode.encode(clip, model=MODEL)
        with pytest.raises(FileNotFoundError):
            triode.encode(tmp_path / "none.mp4", model=MODEL)

    def test_sound(self, tmp_path):
        pytest.importorskip("av")
        path = tmp_path / "clip.mp4"
        path.write_bytes(movie(5, seconds=0.2))
        (tmp_path / "a.tri").write_bytes(triode.encode(path, model=MODEL))
        with triode.open(tmp_path / "a.tri") as file:
            assert file.info.sound == "copied"
            frames = file.frames()
            write_clip(tmp_path / "a.mkv", frames, sound=frames.sound)
        with PacketReader(tmp_path / "a.mkv") as one, PacketReader(path) as other:
            assert [p.data for p in one.until(None)] == [p.data for p in other.until(None)]
        assert triode.info(triode.encode(path, model=MODEL, audio="none")).sound == "none"
        with pytest.raises(ValueError, match="audio"):
            triode.encode(path, model=MODEL, audio="loud")
        path.write_bytes(movie(2, sound=None))
        assert triode.info(triode.encode(path, model=MODEL)).sound == "none"

    def test_sound_by_triode(self, tmp_path, monkeypatch):
        pytest.importorskip("av")
        path = tmp_path / "clip.mp4"
        path.write_bytes(movie(5, seconds=0.2))
        with monkeypatch.context() as patch:
            for one in ("SPEECH", "GENERAL"):
                patch.setattr(f"triode.models.weights.catalogue.{one}", "absent.v1")
            with pytest.raises(triode.ModelMismatchError, match="No weights for sound"):
                triode.encode(path, model=MODEL, audio="triode")
        name = "audio-light-general.v2"
        save_weights(tiny_sound_model(), tmp_path / f"{name}.safetensors", name=name, architecture="audio-light")
        save_tiny(tmp_path, name=MODEL)
        monkeypatch.setenv("TRIODE_HOME", str(tmp_path))
        assert triode.info(triode.encode(path, model=MODEL, audio="triode")).sound == "triode"

    def test_failures_leave_nothing(self, tmp_path):
        path = tmp_path / "clip.y4m"
        write_clip(path, CLIP)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(triode.TruncatedError):
            triode.save(tmp_path / "a.tri", path, model=MODEL)
        assert list(tmp_path.iterdir()) == [path]

    def test_parts(self, tmp_path, data):
        path, whole = tmp_path / "a.tri", triode.decode(data)
        path.write_bytes(data)
        with triode.open(path) as file:
            assert file.info == triode.info(path)
            for part in (slice(2, 5), slice(None, 1), slice(-3, None), slice(4, 10**9)):
                assert np.array_equal(file[part].y, whole.y[part])
            assert same(file.read(), whole)
            frames = file.frames()
            assert (frames.width, frames.height, frames.rate) == (24, 17, 25)
            assert [clip.frames for clip in frames] == [4, 4, 2]
            assert np.array_equal(next(iter(file.frames(3))).y, whole.y[3:4])
            [found] = file.frames(Fraction("0.2"), Fraction("0.3"))
            assert np.array_equal(found.y, whole.y[5:8])
            for part in (slice(None, None, 2), slice(5, 5), slice(99, None)):
                with pytest.raises(ValueError, match="at least one"):
                    file[part]
            with pytest.raises(TypeError, match="slice"):
                file[3]
            with pytest.raises(TypeError, match="holds a clip, no recording"):
                file.blocks()

    def test_images_have_no_frames(self, tmp_path):
        triode.save(tmp_path / "a.tri", np.zeros((8, 8, 3), np.uint8), model=MODEL)
        with triode.open(tmp_path / "a.tri") as file, pytest.raises(TypeError, match="holds an image, no clip"):
            file.frames()


def test_weights_for_video_are_preferred(home, monkeypatch):
    """Where there are none, those for images code each frame on its own."""
    from triode.models.weights import default_weights

    assert default_weights("video") == "video-light.v2"
    assert triode.info(triode.encode(CLIP)).model == "video-light.v2"
    monkeypatch.setattr("triode.models.weights.catalogue._folders", lambda: [home])
    assert default_weights("video") == default_weights("image")
