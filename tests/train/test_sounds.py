"""Recordings as training data: decoded once, split by file, cropped the same way every time."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.tiny_audio import tone

from triode.errors import UnsupportedError
from triode.io.audio import write_sound
from triode.media import Sound
from triode.train.sounds import SoundCrops, SoundFolder, build_sound_cache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings: one a folder below, one in stereo, one at another rate."""
    root = tmp_path / "recordings"
    (root / "more").mkdir(parents=True)
    write_sound(root / "a.wav", Sound(tone(5000, 1)[None], 8000))
    write_sound(root / "more" / "b.wav", Sound(np.stack([tone(3000, 2), -tone(3000, 3)]), 8000))
    write_sound(root / "c.wav", Sound(tone(8000, 4, rate=16000)[None], 16000))
    return root


def crops(folder: Path, tmp_path: Path, size: int = 512, **options: Any) -> SoundCrops:
    cache = build_sound_cache(folder, tmp_path / "cache", 8000)
    return SoundCrops(cache, list(range(len(cache))), size, 40, 7, **options)


def all_of(data: SoundCrops) -> list[torch.Tensor]:
    return [data[i] for i in range(len(data))]


class TestCache:
    def test_holds_every_channel_at_one_rate(self, folder, tmp_path):
        cache = build_sound_cache(folder, tmp_path / "cache", 8000)
        assert cache.names == ["a.wav", "c.wav", str(Path("more", "b.wav")), str(Path("more", "b.wav"))]
        assert cache.lengths == [5000, 4000, 3000, 3000]
        for index, expected in ((0, tone(5000, 1)), (2, tone(3000, 2)), (3, -tone(3000, 3))):
            assert cache.sound(index).dtype == np.int16
            assert float(np.abs(cache.sound(index) / 32767 - expected).max()) < 6e-5
        # Halved in rate, a sound below a quarter of it is every other sample.
        halved = tone(8000, 4, rate=16000)[::2]
        assert float(np.corrcoef(cache.sound(1)[100:-100], halved[100:-100])[0, 1]) > 0.95

    def test_is_made_once_and_again_when_files_change(self, folder, tmp_path, monkeypatch):
        first = build_sound_cache(folder, tmp_path / "cache", 8000)
        with monkeypatch.context() as patch:
            patch.setattr("triode.train.sounds.read_sound", lambda _: pytest.fail("decoded again"))
            again = build_sound_cache(folder, tmp_path / "cache", 8000)
        assert (again.path, again.lengths, again.names) == (first.path, first.lengths, first.names)
        assert build_sound_cache(folder, tmp_path / "cache", 4000).path != first.path
        write_sound(folder / "d.wav", Sound(tone(100)[None], 8000))
        assert len(build_sound_cache(folder, tmp_path / "cache", 8000)) == 5
        first.path.write_bytes(b"cut")
        assert build_sound_cache(folder, tmp_path / "cache", 8000).path != first.path

    def test_travels_to_loader_processes_without_its_samples(self, folder, tmp_path):
        cache = build_sound_cache(folder, tmp_path / "cache", 8000)
        data = pickle.dumps(cache)
        assert len(data) < 1000
        assert np.array_equal(pickle.loads(data).sound(2), cache.sound(2))

    def test_folders_without_sound(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="No recordings"):
            build_sound_cache(tmp_path, tmp_path / "cache", 8000)
        (tmp_path / "a.wav").write_bytes(b"nothing")
        with pytest.raises(UnsupportedError, match=r"a\.wav"):
            build_sound_cache(tmp_path, tmp_path / "cache", 8000)
        write_sound(tmp_path / "a.wav", Sound(np.zeros((1, 0), np.float32), 8000))
        with pytest.raises(UnsupportedError, match="has a sample"):
            build_sound_cache(tmp_path, tmp_path / "cache", 8000)


