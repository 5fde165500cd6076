"""Motion of blocks: its coding, its search, and what it does to planes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models.tiny import smooth_image

from triode.entropy.coder import RangeReader, RangeWriter
from triode.errors import CodecError
from triode.models.video.vectors import BLOCK, VectorCoder, relative, search, spread, warp

CODER = VectorCoder()


def fields(height, width, seed, size):
    rng = np.random.default_rng(seed)
    before = rng.integers(-size, size + 1, (2, height, width))
    return before + rng.integers(-2, 3, before.shape), before


def coded(field, before):
    writer = RangeWriter()
    CODER.encode(field, before, writer)
    return writer.getvalue()


class TestCoding:
    @given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 99), st.sampled_from([0, 1, 30, 2000]))
    @settings(max_examples=60, deadline=None)
    def test_round_trip(self, height, width, seed, size):
        field, before = fields(height, width, seed, size)
        found = CODER.decode(before, RangeReader(coded(field, before)))
        assert np.array_equal(found, field)

    def test_what_stays_costs_next_to_nothing(self):
        still = np.zeros((2, 18, 22), dtype=np.int64)
        assert len(coded(still, still)) < 12
        moving = np.tile(np.array([37, -5])[:, None, None], (1, 18, 22))
        assert len(coded(moving, moving)) < 12
        assert len(coded(moving, still)) < 16

    def test_neighbours_predict(self):
        """A slope of vectors, new in this frame, costs less than the same vectors in another order."""
        slope = np.stack(np.meshgrid(np.arange(22) * 3, np.arange(18) * 3))
        mixed = np.random.default_rng(0).permutation(slope.reshape(2, -1), axis=1).reshape(slope.shape)
        none = np.zeros_like(slope)
        assert len(coded(slope, none)) < 0.8 * len(coded(mixed, none))

    def test_bits_are_those_of_the_coder(self):
        field, before = fields(18, 22, 0, 12)
        assert CODER.bits(field, before) == pytest.approx(8 * len(coded(field, before)), abs=16)

    def test_choice_of_the_frame(self):
        """The encoder makes the better of its choices: large differences everywhere are not escapes."""
        rng = np.random.default_rng(0)
        before = np.zeros((2, 18, 22), dtype=np.int64)
        field = rng.integers(-60, 61, before.shape)
        assert CODER.bits(field, before) < 1.15 * field.size * np.log2(121)

    @given(st.binary(max_size=60))
    @settings(max_examples=60, deadline=None)
    def test_bad_bytes_give_bounded_vectors_or_an_error(self, data):
        before = np.zeros((2, 5, 6), dtype=np.int64)
        try:
            found = CODER.decode(before, RangeReader(data))
        except CodecError:
            return
        assert np.abs(found).max() <= 1 << 12


def picture(height=96, width=160, seed=0):
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.from_numpy(smooth_image(height, width, 1, seed=seed))[None, None, :, :, 0] / 255.0
    rough = torch.nn.functional.interpolate(
        torch.rand((1, 1, height // 4, width // 4), generator=generator), size=(height, width), mode="bicubic"
    )
    return smooth + 0.5 * rough


def moved(x, right, down):
    """Return what lies `right` and `down` samples on, whole ones."""
    return torch.roll(x, (-down, -right), (2, 3))


class TestWarp:
    @pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 0), (-7, 5), (16, -16)])
    def test_whole_samples(self, x, y):
        frame = picture()
        vectors = torch.tensor([4 * x, 4 * y]).view(1, 2, 1, 1).expand(1, 2, 6, 10)
        out = warp(frame, spread(relative(vectors), 96, 160))
        assert torch.allclose(out[:, :, 16:-16, 16:-16], moved(frame, x, y)[:, :, 16:-16, 16:-16], atol=1e-4)

    def test_halves_are_means(self):
        frame = picture()
        vectors = torch.tensor([2, 0]).view(1, 2, 1, 1).expand(1, 2, 6, 10)
        out = warp(frame, spread(relative(vectors), 96, 160))
        assert torch.allclose(out[..., :-1], (frame[..., :-1] + frame[..., 1:]) / 2, atol=1e-4)

    def test_each_block_has_its_own(self):
        frame, vectors = picture(), torch.zeros(1, 2, 6, 10)
        vectors[:, 0, 2, 3] = 8.0
        out = warp(frame, spread(relative(vectors), 96, 160))
        where = (slice(None), slice(None), slice(2 * BLOCK, 3 * BLOCK), slice(3 * BLOCK, 4 * BLOCK))
        assert torch.allclose(out[where], moved(frame, 2, 0)[where], atol=1e-4)
        rest = torch.ones(96, 160, dtype=torch.bool)
        rest[2 * BLOCK : 3 * BLOCK, 3 * BLOCK : 4 * BLOCK] = False
        assert torch.allclose(out[..., rest], frame[..., rest], atol=1e-4)

    def test_planes_of_other_sizes_move_alike(self):
        """Chroma and features take every second and every eighth place of the luma's flow."""
        vectors = torch.tensor([32, -16]).view(1, 2, 1, 1).expand(1, 2, 6, 10)
        flow = spread(relative(vectors), 96, 160)
        chroma = picture(48, 80)
        out = warp(chroma, flow[:, ::2, ::2])
        assert torch.allclose(out[:, :, 8:-8, 8:-8], moved(chroma, 4, -2)[:, :, 8:-8, 8:-8], atol=1e-4)
        small = picture(12, 20)
        out = warp(small, flow[:, ::8, ::8])
        expected = 0.5 * (moved(small, 1, 0) + moved(small, 1, -1))
        assert torch.allclose(out[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], atol=1e-4)


