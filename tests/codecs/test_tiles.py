import numpy as np
import pytest
import torch
from models.tiny import TINY, smooth_image, tiny_model

from triode.codecs.tiles import DecodedTile, analyse, check_tiles, decoding_memory, latent_size, surround, synthesise
from triode.container import ImageHead, Layout, tile_grid
from triode.errors import UnsupportedError
from triode.models.image.image_light import ImageLight, ImageLightConfig
from triode.models.registry import create_model

WIDE = {"hyper": 8, "fine": 8, "coarse": 8, "context": 8, "features": 12, "parameters": 8}
DEPTHS = [TINY, ImageLightConfig(latent=16, **WIDE), ImageLightConfig(16, encoder_fine=2, decoder_coarse=1, **WIDE)]
TILE_LOG2 = 7
SIZES = [(130, 300), (128, 256), (129, 129), (257, 60), (60, 257), (384, 140)]


@pytest.fixture(scope="module", params=DEPTHS, ids=["tiny", "default depths", "uneven depths"])
def model(request):
    return tiny_model(config=request.param)


@pytest.fixture(scope="module", params=DEPTHS, ids=["tiny", "default depths", "uneven depths"])
def strong(request):
    """A model in which what comes from far away still weighs."""
    return tiny_model(config=request.param, noise=0.7)


def literature(name):
    torch.manual_seed(0)
    widths = {"groups": (4, 4)} if name == "elic2022" else {}
    return create_model(name, N=8, M=8, **widths).eval()


OTHERS = ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "elic2022"]


def grid_of(height, width):
    return tile_grid(ImageHead(width, height, tile_log2=TILE_LOG2))


def whole_latent(model, image, q):
    head = ImageHead(image.shape[1], image.shape[0])
    return analyse(model, image, tile_grid(head)[0], q)


def cut(y, model, tile):
    rows, columns = latent_size(model, tile)
    top, left = tile.y // model.stride, tile.x // model.stride
    return y[:, :, top : top + rows, left : left + columns]


def check_analysis(model, height, width):
    image, q = smooth_image(height, width), torch.tensor([20])
    whole = whole_latent(model, image, q)
    for tile in grid_of(height, width):
        y = analyse(model, image, tile, q)
        assert y.shape[2:] == latent_size(model, tile)
        assert torch.allclose(y, cut(whole, model, tile), atol=1e-5), tile


