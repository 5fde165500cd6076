import io
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models.tiny import smooth_image

from triode.codecs import image as module
from triode.codecs.image import ImageCodec, ImageInfo, verify
from triode.codecs.search import point_to_quality, quality_to_point
from triode.codecs.tiles import analyse
from triode.container import (
    ContainerReader,
    ContainerWriter,
    DecodeLimits,
    Head,
    ImageHead,
    MetadataKind,
    Unit,
    tile_grid,
)
from triode.entropy.coder import CountingWriter, RangeWriter
from triode.errors import (
    BitstreamError,
    EntropyMismatchError,
    LimitExceededError,
    ModelMismatchError,
    UnsupportedError,
)
from triode.media import Picture
from triode.models.weights import load_weights


def picture(height=50, width=70, channels=3, seed=0, **metadata):
    return Picture(smooth_image(height, width, channels, seed), **metadata)


def psnr(a, b):
    return -10 * np.log10(np.square(a.astype(float) - b).mean() / 255**2)


def head_of(data):
    return ContainerReader(io.BytesIO(data)).head


def rebuild(data, head=None, unit=lambda u: u, alpha=None):
    """Write a file again with parts changed; every checksum of the container is right."""
    reader = ContainerReader(io.BytesIO(data))
    out = io.BytesIO()
    with ContainerWriter(out, head or reader.head) as writer:
        for kind in MetadataKind:
            if (block := reader.metadata.get(kind)) is not None:
                writer.metadata(kind, block)
        if (plane := alpha or reader.alpha) is not None:
            writer.alpha(plane)
        for u in reader.units():
            writer.unit(unit(u))
    return out.getvalue()


def changed_head(data, **fields):
    head = head_of(data)
    values = {"model": head.model, "entropy_digest": head.entropy_digest, "synthesis_digest": head.synthesis_digest}
    return Head(**{**values, "body": head.body, **fields})


