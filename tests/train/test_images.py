import os
import pickle
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models.tiny import smooth_image
from PIL import Image

from triode.errors import UnsupportedError
from triode.train import images
from triode.train.images import CropDataset, ImageCache, ImageFolder, build_cache, recoloured


def save(folder, name, height=40, width=50, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = smooth_image(height, width, seed=seed)
    Image.fromarray(pixels).save(folder / name)
    return pixels


class TestCache:
    def test_holds_the_images_in_order_of_their_names(self, photos, tmp_path):
        cache = build_cache(photos, tmp_path)
        assert cache.names == ["a.png", "b.png", "more/c.png"]
        assert len(cache) == 3
        for i, name in enumerate(cache.names):
            assert np.array_equal(cache.image(i), np.asarray(Image.open(photos / name)))

    def test_is_used_again(self, photos, tmp_path, monkeypatch):
        first = build_cache(photos, tmp_path)
        monkeypatch.setattr(images, "_decode", lambda path: pytest.fail(f"{path} was decoded again"))
        second = build_cache(photos, tmp_path)
        assert second.shapes == first.shapes
        assert np.array_equal(second.pixels, first.pixels)
        assert len(list(tmp_path.iterdir())) == 2

    def test_is_made_anew_for_other_images(self, tmp_path):
        save(tmp_path / "in", "a.png")
        build_cache(tmp_path / "in", tmp_path / "out")
        pixels = save(tmp_path / "in", "b.png", seed=3)
        cache = build_cache(tmp_path / "in", tmp_path / "out")
        assert np.array_equal(cache.image(1), pixels)

    @pytest.mark.parametrize("suffix", [".u8", ".json"])
    @pytest.mark.parametrize("damage", ["missing", "short"])
    def test_damage_is_mended(self, photos, tmp_path, suffix, damage):
        expected = build_cache(photos, tmp_path).image(2).copy()
        (path,) = tmp_path.glob("*" + suffix)
        if damage == "missing":
            path.unlink()
        elif suffix == ".json":
            path.write_text("[[1, 1]]")
        else:
            os.truncate(path, 100)
        assert np.array_equal(build_cache(photos, tmp_path).image(2), expected)

    def test_a_file_that_is_no_image_is_named(self, tmp_path):
        save(tmp_path / "in", "a.png")
        (tmp_path / "in" / "bad.jpg").write_bytes(b"no image")
        with pytest.raises(UnsupportedError, match=r"bad\.jpg"):
            build_cache(tmp_path / "in", tmp_path / "out")
        assert list((tmp_path / "out").glob("*")) == []

    def test_a_folder_without_images(self, tmp_path):
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "note.txt").write_text("hi")
        with pytest.raises(FileNotFoundError, match="No images"):
            build_cache(tmp_path, tmp_path)

    def test_every_mode_becomes_rgb(self, tmp_path):
        rgba = smooth_image(20, 30, 4)
        for mode in ("L", "RGBA", "P", "1", "CMYK"):
            image = Image.fromarray(rgba).convert("RGB" if mode == "CMYK" else "RGBA").convert(mode)
            (tmp_path / "in").mkdir(exist_ok=True)
            image.save(tmp_path / "in" / f"{mode}.tif")
        cache = build_cache(tmp_path / "in", tmp_path / "out")
        assert cache.shapes == [(20, 30)] * 5

    def test_travels_to_other_processes_without_its_pixels(self, photos, tmp_path):
        cache = build_cache(photos, tmp_path)
        data = pickle.dumps(cache)
        assert len(data) < 2000
        assert np.array_equal(pickle.loads(data).image(1), cache.image(1))


def memory_cache(*shapes):
    """A cache of images whose pixels say where they are: row, column and number of the image."""
    parts = []
    for i, (height, width) in enumerate(shapes):
        y, x = np.mgrid[:height, :width]
        parts.append(np.stack([y, x, np.full_like(x, i)], 2).astype(np.uint8).reshape(-1))
    starts = np.cumsum([0, *(len(p) for p in parts)])[:-1].tolist()
    return ImageCache("", np.concatenate(parts), list(shapes), starts, [str(i) for i in range(len(shapes))])


class TestRecoloured:
    def test_against_a_formula_pixel_by_pixel(self):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        found = recoloured(pixels, np.random.default_rng(4))
        rng = np.random.default_rng(4)
        gamma, gains = np.exp(rng.uniform(-0.3, 0.3)), np.exp(rng.uniform(-0.1, 0.1, 3))
        saturation = rng.uniform(0.5, 1.4)
        for y in range(5):
            for x in range(7):
                lit = [255 * (pixels[y, x, c] / 255) ** gamma * gains[c] for c in range(3)]
                luma = 0.299 * lit[0] + 0.587 * lit[1] + 0.114 * lit[2]
                expected = [min(max(luma + saturation * (v - luma), 0), 255) for v in lit]
                assert np.abs(found[y, x] - np.array(expected)).max() <= 0.51

    def test_grey_stays_in_its_order(self):
        ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
        for seed in range(20):
            found = recoloured(ramp, np.random.default_rng(seed)).astype(int)
            assert (np.diff(found, axis=1) >= 0).all()
            assert np.abs(found.max(2) - found.min(2)).max() < 80