def check_synthesis(model, height, width):
    grid = grid_of(height, width)
    rows, columns = (-(-n // model.multiple) * model.multiple // model.stride for n in (height, width))
    channels = model.config.latent if isinstance(model, ImageLight) else model.config.M
    whole = torch.randn(1, channels, rows, columns, generator=torch.Generator().manual_seed(1)) * 0.5
    tiles = {i: DecodedTile(cut(whole, model, tile), 20) for i, tile in enumerate(grid)}
    with torch.inference_mode():
        pixels = model.synthesis(whole, torch.tensor([20]))[0].permute(1, 2, 0)
    expected = pixels.mul(255).clamp(0, 255).numpy()
    for i, tile in enumerate(grid):
        part = synthesise(model, tiles, i, grid, 3)
        assert part.shape == (tile.height, tile.width, 3)
        area = expected[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        # The nearest integer, or where the float is nearly half way, the other neighbour.
        assert np.abs(part - area).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_latents_of_tiles_are_those_of_the_whole_image(model, height, width):
    check_analysis(model, height, width)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_of_tiles_are_those_of_the_whole_image(model, height, width):
    check_synthesis(model, height, width)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("height", "width"), [(130, 300), (257, 60)])
def test_models_of_the_literature_are_tiled_alike(name, height, width):
    model = literature(name)
    check_analysis(model, height, width)
    check_synthesis(model, height, width)


def test_analysis_halo_is_how_far_the_analysis_reaches(strong):
    halo, size = strong.analysis_halo, 2 * strong.analysis_halo + 32
    tile = slice(halo, size - halo)
    inside = slice(halo // 16, (size - halo) // 16)
    x, q = torch.rand(1, 3, size, size), torch.tensor([20])

    def changed(margin):
        """Whether the middle's latent sees a change of everything beyond a margin."""
        other = torch.rand_like(x)
        keep = slice(tile.start - margin, tile.stop + margin)
        other[:, :, keep, keep] = x[:, :, keep, keep]
        difference = strong.analysis(x, q) - strong.analysis(other, q)
        return float(difference[:, :, inside, inside].abs().max()) > 1e-6

    with torch.inference_mode():
        assert halo % strong.stride == 0
        assert not changed(halo)
        assert changed(halo - strong.stride)


def test_synthesis_halo_is_how_far_the_synthesis_reaches(strong):
    halo = strong.synthesis_halo
    y, q = torch.randn(1, 16, 2 * halo + 2, 2 * halo + 2), torch.tensor([20])
    middle = slice(halo * 16, halo * 16 + 32)

    def changed(margin):
        other = torch.randn_like(y)
        keep = slice(halo - margin, halo + 2 + margin)
        other[:, :, keep, keep] = y[:, :, keep, keep]
        difference = strong.synthesis(y, q) - strong.synthesis(other, q)
        return float(difference[:, :, middle, middle].abs().max()) > 1e-6

    with torch.inference_mode():
        assert not changed(halo)
        assert changed(halo - 1)


def test_grey_is_analysed_as_rgb_and_synthesised_as_the_mean(model):
    grey, q = smooth_image(50, 70, 1), torch.tensor([5])
    tile = tile_grid(ImageHead(70, 50))[0]
    y = analyse(model, grey, tile, q)
    assert torch.equal(y, analyse(model, np.repeat(grey, 3, 2), tile, q))
    grid = tile_grid(ImageHead(70, 50, Layout.GREY))
    rgb, one = (synthesise(model, {0: DecodedTile(y, 5)}, 0, grid, c) for c in (3, 1))
    assert one.shape == (50, 70, 1)
    assert np.abs(one[..., 0] - rgb.mean(2)).max() <= 1


def test_surround_takes_the_neighbours_nearest_elements():
    grid = tile_grid(ImageHead(300, 300, tile_log2=7))  # 3 x 3 tiles, the last ones 44 pixels wide
    sizes = [8, 8, 3]
    whole = torch.arange(19.0 * 19).reshape(1, 1, 19, 19)
    rows = whole.split(sizes, 2)
    tiles = dict(enumerate(DecodedTile(cell, 0) for row in rows for cell in row.split(sizes, 3)))
    joint, top, left = surround(tiles, 4, grid, 2)
    assert (top, left) == (2, 2)
    assert torch.equal(joint, whole[:, :, 6:18, 6:18])
    joint, top, left = surround(tiles, 0, grid, 5)
    assert (top, left) == (0, 0)
    assert torch.equal(joint, whole[:, :, :13, :13])
    joint, top, left = surround(tiles, 4, grid, 5)
    assert torch.equal(joint, whole[:, :, 3:19, 3:19])
    joint, top, left = surround(tiles, 8, grid, 5)
    assert (top, left) == (5, 5)
    assert torch.equal(joint, whole[:, :, 11:, 11:])
    assert torch.equal(surround(tiles, 5, grid, 0)[0], tiles[5].latent)


def test_tiles_must_suit_the_model():
    model = tiny_model(config=DEPTHS[1])
    assert model.synthesis_halo * model.stride == 64
    check_tiles(model, ImageHead(500, 500, tile_log2=7))
    check_tiles(model, ImageHead(500, 500, tile_log2=6))
    check_tiles(model, ImageHead(5, 5, tile_log2=5))  # One tile.
    with pytest.raises(UnsupportedError, match="tiles of 32 pixels; its model needs 64"):
        check_tiles(model, ImageHead(500, 500, tile_log2=5))
    with pytest.raises(UnsupportedError, match="needs 64"):
        check_tiles(literature("mbt2018-mean"), ImageHead(500, 500, tile_log2=5))


def test_memory_grows_with_the_width_but_not_with_the_height_of_tiled_images():
    model = tiny_model()

    def networks(width, height, tile=7):
        return decoding_memory(model, ImageHead(width, height, tile_log2=tile)) - 3 * width * height

    assert networks(1000, 1000) == networks(1000, 100_000)
    assert networks(1000, 1000) < networks(2000, 1000)
    assert networks(1000, 1000, None) > networks(1000, 1000)
    assert networks(1000, 10_000, None) > 9 * networks(1000, 1000, None)
    # An image one pixel high is padded to the model's stride.
    assert networks(1_000_000, 1) >= networks(1_000_000, 16)
    rgba = decoding_memory(model, ImageHead(1000, 1000, alpha=True))
    assert rgba == decoding_memory(model, ImageHead(1000, 1000)) + 5 * 10**6
