"""Clips as training data: decoded once, split by file, cropped in space and time the same way every time."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from models.tiny_video import moving_clip

from triode.errors import UnsupportedError
from triode.io.video_writing import write_clip
from triode.media import Clip
from triode.train.clip_cache import ClipCache, build_clip_cache
from triode.train.clips import ClipBatches, ClipFolder, Stage, stages_of
from triode.train.images import ImageFolder

STAGES = [
    {"until": 0.5, "frames": 2, "crop": 16, "batch": 3},
    {"until": 1.0, "frames": 4, "crop": 32, "batch": 2},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clips, one of them in a folder below, of odd size."""
    root = tmp_path / "clips"
    (root / "more").mkdir(parents=True)
    write_clip(root / "a.mkv", moving_clip(6, 64, 48))
    write_clip(root / "c.mkv", moving_clip(3, 40, 34, seed=1, full_range=True))
    write_clip(root / "more" / "b.mkv", moving_clip(4, 51, 37, seed=2))
    return root


def made_cache(tmp_path: Path, *clips: Clip) -> ClipCache:
    root = tmp_path / "made"
    root.mkdir()
    for number, clip in enumerate(clips):
        write_clip(root / f"{number}.mkv", clip)
    return build_clip_cache(root, tmp_path / "cache")