class Pipe(io.RawIOBase):
    """A source that cannot seek and gives few bytes at a time."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def seekable(self):
        return False

    def read(self, size=-1):
        return self._data.read(min(size, 7) if size >= 0 else -1)


class TestRoundTrip:
    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(1, 50), st.integers(1, 70), st.integers(1, 4), st.integers(0, 100), st.integers(0, 9), st.booleans()
    )
    def test_any_shape(self, codec, height, width, channels, quality, seed, noise):
        pixels = smooth_image(height, width, channels, seed)
        if noise:
            pixels = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
        encoded = codec.encode(Picture(pixels), quality=quality)
        decoded = codec.decode(encoded.data)
        assert decoded.pixels.shape == pixels.shape
        assert decoded.pixels.dtype == np.uint8
        assert decoded.icc is decoded.exif is decoded.xmp is None
        if channels in (2, 4):
            assert np.array_equal(decoded.pixels[..., -1], pixels[..., -1])
        assert codec.encode(Picture(pixels), quality=quality).data == encoded.data
        assert np.array_equal(codec.decode(encoded.data).pixels, decoded.pixels)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_reconstruction_resembles_the_picture(self, codec, channels):
        original = picture(100, 130, channels)
        decoded = codec.decode(codec.encode(original, quality=100).data)
        assert psnr(decoded.pixels, original.pixels) > 28

    @settings(max_examples=20, deadline=None)
    @given(*[st.one_of(st.none(), st.binary(min_size=1, max_size=100))] * 3)
    def test_metadata_is_kept(self, codec, icc, exif, xmp):
        decoded = codec.decode(codec.encode(picture(3, 4, icc=icc, exif=exif, xmp=xmp)).data)
        assert (decoded.icc, decoded.exif, decoded.xmp) == (icc, exif, xmp)

    def test_read_only_and_strided_pixels(self, codec):
        pixels = np.asfortranarray(smooth_image(60, 80))[::2, ::-1]
        pixels.flags.writeable = False
        encoded = codec.encode(Picture(pixels))
        assert encoded.data == codec.encode(Picture(np.ascontiguousarray(pixels))).data
        assert codec.decode(encoded.data).pixels.flags.writeable

    def test_file_size_is_the_ideal_code_length(self, codec, weights):
        original = picture(200, 300)
        encoded = codec.encode(original, quality=60)
        model = load_weights(weights.name).model
        q, tile = torch.tensor([quality_to_point(60)]), tile_grid(ImageHead(300, 200))[0]
        counter = CountingWriter()
        model.encode(analyse(model, original.pixels, tile, q), q, counter)
        assert abs(8 * encoded.payload_bytes - counter.bits) < 0.01 * counter.bits + 16
        assert len(encoded.data) - encoded.payload_bytes <= 64

    def test_results_are_the_same_under_autocast(self, codec):
        encoded = codec.encode(picture())
        plain = codec.decode(encoded.data)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            codec.verify(encoded.data)
            wide = codec.decode(encoded.data)
        assert np.abs(plain.pixels.astype(int) - wide.pixels).max() <= 4


class TestEncoded:
    def test_fields(self, codec, weights):
        original = picture(50, 70, 4, icc=b"profile")
        encoded = codec.encode(original, quality=33)
        info = codec.info(encoded.data)
        assert (encoded.width, encoded.height) == (info.width, info.height) == (70, 50)
        assert encoded.model == info.model == weights.name
        assert encoded.rate_point == quality_to_point(33)
        assert encoded.quality == point_to_quality(encoded.rate_point)
        assert encoded.payload_bytes == info.payload_bytes
        assert encoded.psnr is None

    def test_quality_50_is_the_default(self, codec):
        assert codec.encode(picture()) == codec.encode(picture(), quality=50)

    def test_every_rate_point_has_a_quality_that_leads_to_it(self):
        assert [quality_to_point(point_to_quality(p)) for p in range(64)] == list(range(64))
        assert [quality_to_point(q) for q in (0, 100)] == [0, 63]
        points = [quality_to_point(q / 10) for q in range(1001)]
        assert points == sorted(points)

    @pytest.mark.parametrize("quality", [-1, 100.5, float("nan"), float("inf")])
    def test_quality_out_of_range(self, codec, quality):
        with pytest.raises(ValueError, match=r"0\.\.100"):
            codec.encode(picture(), quality=quality)

    @pytest.mark.parametrize("tile_log2", [5, 6, 17, 0, -1])
    def test_tile_side_out_of_range(self, tile_log2):
        with pytest.raises(ValueError, match=r"7\.\.16"):
            ImageCodec(tile_log2=tile_log2)


class TestTargets:
    @pytest.mark.parametrize("size", [300, 400, 700, 900, 10_000])
    def test_size_is_never_exceeded(self, codec, size):
        found = codec.encode(picture(100, 130), size=size)
        assert len(found.data) <= size
        if found.rate_point < 63:
            above = codec.encode(picture(100, 130), quality=point_to_quality(found.rate_point + 1))
            assert len(above.data) > size

    def test_bpp_counts_the_whole_file(self, codec):
        original = picture(100, 130, icc=bytes(100))
        found = codec.encode(original, bpp=0.4)
        assert 8 * len(found.data) / (100 * 130) <= 0.4
        assert found == codec.encode(original, size=int(0.4 * 100 * 130 / 8))

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("share", [0.3, 0.8])
    def test_psnr_is_reached_and_is_what_decoding_gives(self, codec, channels, share):
        original = picture(150, 130, channels)
        colour = original.pixels[..., : 1 if channels < 3 else 3]
        tiled = ImageCodec(codec._model, tile_log2=7)
        ends = [tiled.decode(tiled.encode(original, quality=q).data).pixels for q in (0, 100)]
        low, high = (psnr(p[..., : colour.shape[2]], colour) for p in ends)
        target = low + share * (high - low)
        found = tiled.encode(original, psnr=target)
        decoded = tiled.decode(found.data).pixels[..., : colour.shape[2]]
        assert found.psnr >= target
        assert found.psnr == pytest.approx(psnr(decoded, colour), abs=1e-6)

    def test_lossless_psnr_is_finite(self, codec):
        flat = Picture(np.full((20, 20, 3), 128, dtype=np.uint8))
        assert codec.encode(flat, psnr=20).psnr < 200

    @pytest.mark.parametrize("target", [{"size": 60}, {"bpp": 0.001}, {"psnr": 99}, {"size": 1}])
    def test_unreachable_targets(self, codec, target):
        with pytest.raises(UnsupportedError, match="cannot be met"):
            codec.encode(picture(), **target)

    @pytest.mark.parametrize("name", ["bpp", "size", "psnr"])
    @pytest.mark.parametrize("value", [0, -5, float("nan"), float("inf")])
    def test_targets_out_of_range(self, codec, name, value):
        with pytest.raises(ValueError, match=f"`{name}` must be positive"):
            codec.encode(picture(), **{name: value})

    def test_one_target_at_a_time(self, codec):
        with pytest.raises(ValueError, match="at most one"):
            codec.encode(picture(), quality=0, bpp=1)


class TestTiles:
    @pytest.mark.parametrize(("height", "width"), [(129, 130), (300, 140), (100, 300)])
    def test_seams_do_not_show(self, codec, height, width):
        """Apart from the means that each unit codes on its own, tiles decode to what the whole image does."""
        original = picture(height, width)
        tiled = ImageCodec(codec._model, tile_log2=7)
        whole, parts = (c.decode(c.encode(original, quality=100).data).pixels for c in (codec, tiled))
        assert abs(psnr(whole, original.pixels) - psnr(parts, original.pixels)) < 0.3
        assert psnr(parts, whole) > psnr(whole, original.pixels)

    def test_rate_points_may_differ_between_tiles(self, codec, weights):
        original = picture(200, 300)
        grid = tile_grid(ImageHead(300, 200, tile_log2=7))
        points = [3, 60, 20, 31, 0, 63]
        model, info = load_weights(weights.name).model, weights
        digests = [bytes.fromhex(d)[:4] for d in (info.entropy_digest, info.synthesis_digest)]
        out = io.BytesIO()
        with ContainerWriter(out, Head(info.name, *digests, ImageHead(300, 200, tile_log2=7))) as writer:
            for index, (tile, point) in enumerate(zip(grid, points, strict=True)):
                coder, q = RangeWriter(), torch.tensor([point])
                model.encode(analyse(model, original.pixels, tile, q), q, coder)
                writer.unit(Unit(index, point, coder.crc, coder.getvalue()))
        data = out.getvalue()
        decoded = codec.decode(data).pixels
        assert codec.info(data).rate_points == tuple(sorted(points))
        # Away from its neighbours, each tile is what a file of one rate point gives.
        for index in (1, 4):
            alone = ImageCodec(codec._model, tile_log2=7).encode(original, quality=point_to_quality(points[index]))
            tile = grid[index]
            reach = np.s_[tile.y + 32 : tile.y + tile.height - 32, tile.x + 32 : tile.x + tile.width - 32]
            difference = decoded[reach].astype(int) - codec.decode(alone.data).pixels[reach]
            assert np.abs(difference).max() <= 1
        assert psnr(decoded, original.pixels) > 25

    def test_tiles_that_do_not_suit_the_model_are_refused(self, codec, tmp_path, monkeypatch):
        data = ImageCodec(codec._model, tile_log2=7).encode(picture(130, 140)).data
        monkeypatch.setattr(load_weights(codec._model).model, "synthesis_halo", 9)
        with pytest.raises(UnsupportedError, match="tiles of 128"):
            codec.decode(data)

    def test_progress_rises_to_one(self, codec):
        tiled = ImageCodec(codec._model, tile_log2=7)
        original = picture(300, 300)
        for call in (
            lambda p: tiled.encode(original, progress=p),
            lambda p: tiled.encode(original, size=3000, progress=p),
            lambda p: tiled.encode(original, psnr=25, progress=p),
            lambda p: tiled.decode(tiled.encode(original).data, progress=p),
            lambda p: codec.decode(codec.encode(original).data, progress=p),
        ):
            shares = []
            call(shares.append)
            assert shares == sorted(shares)
            assert shares[-1] == 1.0
            assert shares[0] > 0


class TestSources:
    def test_kinds_of_sources(self, codec, tmp_path):
        data = ImageCodec(codec._model, tile_log2=7).encode(picture(140, 150, 4, exif=b"II*\0")).data
        path = tmp_path / "x.tri"
        path.write_bytes(data)
        expected, info = codec.decode(data), codec.info(data)
        with path.open("rb") as file:
            sources = [bytearray(data), memoryview(data), io.BytesIO(data), Pipe(data), file]
            for source in sources:
                again = codec.decode(source)
                assert np.array_equal(again.pixels, expected.pixels)
                assert again.exif == b"II*\0"
        for ask in (codec.info, codec.verify):
            with path.open("rb") as file:
                for source in [bytearray(data), memoryview(data), io.BytesIO(data), Pipe(data), file]:
                    assert ask(source) == info

    def test_a_file_may_begin_where_the_source_stands(self, codec):
        data = codec.encode(picture()).data
        source = io.BytesIO(b"before" + data)
        source.seek(6)
        assert codec.verify(source) == codec.info(data)

    def test_an_endless_pipe_that_is_no_file_is_left_alone(self, codec):
        class Endless(Pipe):
            given = 0

            def read(self, size=-1):
                assert 0 <= size < 1 << 20
                self.given += size
                return b"x" * size

        for ask in (codec.decode, codec.info, codec.verify):
            source = Endless(b"")
            with pytest.raises(BitstreamError):
                ask(source)
            assert source.given < 1000


class TestInfo:
    def test_says_what_is_in_the_file(self, codec, weights):
        encoded = codec.encode(picture(50, 70, 2, icc=b"profile", xmp=b"<x/>"), quality=20)
        info = codec.info(encoded.data)
        assert isinstance(info, ImageInfo)
        assert (info.media, info.channels, info.has_alpha, info.tiles) == ("image", 1, True, 1)
        assert info.rate_points == (encoded.rate_point,)
        assert info.bytes == len(encoded.data)
        assert info.metadata == (("icc", 7), ("xmp", 4))
        assert weights.entropy_digest.startswith(info.entropy_digest)
        assert weights.synthesis_digest.startswith(info.synthesis_digest)
        assert [chunk.type for chunk in info.structure] == ["HEAD", "iccp", "xmp_", "ALPH", "DATA"]

    def test_needs_no_model(self, codec, monkeypatch):
        data = codec.encode(picture()).data
        data = rebuild(data, changed_head(data, model="unheard-of.v9"))
        monkeypatch.setattr(module, "load_weights", lambda name: pytest.fail("a model was loaded"))
        assert codec.info(data).model == "unheard-of.v9"

    def test_verify_checks_alpha_and_symbols(self, codec):
        data = codec.encode(picture(50, 70, 4)).data
        assert codec.verify(data) == verify(data) == codec.info(data)
        plane = b"\0" + zlib.compress(bytes(50 * 70 - 1))
        with pytest.raises(BitstreamError, match="alpha"):
            codec.verify(rebuild(data, alpha=plane))
        with pytest.raises(BitstreamError, match="alpha"):
            codec.decode(rebuild(data, alpha=plane))
        with pytest.raises(EntropyMismatchError):
            codec.verify(rebuild(data, unit=lambda u: Unit(u.index, u.rate_point, u.symbols_crc32 ^ 1, u.payload)))


class TestModels:
    def test_another_entropy_digest(self, codec):
        data = codec.encode(picture()).data
        other = rebuild(data, changed_head(data, entropy_digest=b"abcd"))
        for ask in (codec.decode, codec.verify):
            with pytest.raises(ModelMismatchError, match="61626364"):
                ask(other)

    def test_another_synthesis_digest_warns(self, codec):
        data = codec.encode(picture()).data
        other = rebuild(data, changed_head(data, synthesis_digest=b"abcd"))
        with pytest.warns(UserWarning, match="other pixels"):
            decoded = codec.decode(other)
        assert np.array_equal(decoded.pixels, codec.decode(data).pixels)

    def test_model_that_is_not_here(self, codec):
        data = codec.encode(picture()).data
        with pytest.raises(ModelMismatchError, match="unheard-of"):
            ImageCodec().decode(rebuild(data, changed_head(data, model="unheard-of.v9")))
        with pytest.raises(ModelMismatchError, match="unheard-of"):
            ImageCodec("unheard-of.v9").encode(picture())

    def test_the_stream_names_the_model(self, codec):
        data = codec.encode(picture()).data
        assert np.array_equal(ImageCodec().decode(data).pixels, codec.decode(data).pixels)

    def test_a_name_in_a_stream_never_becomes_a_path(self, codec, weights, tmp_path, monkeypatch):
        data = codec.encode(picture()).data
        (tmp_path / "evil.safetensors").write_bytes(weights.path.read_bytes())
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelMismatchError, match="no name of weights"):
            ImageCodec().decode(rebuild(data, changed_head(data, model="evil.safetensors")))

    def test_a_path_given_by_the_user_is_taken(self, codec, weights):
        by_path = ImageCodec(str(weights.path))
        encoded = by_path.encode(picture())
        assert encoded.data == codec.encode(picture()).data
        assert np.array_equal(by_path.decode(encoded.data).pixels, codec.decode(encoded.data).pixels)

    @pytest.mark.parametrize("depth", [1, 7, 9, 16])
    def test_other_bit_depths_are_refused(self, codec, depth):
        data = codec.encode(picture()).data
        with pytest.raises(UnsupportedError, match=f"{depth} bits"):
            codec.decode(rebuild(data, changed_head(data, body=ImageHead(70, 50, bit_depth=depth))))


class TestLimits:
    def test_pixels(self, codec):
        data = codec.encode(picture(50, 70)).data
        for ask in ("decode", "info", "verify"):
            getattr(ImageCodec(limits=DecodeLimits(max_pixels=3500)), ask)(data)
            with pytest.raises(LimitExceededError, match="max_pixels"):
                getattr(ImageCodec(limits=DecodeLimits(max_pixels=3499)), ask)(data)

    def test_memory_is_checked_before_anything_is_decoded(self, codec, weights, monkeypatch):
        data = ImageCodec(codec._model, tile_log2=7).encode(picture(300, 300)).data
        ImageCodec(limits=DecodeLimits(max_memory_bytes=10**8)).decode(data)
        model = load_weights(weights.name).model
        monkeypatch.setattr(type(model), "decode", lambda *_: pytest.fail("a unit was decoded"))
        for ask in ("decode", "verify"):
            with pytest.raises(LimitExceededError, match="max_memory_bytes"):
                getattr(ImageCodec(limits=DecodeLimits(max_memory_bytes=10**6)), ask)(data)

    def test_a_large_image_in_one_unit_counts_whole(self, codec, weights):
        digests = [bytes.fromhex(d)[:4] for d in (weights.entropy_digest, weights.synthesis_digest)]
        out = io.BytesIO()
        with ContainerWriter(out, Head(weights.name, *digests, ImageHead(13_000, 13_000))) as writer:
            writer.unit(Unit(0, 5, 0, b""))
        with pytest.raises(LimitExceededError, match="max_memory_bytes"):
            ImageCodec(limits=DecodeLimits(max_memory_bytes=4 << 30)).decode(out.getvalue())
