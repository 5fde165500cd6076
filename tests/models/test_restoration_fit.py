"""Coefficients of a filter that travel with a tile: chosen, written, read, applied."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models.tiny import TINY, smooth_image, tiny_model

from triode.codecs.image import ImageCodec
from triode.codecs.image_decoding import Decoding
from triode.codecs.tiles import DecodedTile, analyse, latent_size, synthesise
from triode.container import ContainerReader, ImageHead, tile_grid
from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.tables import fitted_tables
from triode.media import Picture
from triode.models import restoration_fit
from triode.models.image.image_light import ImageLight
from triode.models.restoration_fit import sampled_sums, write_restoration
from triode.models.weights import load_weights, save_weights

RESTORED = replace(TINY, restored=True)
NAME = "tiny-restored.v1"


def restored_model(seed: int = 0) -> ImageLight:
    """A tiny model whose decoded pictures are too sharp, so that a filter helps all of them."""
    model = tiny_model(seed, RESTORED, noise=0.9)
    assert model.restoration is not None
    model.restoration.clip.fill_(150)
    model.restoration.index.fill_(7)
    return model


@pytest.fixture(scope="module")
def model() -> ImageLight:
    made = restored_model()
    made.export()
    return made


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> ImageCodec:
    path = tmp_path_factory.mktemp("restored") / f"{NAME}.safetensors"
    save_weights(restored_model(), path, name=NAME, architecture="image-light")
    return ImageCodec(str(path), tile_log2=7)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


def units(codec: ImageCodec, data: bytes) -> list[DecodedTile]:
    assert codec._model is not None
    decoding = Decoding(load_weights(codec._model).model, ContainerReader(io.BytesIO(data)))
    return [tile for _, tile in decoding.latents()]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 40), (8, 8), (9, 12), (32, 48), (128, 128), (5, 200)])
def test_windows_lie_inside_and_are_spread(size: tuple[int, int]) -> None:
    corners, (tall, wide) = restoration_fit._windows(*size)
    assert len(set(corners)) == len(corners)
    assert (tall, wide) == tuple(min(n, 8) for n in size)
    assert all(0 <= y <= size[0] - tall and 0 <= x <= size[1] - wide for y, x in corners)
    assert len(corners) <= 32
    if min(size) >= 32:
        assert len({y for y, _ in corners}) >= 3
        assert len({x for _, x in corners}) >= 3
        assert all(sum(y == row for y, _ in corners) <= len(corners) / 2 for row, _ in corners)


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("height", "width", "channels"),
        [(64, 80, 3), (128, 128, 3), (130, 300, 3), (50, 70, 1), (1, 1, 3), (200, 9, 1)],
    )
    @pytest.mark.parametrize("quality", [10, 90])
    def test_pictures(self, codec: ImageCodec, height: int, width: int, channels: int, quality: float) -> None:
        picture = Picture(smooth_image(height, width, channels))
        data = codec.encode(picture, quality=quality).data
        assert codec.decode(data).pixels.shape == (height, width, channels)
        assert codec.verify(data).width == width

    def test_pictures_get_better(self, codec: ImageCodec, monkeypatch: pytest.MonkeyPatch) -> None:
        image = smooth_image(120, 250, seed=3)
        data = codec.encode(Picture(image), quality=70).data
        assert all(tile.coefficients is not None for tile in units(codec, data))
        monkeypatch.setattr(restoration_fit.Restoration, "solve", lambda *_: None)
        plain = codec.encode(Picture(image), quality=70).data
        assert [tile.coefficients for tile in units(codec, plain)] == [None] * 2
        assert 0 < len(data) - len(plain) < 2 * 60
        assert psnr(codec.decode(data).pixels, image) > psnr(codec.decode(plain).pixels, image) + 0.1

    def test_refined_latents_too(self, codec: ImageCodec, monkeypatch: pytest.MonkeyPatch) -> None:
        image = smooth_image(60, 90, seed=3)
        data = codec.encode(Picture(image), quality=60, effort="low").data
        monkeypatch.setattr(restoration_fit.Restoration, "solve", lambda *_: None)
        plain = codec.encode(Picture(image), quality=60, effort="low").data
        with_filter, without = units(codec, data)[0], units(codec, plain)[0]
        assert with_filter.coefficients is not None
        assert torch.equal(with_filter.latent, without.latent)
        assert psnr(codec.decode(data).pixels, image) > psnr(codec.decode(plain).pixels, image)

    def test_measured_psnr_is_that_of_the_file(self, codec: ImageCodec) -> None:
        image = smooth_image(140, 150, seed=1)
        coded = codec.encode(Picture(image), psnr=psnr(image, codec.decode(codec.encode(Picture(image)).data).pixels))
        assert coded.psnr == pytest.approx(psnr(codec.decode(coded.data).pixels, image), abs=1e-6)


def test_tiles_join_where_their_filters_are_the_same(model: ImageLight) -> None:
    grid = tile_grid(ImageHead(300, 140, tile_log2=7))
    c = np.random.default_rng(1).integers(-9, 10, 30).astype(np.int32)
    whole = torch.randn(1, 16, 9, 19, generator=torch.Generator().manual_seed(1)) * 0.5
    tiles = {}
    for i, tile in enumerate(grid):
        rows, columns = latent_size(model, tile)
        top, left = tile.y // 16, tile.x // 16
        tiles[i] = DecodedTile(whole[:, :, top : top + rows, left : left + columns], 20, c)
    one = synthesise(model, {0: DecodedTile(whole, 20, c)}, 0, tile_grid(ImageHead(300, 140)), 3)
    for i, tile in enumerate(grid):
        part = synthesise(model, tiles, i, grid, 3)
        area = one[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        assert np.abs(part.astype(int) - area).max() <= 1
        assert (part != area).mean() < 1e-3


@torch.inference_mode()
def test_sums_are_those_of_the_decoded_picture(model: ImageLight) -> None:
    """Where one window is the whole tile, nothing is sampled."""
    image, point = smooth_image(64, 100, seed=2), 40
    tile, q = tile_grid(ImageHead(100, 64))[0], torch.tensor([point])
    y_hat = model.encode(analyse(model, image, tile, q), q, RangeWriter())
    assert model.restoration is not None
    sums = sampled_sums(model, model.restoration, image, y_hat, point)
    with torch.inference_mode():
        x = model.synthesis(model.dequantise(y_hat, q), q)
    # 100 columns are padded to 112: the analysis saw the last one again.
    target = torch.from_numpy(np.pad(image, ((0, 0), (0, 12), (0, 0)), mode="edge")).permute(2, 0, 1)[None] / 255
    expected = model.restoration.sums(x, target, point, (4, 4), every=2)
    np.testing.assert_allclose(sums.products, expected.products, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sums.targets, expected.targets, rtol=1e-4, atol=1e-6)


def test_a_model_without_one_writes_nothing() -> None:
    writer = RangeWriter()
    write_restoration(tiny_model(), smooth_image(16, 16), torch.zeros(1, 16, 1, 1), 20, writer)
    assert writer.count == 0


@torch.inference_mode()
def test_what_is_written_stands_behind_the_latent(model: ImageLight) -> None:
    image, point = smooth_image(64, 64, seed=2), 40
    tile, q, writer = tile_grid(ImageHead(64, 64))[0], torch.tensor([point]), RangeWriter()
    y_hat = model.encode(analyse(model, image, tile, q), q, writer)
    before = writer.count
    write_restoration(model, image, y_hat, point, writer)
    assert writer.count - before == 31
    reader = RangeReader(writer.getvalue())
    assert torch.equal(model.decode(latent_size(model, tile), q, reader), y_hat)
    assert model.restoration is not None
    assert model.restoration.read(point, reader) is not None
    reader.check(writer.crc)


def test_weights_keep_their_own_tables_and_coefficients(tmp_path: Path) -> None:
    made = restored_model()
    made.export()
    base = made.entropy.context.tables.get()
    counts = [np.arange(int(size))[::-1].astype(np.int64) * 50 for size in base.sizes]
    made.entropy.context.fitted = fitted_tables(base, counts, 1000)
    path = tmp_path / "own.v1.safetensors"
    save_weights(made, path, name="own.v1", architecture="image-light")
    loaded = load_weights(str(path)).model
    assert isinstance(loaded, ImageLight)
    assert np.array_equal(loaded.entropy.context.tables.get().masses, made.entropy.context.fitted.masses)
    assert not np.array_equal(base.masses, made.entropy.context.fitted.masses)
    assert loaded.restoration is not None
    assert made.restoration is not None
    for name, buffer in made.restoration.named_buffers():
        assert torch.equal(loaded.restoration.get_buffer(name), buffer)
    codec, image = ImageCodec(str(path)), smooth_image(40, 50)
    assert codec.decode(codec.encode(Picture(image)).data).pixels.shape == image.shape