def coded_clip(frames: int, height: int, width: int) -> Clip:
    """A clip whose luma is 10 t, and whose chroma says where a sample is: u its column, v its row."""
    y = np.broadcast_to(10 * np.arange(frames, dtype=np.uint8)[:, None, None], (frames, height, width))
    row, column = np.mgrid[: height // 2, : width // 2].astype(np.uint8)
    u, v = (np.broadcast_to(x, (frames, height // 2, width // 2)) for x in (column, row))
    return Clip(y.copy(), u.copy(), v.copy(), Fraction(25))


def batches(cache: ClipCache, stage: Stage, count: int = 30, **options: Any) -> torch.Tensor:
    """Return samples, one after the other: (N, T, 6, h, w)."""
    data = ClipBatches(cache, list(range(len(cache))), (stage,), count, 7, **options)
    return torch.cat([data[i] for i in range(count)])


class TestCache:
    def test_holds_the_samples_of_the_files(self, folder, tmp_path):
        cache = build_clip_cache(folder, tmp_path / "cache")
        assert cache.names == ["a.mkv", "c.mkv", str(Path("more", "b.mkv"))]
        assert cache.shapes == [(6, 48, 64), (3, 34, 40), (4, 36, 50)]
        for index, clip in ((0, moving_clip(6, 64, 48)), (2, moving_clip(4, 51, 37, seed=2))):
            y, uv = cache.clip(index)
            _, height, width = cache.shapes[index]
            assert np.array_equal(y, clip.y[:, :height, :width])
            assert np.array_equal(uv[:, 0], clip.u[:, : height // 2, : width // 2])
            assert np.array_equal(uv[:, 1], clip.v[:, : height // 2, : width // 2])

    def test_full_range_becomes_limited(self, folder, tmp_path):
        clip = moving_clip(3, 40, 34, seed=1)
        y, uv = build_clip_cache(folder, tmp_path / "cache").clip(1)
        assert np.abs(y - (16 + clip.y.astype(float) * 219 / 255)).max() <= 0.5
        assert np.abs(uv[:, 1] - (128 + (clip.v.astype(float) - 128) * 224 / 255)).max() <= 0.5

    def test_is_made_once_and_again_when_files_change(self, folder, tmp_path, monkeypatch):
        first = build_clip_cache(folder, tmp_path / "cache")
        with monkeypatch.context() as patch:
            patch.setattr("triode.train.clip_cache.ClipReader", lambda _: pytest.fail("decoded again"))
            again = build_clip_cache(folder, tmp_path / "cache")
        assert (again.path, again.shapes, again.names) == (first.path, first.shapes, first.names)
        first.path.write_bytes(b"cut")
        assert np.array_equal(build_clip_cache(folder, tmp_path / "cache").clip(0)[0], moving_clip(6, 64, 48).y)
        write_clip(folder / "d.mkv", moving_clip(1, 32, 32))
        assert len(build_clip_cache(folder, tmp_path / "cache")) == 4

    def test_travels_to_loader_processes_without_its_samples(self, folder, tmp_path):
        cache = build_clip_cache(folder, tmp_path / "cache")
        data = pickle.dumps(cache)
        assert len(data) < 1000
        assert np.array_equal(pickle.loads(data).clip(2)[1], cache.clip(2)[1])

    def test_pictures(self, tmp_path):
        grey = [np.full(shape, value, np.uint8) for shape, value in (((5, 4, 6), 126), ((5, 2, 3), 128))]
        cache = made_cache(tmp_path, Clip(grey[0], grey[1], grey[1], Fraction(25)))
        pictures = list(cache.rgb(0, 2))
        assert [p.shape for p in pictures] == [(4, 6, 3)] * 3
        assert set(np.concatenate(pictures).flatten().tolist()) == {round((126 - 16) / 219 * 255)}

    def test_folders_without_clips(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="No clips"):
            build_clip_cache(tmp_path, tmp_path / "cache")
        (tmp_path / "a.mkv").write_bytes(b"nothing at all")
        with pytest.raises(UnsupportedError, match=r"a\.mkv"):
            build_clip_cache(tmp_path, tmp_path / "cache")


class TestStages:
    def test_rows(self):
        assert stages_of(STAGES) == (Stage(0.5, 2, 16, 3), Stage(1.0, 4, 32, 2))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"until": 0.4}, "rise to 1"),
            ({"until": 1.2}, "until"),
            ({"crop": 31}, "even"),
            ({"frames": 0}, "frames"),
            ({"batch": 0}, "batch"),
            ({"speed": 1}, "must have"),
        ],
    )
    def test_bad_rows(self, changes, message):
        with pytest.raises(ValueError, match=message):
            stages_of([STAGES[0], STAGES[1] | changes])
        with pytest.raises(ValueError, match="rise to 1"):
            stages_of([])

    def test_batches_follow_them(self, folder, tmp_path):
        cache = build_clip_cache(folder, tmp_path / "cache")
        data = ClipBatches(cache, [0], stages_of(STAGES), 5, 0)
        shapes = [tuple(data[i].shape) for i in range(len(data))]
        assert shapes == [(3, 2, 6, 8, 8)] * 3 + [(2, 4, 6, 16, 16)] * 2


class TestBatches:
    def test_depend_on_seed_and_index_alone(self, folder, tmp_path):
        cache = build_clip_cache(folder, tmp_path / "cache")
        one, two, three = (ClipBatches(cache, [0, 1], stages_of(STAGES), 5, seed) for seed in (1, 1, 2))
        for i in (0, 4):
            assert torch.equal(one[i], two[i])
            assert one[i].dtype == torch.uint8
            assert not torch.equal(one[i], three[i])
        assert not torch.equal(one[0], one[1])

    def test_are_pieces_of_clips(self, tmp_path):
        cache = made_cache(tmp_path, coded_clip(9, 40, 60))
        crops = batches(cache, Stage(1.0, 3, 16, 4), 40, augment=False)
        y, u, v = crops[:, :, :4], crops[:, :, 4].int(), crops[:, :, 5].int()
        assert bool((y == y[:, :, :1, :1, :1]).all())
        assert bool((y[:, 1:, 0, 0, 0].int() - y[:, :-1, 0, 0, 0].int() == 10).all())
        assert bool((u.diff(dim=3) == 1).all())
        assert bool((v.diff(dim=2) == 1).all())
        corners = {(int(c[0, 0, 0]), int(r[0, 0, 0])) for c, r in zip(u, v, strict=True)}
        assert len(corners) > 20
        assert {0, 30 - 8} <= {c for c, _ in corners}
        assert {0, 20 - 8} <= {r for _, r in corners}
        assert set(y[:, 0, 0, 0, 0].tolist()) == {10 * t for t in range(7)}

    def test_luma_belongs_to_its_chroma(self, tmp_path):
        clip = coded_clip(1, 40, 60)
        clip.y[0] = clip.u[0].repeat(2, 0).repeat(2, 1)
        for crop in batches(made_cache(tmp_path, clip), Stage(1.0, 1, 16, 2)):
            errors = (crop[:, :4].int() - crop[:, 4:5].int()).abs()
            assert int(errors.max()) <= 1  # One where the crop was scaled.

    def test_augmentation_in_time(self, tmp_path):
        cache = made_cache(tmp_path, coded_clip(9, 20, 20))
        times = batches(cache, Stage(1.0, 3, 16, 2))[:, :, 0, 0, 0].int()
        assert {tuple(set(t.tolist())) for t in times.diff(dim=1)} == {(10,), (20,), (-10,), (-20,)}

    def test_augmentation_in_space(self, tmp_path):
        cache = made_cache(tmp_path, coded_clip(1, 80, 90))
        crops = batches(cache, Stage(1.0, 1, 16, 2))[:, 0].int()
        slopes = (crops[:, 4, 4, 5] - crops[:, 4, 4, 2]), (crops[:, 5, 5, 4] - crops[:, 5, 2, 4])
        for slope in slopes:
            assert {-6, -5, -4, -3, 3, 4, 5, 6} <= set(slope.tolist()) <= {*range(-6, -2), *range(3, 7)}

    def test_short_clips_go_back_and_forth(self, tmp_path):
        cache = made_cache(tmp_path, coded_clip(3, 20, 20), coded_clip(1, 20, 20))
        data = ClipBatches(cache, [0], (Stage(1.0, 8, 16, 1),), 20, 0, augment=False)
        assert {tuple((x[0, :, 0, 0, 0] // 10).tolist()) for x in data} == {(0, 1, 2, 1, 0, 1, 2, 1)}
        still = ClipBatches(cache, [1], (Stage(1.0, 8, 16, 1),), 2, 0)
        assert all(bool((x[:, :, :4] == 0).all()) for x in still)

    def test_processes_take_turns(self, folder, tmp_path):
        cache = build_clip_cache(folder, tmp_path / "cache")
        data = ClipBatches(cache, [0], stages_of(STAGES), 4, 0, processes=2)
        assert len(data) == 8
        assert [tuple(data[i].shape[:2]) for i in range(8)] == [(3, 2)] * 4 + [(2, 4)] * 4


class TestFolder:
    def data(self, folder: Path, tmp_path: Path, **options: Any) -> ClipFolder:
        small = {"validation_crop": 16, "validation_frames": 5, "validation_crops": 6, "workers": 0}
        data = ClipFolder(str(folder), str(tmp_path / "cache"), STAGES, **{**small, "steps": 4, **options})
        data.prepare_data()
        data.setup("fit")
        return data

    def test_split_is_by_file(self, folder, tmp_path):
        data = self.data(folder, tmp_path, holdout=3)
        assert (data.training_clips, data.validation_clips) == ([0, 1], [2])
        (folder / "extra").mkdir()
        write_clip(folder / "extra" / "e.mkv", moving_clip(1, 32, 32))
        data = self.data(folder, tmp_path, holdout=3)
        assert [data.cache.names[i] for i in data.validation_clips] == [str(Path("more", "b.mkv"))]
        assert len(data.training_clips) == 3

    def test_loaders(self, folder, tmp_path):
        data = self.data(folder, tmp_path, holdout=3)
        shapes = [tuple(b.shape) for b in data.train_dataloader()]
        assert shapes == [(3, 2, 6, 8, 8)] * 2 + [(2, 4, 6, 16, 16)] * 2
        checks = [list(data.val_dataloader()) for _ in range(2)]
        assert [tuple(b.shape) for b in checks[0]] == [(4, 5, 6, 8, 8)] * 2
        assert all(torch.equal(one, two) for one, two in zip(*checks, strict=True))

    def test_a_resumed_run_has_the_rest(self, folder, tmp_path):
        data = self.data(folder, tmp_path, holdout=3)
        whole = list(data.train_dataloader())
        data.trainer = SimpleNamespace(global_step=1, world_size=1, global_rank=0)  # type: ignore[assignment]
        rest = list(data.train_dataloader())
        assert len(rest) == 3
        assert all(torch.equal(one, two) for one, two in zip(rest, whole[1:], strict=True))
        assert len(data.train_dataloader()) == 4  # As Lightning counts on.

    def test_photos(self, folder, photos, tmp_path):
        data = self.data(folder, tmp_path, photos=str(photos), share=1.0)
        made = next(iter(data.train_dataloader()))
        real = next(iter(self.data(folder, tmp_path, photos=str(photos), share=0.0).train_dataloader()))
        assert made.shape == real.shape
        assert not torch.equal(made, real)
        assert data.motion is not None
        assert torch.equal(made[0], data.motion.clip(_after_one_draw(0, 0, 0), 2, 16))
        split = ImageFolder(str(photos), str(tmp_path / "cache"))
        split.setup("fit")
        assert data.motion.images.tolist() == split.training_images
        assert not set(data.motion.images) & set(split.validation_images)

    def test_crops_larger_than_clips(self, folder, tmp_path):
        with pytest.raises(ValueError, match=r"40 pixels.*c\.mkv"):
            ClipFolder(str(folder), str(tmp_path / "cache"), [STAGES[1] | {"crop": 40}]).setup("fit")
        with pytest.raises(ValueError, match="share"):
            ClipFolder(str(folder), share=1.5)


def _after_one_draw(*key: int) -> np.random.Generator:
    rng = np.random.default_rng(key)
    rng.random()
    return rng