class TestCrops:
    def test_depend_on_seed_and_index_only(self):
        cache = memory_cache((90, 100), (120, 80))
        a, b = (CropDataset(cache, [0, 1], 32, 50, seed=7) for _ in range(2))
        forward = [a[i] for i in range(50)]
        backward = [b[i] for i in reversed(range(50))][::-1]
        assert all(torch.equal(x, y) for x, y in zip(forward, backward, strict=True))
        assert sum(torch.equal(x, y) for x, y in pairwise(forward)) == 0
        other = CropDataset(cache, [0, 1], 32, 50, seed=8)
        assert not torch.equal(other[0], forward[0])

    def test_without_augmentation_they_are_pieces_of_the_images(self):
        cache = memory_cache((90, 100), (40, 250))
        data = CropDataset(cache, [0, 1], 32, 60, seed=0, augment=False)
        seen = set()
        for i in range(len(data)):
            crop = data[i].permute(1, 2, 0).numpy()
            top, left, number = (int(v) for v in crop[0, 0])
            seen.add(number)
            assert np.array_equal(crop, cache.image(number)[top : top + 32, left : left + 32])
        assert seen == {0, 1}

    def test_augmentation_turns_flips_and_scales(self):
        data = CropDataset(memory_cache((200, 200)), [0], 32, 100, seed=0)
        kinds = set()
        for i in range(100):
            crop = data[i].int()
            down, right = crop[:, -1, 0] - crop[:, 0, 0], crop[:, 0, -1] - crop[:, 0, 0]
            kinds.add((int(down[0].sign()), int(down[1].sign()), int(right[0].sign()), int(right[1].sign())))
            reach = max(int(d.abs().max()) for d in (down, right))
            assert 28 <= reach <= 64  # Scale 1 to 1/2; resampling flattens the ends of the ramp.
        assert len(kinds) == 8

    def test_colours_change_in_half_of_the_crops(self):
        cache = memory_cache((200, 200))
        plain, coloured = (CropDataset(cache, [0], 32, 100, seed=0, augment=False, colour=c) for c in (False, True))
        same = [torch.equal(plain[i], coloured[i]) for i in range(100)]
        assert 35 < sum(same) < 65
        assert all(torch.equal(coloured[i], coloured[i]) for i in range(10))

    @pytest.mark.parametrize("shape", [(10, 200), (200, 10), (1, 1), (31, 33), (64, 64), (63, 64)])
    @pytest.mark.parametrize("augment", [True, False])
    def test_small_images_are_enlarged(self, shape, augment):
        data = CropDataset(memory_cache(shape), [0], 64, 20, seed=0, augment=augment)
        for i in range(20):
            assert data[i].shape == (3, 64, 64)
            assert data[i].dtype == torch.uint8

    def test_large_images_are_drawn_more_often(self):
        cache = memory_cache((40, 40), (120, 120))
        data = CropDataset(cache, [0, 1], 32, 400, seed=0, augment=False)
        share = sum(int(data[i][2, 0, 0]) for i in range(400)) / 400
        assert share == pytest.approx(0.75, abs=0.07)  # As the roots of the areas, 40 to 120.


class TestFolder:
    def folder(self, photos, cache, **changes):
        data = ImageFolder(
            str(photos), str(cache), **{"crop": 32, "batch_size": 2, "steps": 5, "workers": 0, **changes}
        )
        data.prepare_data()
        data.setup("fit")
        return data

    @pytest.mark.parametrize("holdout", [2, 3, 20])
    def test_validation_images_are_held_out(self, photos, cache, holdout):
        data = self.folder(photos, cache, holdout=holdout)
        assert set(data.training_images) & set(data.validation_images) == set()
        assert set(data.training_images) | set(data.validation_images) == {0, 1, 2}
        assert data.validation_images

    def test_a_single_image_serves_both(self, tmp_path):
        save(tmp_path / "in", "a.png")
        data = self.folder(tmp_path / "in", tmp_path / "out")
        assert data.training_images == data.validation_images == [0]

    def test_batches(self, photos, cache):
        batches = list(self.folder(photos, cache).train_dataloader())
        assert len(batches) == 5
        assert {(b.shape, b.dtype) for b in batches} == {((2, 3, 32, 32), torch.uint8)}

    def test_validation_crops_are_always_the_same(self, photos, cache):
        one, two = (
            torch.cat(list(self.folder(photos, cache, seed=s, validation_crops=5).val_dataloader())) for s in (0, 1)
        )
        assert len(one) == 5
        assert torch.equal(one, two)

    def test_a_resumed_run_goes_on_where_it_stopped(self, photos, cache):
        data = self.folder(photos, cache)
        whole = list(data.train_dataloader())
        data.trainer = SimpleNamespace(global_step=3, world_size=1, global_rank=0)
        rest = list(data.train_dataloader())
        assert len(rest) == 2
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[3:], strict=True))

    def test_several_processes_share_the_crops(self, photos, cache):
        data = self.folder(photos, cache)
        data.trainer = SimpleNamespace(global_step=3, world_size=4, global_rank=1)
        loader = data.train_dataloader()
        assert list(loader.sampler) == list(range(3 * 2 * 4 + 1, 5 * 2 * 4, 4))
        assert len(list(loader)) == 2

    def test_loader_processes_give_the_same_crops(self, photos, cache):
        alone, beside = (list(self.folder(photos, cache, workers=w).train_dataloader()) for w in (0, 1))
        assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))
