"""The user's API on recordings, with the real codec and tiny weights that nobody trained."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from models.tiny_audio import tiny_sound_model, tone

import triode
from triode.io.audio import write_sound
from triode.models.weights import save_weights

MODEL = "tiny-light.v1"
RATE = 8000
SOUND = triode.Sound(np.stack([tone(12_000), tone(12_000, 1)]), RATE, (("TITLE", "A talk"),))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    save_weights(tiny_sound_model(), folder / f"{MODEL}.safetensors", name=MODEL, architecture="audio-light")
    return folder


@pytest.fixture(autouse=True)
def weights(home, monkeypatch):
    monkeypatch.setenv("TRIODE_HOME", str(home))


@pytest.fixture(scope="module")
def data(home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIODE_HOME", str(home))
        return triode.encode(SOUND, quality=80, model=MODEL)


class Pipe:
    """A file that is read once."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


class TestBytes:
    def test_there_and_back(self, data):
        found = triode.decode(data)
        assert isinstance(found, triode.Sound)
        assert (found.rate, found.samples.shape, found.tags) == (RATE, SOUND.samples.shape, SOUND.tags)
        error = np.square(found.samples - SOUND.samples).mean() / np.square(SOUND.samples).mean()
        assert error < 0.3
        for source in (io.BytesIO(data), Pipe(data)):
            assert np.array_equal(triode.decode(source).samples, found.samples)

    @pytest.mark.parametrize(
        "samples",
        [
            SOUND.samples,
            SOUND.samples.astype(np.float64),
            torch.from_numpy(SOUND.samples),
            torch.from_numpy(SOUND.samples).requires_grad_(),
        ],
        ids=["numpy", "float64", "torch", "torch-with-gradient"],
    )
    def test_arrays(self, samples, data):
        tagged = triode.Sound(triode.decode(triode.encode(samples, rate=RATE, quality=80, model=MODEL)).samples, RATE)
        assert np.array_equal(tagged.samples, triode.decode(data).samples)

    def test_integers_and_mono(self):
        floats = np.round(SOUND.samples[0] * 32768) / 32768
        whole = np.round(SOUND.samples[0] * 32768).astype(np.int16)
        first, second = (triode.encode(x, rate=RATE, model=MODEL) for x in (floats, whole))
        assert first == second
        assert triode.info(first).channels == 1

    def test_wrong_samples(self):
        for samples, error, text in (
            (np.zeros((100, 2, 1), np.float32), ValueError, "channels before time"),
            (np.zeros((1000, 2), np.float32), ValueError, "channels before time"),
            (np.zeros(10, np.uint8), TypeError, "uint8"),
            ([0.0, 1.0], TypeError, "list"),
            (np.array([np.nan], np.float32), ValueError, "finite"),
        ):
            with pytest.raises(error, match=text):
                triode.encode(samples, rate=RATE, model=MODEL)
        with pytest.raises(ValueError, match="rate"):
            triode.encode(np.zeros(10, np.float32), rate=0, model=MODEL)
        with pytest.raises(ValueError, match="8000 samples per second"):
            triode.encode(SOUND, rate=16_000, model=MODEL)
        with pytest.raises(triode.UnsupportedError):
            triode.encode(np.zeros((9, 10), np.float32), rate=RATE, model=MODEL)

    def test_targets(self):
        assert len(triode.encode(SOUND, size=6000, model=MODEL)) <= 6000
        assert triode.info(triode.encode(SOUND, kbps=40, model=MODEL)).kbps <= 40
        for option in ({"bpp": 1.0}, {"psnr": 30.0}, {"convert": True}):
            with pytest.raises(ValueError, match="are for images"):
                triode.encode(SOUND, model=MODEL, **option)
        with pytest.raises(ValueError, match="kbps is for recordings"):
            triode.encode(np.zeros((8, 8, 3), np.uint8), kbps=3.0)

    def test_strip(self):
        assert triode.decode(triode.encode(SOUND, model=MODEL, strip=True)).tags == ()

    def test_info_and_verify(self, data):
        found = triode.info(data)
        assert isinstance(found, triode.AudioInfo)
        assert (found.media, found.seconds, found.tags) == ("audio", 1.5, SOUND.tags)
        assert triode.verify(data) == triode.verify(Pipe(data)) == triode.info(Pipe(data)) == found
        for call in (triode.verify, triode.info, triode.decode):
            with pytest.raises(triode.TruncatedError):
                call(data[:-1])
            with pytest.raises(triode.LimitExceededError):
                call(data, limits=triode.DecodeLimits(max_samples=11_999))


class TestFiles:
    def test_paths(self, tmp_path, data):
        path = tmp_path / "talk.wav"
        write_sound(path, SOUND, "float")
        for name in (path, str(path)):
            assert triode.encode(name, quality=80, model=MODEL) == data
        triode.save(tmp_path / "a.tri", path, quality=80, model=MODEL)
        assert (tmp_path / "a.tri").read_bytes() == data
        assert triode.decode(triode.encode(path, model=MODEL, strip=True)).tags == ()
        with pytest.raises(ValueError, match="a file says its own"):
            triode.encode(path, rate=RATE, model=MODEL)
        with pytest.raises(FileNotFoundError):
            triode.encode(tmp_path / "none.flac", model=MODEL)

    def test_failures_leave_nothing(self, tmp_path):
        path = tmp_path / "talk.wav"
        write_sound(path, SOUND)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(triode.TruncatedError):
            triode.save(tmp_path / "a.tri", path, model=MODEL)
        assert list(tmp_path.iterdir()) == [path]

    def test_parts(self, tmp_path, data):
        path, whole = tmp_path / "a.tri", triode.decode(data).samples
        path.write_bytes(data)
        with triode.open(path) as file:
            assert file.info == triode.info(path)
            for part in (slice(100, 200), slice(None, 5), slice(-7, None), slice(9000, 10**9), slice(20, 10)):
                assert np.array_equal(file[part].samples, whole[:, part])
            assert np.array_equal(file.read().samples, whole)
            blocks = file.blocks()
            assert (blocks.rate, blocks.channels, blocks.samples) == (RATE, 2, 12_000)
            assert np.array_equal(np.concatenate(list(blocks), axis=1), whole)
            with pytest.raises(ValueError, match="step"):
                file[::2]
            with pytest.raises(TypeError, match="slice"):
                file[3]

    def test_images_have_no_parts(self, tmp_path):
        path = tmp_path / "a.tri"
        triode.save(path, np.zeros((8, 8, 3), np.uint8))
        with triode.open(path) as file:
            with pytest.raises(TypeError, match="holds an image"):
                file[0:1]
            with pytest.raises(TypeError, match="holds an image"):
                file.blocks()


class TestWeights:
    def test_of_an_architecture_without_default(self, home, monkeypatch):
        monkeypatch.setattr("triode.models.weights.catalogue._folders", lambda: [home])
        assert triode.create_model("audio-light", pretrained=True).sample_rate == RATE
        with pytest.raises(triode.ModelMismatchError, match="No weights for sound"):
            triode.encode(SOUND)

    def test_of_the_path_of_a_model(self, home, data):
        path = str(Path(home) / f"{MODEL}.safetensors")
        assert triode.encode(SOUND, quality=80, model=path) == data