class TestCrops:
    def test_depend_on_seed_and_index_alone(self, folder, tmp_path):
        one, two = crops(folder, tmp_path), crops(folder, tmp_path)
        for i in (0, 3, 17):
            assert torch.equal(one[i], two[i])
            assert one[i].shape == (1, 512)
            assert one[i].dtype == torch.float32
        assert not torch.equal(one[0], one[1])

    def test_have_one_loudness_but_for_a_random_gain(self, folder, tmp_path):
        def loudness(data: SoundCrops) -> np.ndarray:
            return np.array([20 * np.log10(float(x.square().mean().sqrt())) for x in all_of(data)])

        plain = loudness(crops(folder, tmp_path, augment=False, level=0.05))
        assert np.allclose(plain, 20 * np.log10(0.05), atol=0.01)
        varied = loudness(crops(folder, tmp_path, level=0.05, gain_db=3.0)) - 20 * np.log10(0.05)
        assert -3 <= varied.min() < -1.5 < 1.5 < varied.max() <= 3

    def test_both_signs_occur(self, folder, tmp_path):
        """A recording that is positive everywhere shows the sign of its crops."""
        write_sound(folder / "a.wav", Sound(np.full((1, 5000), 0.1, np.float32), 8000))
        cache = build_sound_cache(folder, tmp_path / "cache", 8000)
        data = SoundCrops(cache, [0], 512, 40, 7, tilt_db=0.0, slowest=1.0, fastest=1.0)
        signs = {float(x.mean().sign()) for x in all_of(data)}
        assert signs == {-1.0, 1.0}

    def test_without_augmentation_crops_are_pieces(self, folder, tmp_path):
        cache = build_sound_cache(folder, tmp_path / "cache", 8000)
        (crop,) = SoundCrops(cache, [0], 512, 40, 7, augment=False)[0].numpy()
        windows = np.lib.stride_tricks.sliding_window_view(cache.sound(0).astype(np.float64), 512)
        likeness = windows @ crop / np.linalg.norm(windows, axis=1) / np.linalg.norm(crop)
        assert likeness.max() == pytest.approx(1, abs=1e-6)

    def test_speed_moves_the_pitch(self, folder, tmp_path):
        frequency = 500
        wave = 0.1 * np.sin(np.arange(20000) * (2 * np.pi * frequency / 8000))
        write_sound(folder / "a.wav", Sound(wave[None].astype(np.float32), 8000))
        cache = build_sound_cache(folder, tmp_path / "cache", 8000)
        data = SoundCrops(cache, [0], 4096, 30, 7, slowest=0.5, fastest=0.6, tilt_db=0.0)
        spectra = [np.abs(np.fft.rfft(x[0].numpy() * np.hanning(4096))) for x in all_of(data)]
        peaks = np.array([s.argmax() for s in spectra]) * 8000 / 4096
        slow = peaks < 0.9 * frequency
        assert 5 < slow.sum() < 25
        assert np.all((peaks[slow] > 0.48 * frequency) & (peaks[slow] < 0.62 * frequency))
        assert np.allclose(peaks[~slow], frequency, atol=4)

    def test_short_and_silent_recordings(self, tmp_path):
        folder = tmp_path / "short"
        folder.mkdir()
        write_sound(folder / "a.wav", Sound(tone(100)[None], 8000))
        write_sound(folder / "b.wav", Sound(np.zeros((1, 3000), np.float32), 8000))
        cache = build_sound_cache(folder, tmp_path / "cache", 8000)
        for recording in (0, 1):
            for x in all_of(SoundCrops(cache, [recording], 512, 10, 0)):
                assert x.shape == (1, 512)
                assert bool(x.isfinite().all())
        assert float(SoundCrops(cache, [1], 512, 10, 0)[0].abs().max()) == 0


class TestFolder:
    def data(self, folder: Path, tmp_path: Path, **options: Any) -> SoundFolder:
        data = SoundFolder(str(folder), str(tmp_path / "cache"), rate=8000, crop=256, batch_size=2, **options)
        data.prepare_data()
        data.setup("fit")
        return data

    def test_split_is_by_file(self, folder, tmp_path):
        data = self.data(folder, tmp_path, holdout=3)
        assert data.validation_recordings == [2, 3]
        assert data.training_recordings == [0, 1]

    def test_extra_recordings_do_not_shift_the_split(self, folder, tmp_path):
        (folder / "extra").mkdir()
        write_sound(folder / "extra" / "z.wav", Sound(tone(1000)[None], 8000))
        data = self.data(folder, tmp_path, holdout=3)
        names = [data.cache.names[i] for i in data.validation_recordings]
        assert set(names) == {str(Path("more", "b.wav"))}
        assert str(Path("extra", "z.wav")) in [data.cache.names[i] for i in data.training_recordings]

    def test_loaders(self, folder, tmp_path):
        data = self.data(folder, tmp_path, holdout=3, steps=3, workers=0, validation_crops=4, validation_crop=512)
        batches = list(data.train_dataloader())
        assert [b.shape for b in batches] == [(2, 1, 256)] * 3
        assert [b.shape for b in data.val_dataloader()] == [(2, 1, 512)] * 2
        assert torch.equal(next(iter(data.val_dataloader())), next(iter(data.val_dataloader())))