class TestSearch:
    def find(self, frame, reference, before=None, price=0.02):
        none = torch.zeros(len(frame), 2, frame.shape[2] // BLOCK, frame.shape[3] // BLOCK)
        return search(frame, reference, none if before is None else before, torch.full((len(frame),), price))

    @pytest.mark.parametrize(("x", "y"), [(0, 0), (3, -2), (-13, 6), (30, -24)])
    def test_finds_what_moved(self, x, y):
        reference = picture()
        vectors = self.find(moved(reference, x, y), reference)
        assert vectors.dtype == torch.int32
        inner = vectors[:, :, 2:-2, 2:-2] - torch.tensor([4 * x, 4 * y]).view(1, 2, 1, 1)
        assert float((inner.abs().amax(1) <= 1).float().mean()) > 0.9

    def test_finds_fractions(self):
        reference = picture()
        true = torch.tensor([6, -9]).view(1, 2, 1, 1).expand(1, 2, 6, 10)
        frame = warp(reference, spread(relative(true), 96, 160))
        found = self.find(frame, reference, price=0.001)
        assert float((found - true)[:, :, 1:-1, 1:-1].abs().float().mean()) < 1.0

    def test_never_worse_than_standing_still(self):
        frame, reference = picture(seed=1), picture(seed=2)
        found = self.find(frame, reference, price=0.0)
        out = warp(reference, spread(relative(found), 96, 160))
        assert float((out - frame).abs().mean()) <= float((reference - frame).abs().mean())

    def test_a_price_makes_vectors_cheap(self):
        frame, reference = picture(seed=1), picture(seed=2)
        none = np.zeros((2, 6, 10), dtype=np.int64)
        rates = [
            CODER.bits(self.find(frame, reference, price=price)[0].numpy().astype(np.int64), none)
            for price in (0.0, 0.5, 50.0)
        ]
        assert rates[0] > rates[1] > rates[2]

    def test_stays_within_what_the_coder_holds(self):
        """Vectors that follow those before grow no further than the decoder lets them."""
        reference, before = picture(16, 2304), torch.tensor([4096, 0]).view(1, 2, 1, 1).expand(1, 2, 1, 144)
        vectors = self.find(moved(reference, 1025, 0), reference, before)
        assert int(vectors.max()) == 4096
        field, known = (v[0].numpy().astype(np.int64) for v in (vectors, before))
        assert np.array_equal(CODER.decode(known, RangeReader(coded(field, known))), field)

    def test_samples_of_a_batch_do_not_mix(self):
        reference = torch.cat([picture(seed=1), picture(seed=2)])
        frame = torch.cat([moved(reference[:1], 3, 0), moved(reference[1:], 0, -5)])
        together = self.find(frame, reference)
        for i in range(2):
            assert torch.equal(together[i : i + 1], self.find(frame[i : i + 1], reference[i : i + 1]))
