import io
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literature import make_plausible
from models.test_base import Mirror
from models.tiny import smooth_image

from triode.codecs import refine
from triode.codecs.image import ImageCodec
from triode.codecs.refine import Refiner, Schedule, encode_refined
from triode.codecs.tiles import DecodedTile, analyse, latent_size, synthesise
from triode.container import ContainerReader, ImageHead, Tile, tile_grid
from triode.entropy.coder import RangeReader, RangeWriter
from triode.errors import UnsupportedError
from triode.media import Picture
from triode.models.registry import create_model
from triode.models.weights import load_weights

POINT = 40


@pytest.fixture(scope="module")
def model(weights):
    return load_weights(weights.name).model


@pytest.fixture
def quick(monkeypatch):
    """Three passes in place of twenty."""
    monkeypatch.setattr(refine, "SCHEDULES", {"low": Schedule(2, (0.5, 0.3)), "high": Schedule(3, (0.5, 0.3))})


def price_of(model, point, channels=3):
    return float(model.rate_lambda(torch.tensor([point]))) * refine._LAMBDA * 255**2 / channels


def decoded(model, data, colour, tile, point):
    """Return the latent and pixels that a tile's payload gives, without its neighbours."""
    q = torch.tensor([point])
    with torch.inference_mode():
        y = model.dequantise(model.decode(latent_size(model, tile), q, RangeReader(data)), q)
        grid = tile_grid(ImageHead(tile.width, tile.height))
        return y, synthesise(model, {0: DecodedTile(y, point)}, 0, grid, colour.shape[2])


class TestPrice:
    @pytest.mark.parametrize(("height", "width"), [(96, 160), (33, 50), (1, 1)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_that_of_what_is_decoded(self, model, height, width, channels):
        colour = smooth_image(height, width, channels)
        tile = Tile(0, 0, width, height)
        refiner, writer = Refiner(model, colour, tile, POINT), RangeWriter()
        found = refiner.error(model.encode(refiner.latent, torch.tensor([POINT]), writer))
        _, pixels = decoded(model, writer.getvalue(), colour, tile, POINT)
        errors = np.square(pixels / 255 - colour / 255).sum()
        # Decoded pixels are rounded, which is an error of 1/12 a sample more.
        expected = price_of(model, POINT, channels) * (errors - colour.size / 12 / 255**2)
        assert found == pytest.approx(expected, rel=0.02, abs=1)

    def test_latent_is_the_analysis_own(self, model):
        colour = smooth_image(300, 400)
        for tile in tile_grid(ImageHead(400, 300, tile_log2=7)):
            latent = Refiner(model, colour, tile, POINT).latent
            assert torch.allclose(latent, analyse(model, colour, tile, torch.tensor([POINT])), atol=1e-5)

    def test_blocks_change_nothing(self, model, monkeypatch):
        colour, tile = smooth_image(300, 280), Tile(128, 0, 128, 128)
        found = []
        for block in (1024, 48):
            monkeypatch.setattr(refine, "_BLOCK", block)
            synthesis = Refiner(model, colour, tile, POINT).synthesis
            y = synthesis.around[synthesis.own]
            assert (len(synthesis.blocks) == 1) == (block == 1024)
            found.append(synthesis.differentiate(y, None))
        assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
        assert torch.allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-4 * float(found[0][1].abs().max()))

    def test_slope_is_that_of_the_price(self, model):
        refiner = Refiner(model, smooth_image(100, 140), Tile(0, 0, 128, 100), POINT)
        y = refiner.synthesis.around[refiner.synthesis.own]
        price, slope, probe = refiner.synthesis.differentiate(y, None)
        assert price == pytest.approx(refiner.synthesis(y), rel=1e-6)
        assert not probe.any()
        direction = slope / slope.norm() * y.norm() * 0.01
        change = refiner.synthesis(y + direction) - refiner.synthesis(y - direction)
        assert float((slope * direction).sum()) == pytest.approx(change / 2, rel=0.05)

    def test_probe_measures_the_curvature(self, model):
        """Averaged over positions and signs, squared probes are half the second derivative along each channel."""
        refiner = Refiner(model, smooth_image(128, 128), Tile(0, 0, 128, 128), POINT)
        synthesis = refiner.synthesis
        y, signs = synthesis.around, torch.Generator().manual_seed(0)
        probes = [synthesis.differentiate(y, signs)[2].square().mean((0, 2, 3)) for _ in range(8)]
        measured = torch.stack(probes).mean(0)
        middle, e = synthesis(y), 0.02
        for channel in (0, 3, 7):
            step = torch.zeros_like(y)
            step[0, channel, 4, 4] = e
            second = (synthesis(y + step) + synthesis(y - step) - 2 * middle) / e**2
            assert float(measured[channel]) == pytest.approx(second / 2, rel=0.6)

    def test_pixels_count_as_far_as_the_tile_reaches(self, model):
        """A change of the tile's latent costs what it costs in the whole image, seams included."""
        colour = smooth_image(256, 384)
        grid = tile_grid(ImageHead(384, 256, tile_log2=7))
        q = torch.tensor([POINT])
        latents = {i: model.dequantise(model.scale(analyse(model, colour, t, q), q), q) for i, t in enumerate(grid)}
        refiner = Refiner(model, colour, grid[1], POINT)
        moved = latents[1] + 0.3 * torch.randn(latents[1].shape, generator=torch.Generator().manual_seed(0))

        def total(own):
            y = {**latents, 1: own}
            whole = torch.cat([torch.cat([y[3 * r + c] for c in range(3)], 3) for r in range(2)], 2)
            with torch.inference_mode():
                x = model.synthesis(whole, q).clamp(0, 1)[0].permute(1, 2, 0).double().numpy()
            return price_of(model, POINT) * np.square(x - colour / 255).sum()

        found = refiner.synthesis(moved) - refiner.synthesis(latents[1])
        assert found == pytest.approx(total(moved) - total(latents[1]), rel=1e-3)


class TestSearch:
    @pytest.mark.parametrize(("effort", "point"), [("low", 5), ("low", 55), ("high", 30)])
    def test_cost_falls(self, model, effort, point):
        colour, tile = smooth_image(100, 120), Tile(0, 0, 120, 100)
        refiner = Refiner(model, colour, tile, point)
        plain = RangeWriter()
        before = refiner.error(model.encode(refiner.latent, refiner.q, plain)) + 8 * len(plain.getvalue())
        refined = RangeWriter()
        y_hat = model.entropy.encode_values(refiner.search(effort), refiner.q, refined, refiner.size)
        assert refiner.error(y_hat) + 8 * len(refined.getvalue()) < 0.99 * before
        assert encode_refined(model, colour, tile, point, effort)[1].getvalue() == refined.getvalue()

    def test_a_refined_latent_that_costs_more_is_dropped(self, model, monkeypatch):
        colour, tile = smooth_image(100, 90), Tile(0, 0, 90, 100)
        refiner, plain = Refiner(model, colour, tile, POINT), RangeWriter()
        model.encode(refiner.latent, refiner.q, plain)
        for worse in (0.0, float("nan")):
            bad = lambda self, *_, worse=worse: tuple(  # noqa: E731
                t * worse for t in self.entropy.targets(self.latent, self.q, self.latent)
            )
            monkeypatch.setattr(Refiner, "search", bad)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy's, of casting NaN
                assert encode_refined(model, colour, tile, POINT, "low")[1].getvalue() == plain.getvalue()

    def test_same_input_same_bytes(self, model, quick):
        colour, tile = smooth_image(90, 70), Tile(0, 0, 70, 90)
        _, one = encode_refined(model, colour, tile, POINT, "low")
        torch.manual_seed(5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, two = encode_refined(model, colour, tile, POINT, "low")
        assert one.getvalue() == two.getvalue()

    def test_nothing_global_changes(self, model, quick):
        state = torch.get_rng_state()
        with torch.inference_mode():
            encode_refined(model, smooth_image(40, 40), Tile(0, 0, 40, 40), POINT, "low")
            assert torch.is_inference_mode_enabled()
        assert torch.equal(torch.get_rng_state(), state)
        assert all(p.grad is None and not p.requires_grad for p in model.parameters())

    @pytest.mark.parametrize(
        ("name", "config"),
        [
            ("bmshj2018-factorized", {"N": 6, "M": 8}),
            ("mbt2018-mean", {"N": 6, "M": 8}),
            ("elic2022", {"N": 6, "M": 10, "groups": (2, 3, 5)}),
        ],
    )
    def test_models_of_the_literature(self, name, config):
        model = make_plausible(create_model(name, **config)).eval().requires_grad_(False)
        model.export()
        colour, tile = smooth_image(100, 140), Tile(0, 0, 140, 100)
        refiner, plain = Refiner(model, colour, tile, 0), RangeWriter()
        before = refiner.error(model.encode(refiner.latent, refiner.q, plain)) + 8 * len(plain.getvalue())
        latent, writer = encode_refined(model, colour, tile, 0, "low")
        y_hat = model.decode(refiner.size, refiner.q, RangeReader(writer.getvalue()))
        assert torch.equal(y_hat, latent)
        assert refiner.error(y_hat) + 8 * len(writer.getvalue()) < before

    def test_models_that_cannot(self):
        with pytest.raises(UnsupportedError, match="Mirror cannot refine"):
            Refiner(Mirror(), smooth_image(8, 8), Tile(0, 0, 8, 8), 0)


def test_schedules_go_from_start_to_end():
    passes = list(Schedule(5, (0.4, 0.1), (2.0, 0.5)))
    assert len(passes) == 5
    assert passes[0] == pytest.approx((0.4, 2.0))
    assert passes[2] == pytest.approx((0.2, 1.0))
    assert passes[-1] == pytest.approx((0.1, 0.5))
    assert list(Schedule(1, (0.4, 0.1), (2.0, 0.5))) == [(0.4, 2.0)]


class TestCodec:
    @settings(max_examples=10, deadline=None)
    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(0, 100), st.booleans())
    def test_any_shape(self, codec, height, width, channels, quality, noise):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(refine, "SCHEDULES", {"low": Schedule(2, (0.5, 0.3))})
            pixels = smooth_image(height, width, channels)
            if noise:
                pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
            encoded = codec.encode(Picture(pixels), quality=quality, effort="low")
        back = codec.decode(encoded.data)
        assert back.pixels.shape == pixels.shape
        codec.verify(encoded.data)

    def test_none_is_the_default(self, codec):
        picture = Picture(smooth_image(60, 50))
        assert codec.encode(picture) == codec.encode(picture, effort="none")

    @pytest.mark.parametrize("effort", ["", "medium", "LOW"])
    def test_unknown_efforts(self, codec, effort):
        with pytest.raises(ValueError, match="none, low, high"):
            codec.encode(Picture(smooth_image(20, 20)), effort=effort)

    def test_tiles(self, codec, quick):
        original = smooth_image(200, 300)
        tiled = ImageCodec(codec._model, tile_log2=7)
        plain, refined = (tiled.encode(Picture(original), quality=60, effort=e) for e in ("none", "high"))
        assert ContainerReader(io.BytesIO(refined.data)).head.units == 6
        shares = []
        tiled.encode(Picture(original), quality=60, effort="high", progress=shares.append)
        assert shares == sorted(shares)
        assert len(set(shares)) >= 18, "every pass of every tile is reported"
        assert shares[-1] == 1.0
        errors = [float(np.square(tiled.decode(e.data).pixels / 255 - original / 255).sum()) for e in (plain, refined)]
        price = price_of(load_weights(codec._model).model, plain.rate_point)
        assert 8 * len(refined.data) + price * errors[1] < 8 * len(plain.data) + price * errors[0]

    @pytest.mark.parametrize("target", [{"size": 900}, {"psnr": 30.0}])
    def test_targets_hold(self, codec, quick, target):
        original = Picture(smooth_image(100, 150))
        tiled = ImageCodec(codec._model, tile_log2=7)
        shares = []
        plain = tiled.encode(original, **target)
        refined = tiled.encode(original, **target, effort="low", progress=shares.append)
        if "psnr" in target:
            back = tiled.decode(refined.data).pixels
            reached = -10 * np.log10(np.square(back.astype(float) - original.pixels).mean() / 255**2)
            assert refined.psnr == pytest.approx(reached)
            assert reached >= target["psnr"]
            assert len(refined.data) <= len(plain.data)
        else:
            assert len(refined.data) <= target["size"]
            assert refined.rate_point >= plain.rate_point - 1
        assert shares == sorted(shares)
        assert shares[-1] == 1.0

    def test_unreachable_targets(self, codec, quick):
        for target in ({"size": 60}, {"psnr": 99.0}):
            with pytest.raises(UnsupportedError, match="cannot be met"):
                codec.encode(Picture(smooth_image(30, 30)), **target, effort="low")
