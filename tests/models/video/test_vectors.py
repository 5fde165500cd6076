"""Motion of blocks: its coding, and what it does to planes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models.video.pictures import moved, picture

from triode.entropy.coder import RangeReader, RangeWriter
from triode.errors import CodecError
from triode.models.video.vectors import VectorCoder, compensate, relative, warp

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


class TestCompensate:
    @pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 0), (-7, 5), (16, -16)])
    def test_whole_samples(self, x, y):
        frame = picture()
        vectors = torch.tensor([4 * x, 4 * y]).view(1, 2, 1, 1).expand(1, 2, 6, 10)
        (out,) = compensate([frame], relative(vectors))
        assert torch.allclose(out[:, :, 16:-16, 16:-16], moved(frame, x, y)[:, :, 16:-16, 16:-16], atol=1e-4)

    def test_fractions_are_cubic(self):
        """Half a sample on: -3/32, 19/32, 19/32, -3/32 of four samples, Keys' kernel with a = -0.75."""
        frame = picture()
        vectors = torch.tensor([2, 0]).view(1, 2, 1, 1).expand(1, 2, 6, 10)
        (out,) = compensate([frame], relative(vectors))
        x = frame[..., 8:-8]
        expected = (
            19 * (x + moved(frame, 1, 0)[..., 8:-8]) - 3 * (moved(frame, -1, 0) + moved(frame, 2, 0))[..., 8:-8]
        ) / 32
        assert torch.allclose(out[..., 8:-8], expected, atol=1e-4)

    def test_each_block_has_its_own(self):
        """The middle of a block follows its vector, what is half a block away from it does not know of it."""
        frame, vectors = picture(), torch.zeros(1, 2, 6, 10)
        vectors[:, 0, 2, 3] = 8.0
        (out,) = compensate([frame], relative(vectors))
        where = (slice(None), slice(None), slice(36, 44), slice(52, 60))
        assert torch.allclose(out[where], moved(frame, 2, 0)[where], atol=1e-4)
        rest = torch.ones(96, 160, dtype=torch.bool)
        rest[28:52, 44:68] = False
        assert torch.allclose(out[..., rest], frame[..., rest], atol=1e-4)

    def test_edges_are_blends(self):
        """Beside an edge, of two blocks that fetch constants, each sample is between them, and nearer to its own."""
        frame = torch.zeros(1, 1, 32, 64)
        frame[..., 32:] = 1.0
        vectors = torch.zeros(1, 2, 2, 4)
        vectors[:, 0, :, 1] = 4 * 24.0
        (out,) = compensate([frame], relative(vectors))
        row = out[0, 0, 16, 8:24]
        assert torch.allclose(row[:4], torch.zeros(4), atol=1e-4)
        assert torch.allclose(row[4:12], (torch.arange(8) + 0.5) / 8, atol=1e-4)
        assert torch.allclose(row[12:], torch.ones(4), atol=1e-4)

    def test_planes_of_other_sizes_move_alike(self):
        vectors = torch.tensor([32, -16]).view(1, 2, 1, 1).expand(1, 2, 6, 10)
        chroma = picture(48, 80)
        _, out = compensate([picture(), chroma], relative(vectors))
        assert torch.allclose(out[:, :, 8:-8, 8:-8], moved(chroma, 4, -2)[:, :, 8:-8, 8:-8], atol=1e-4)

    def test_large_frames_are_made_in_parts(self, monkeypatch):
        frame, vectors = picture(), torch.randint(-20, 21, (1, 2, 6, 10), generator=torch.Generator().manual_seed(0))
        (whole,) = compensate([frame], relative(vectors))
        monkeypatch.setattr("triode.models.video.vectors._SMALL", 0)
        (parts,) = compensate([frame], relative(vectors))
        assert torch.allclose(whole, parts, atol=1e-6)

    def test_gradients_reach_the_frame(self):
        frame = picture().requires_grad_()
        compensate([frame], relative(torch.ones(1, 2, 6, 10)))[0].sum().backward()
        assert float(frame.grad.sum()) == pytest.approx(96 * 160, rel=1e-3)


class TestWarp:
    def test_features_move_by_shares_of_their_own_grid(self):
        vectors = torch.tensor([32, -16]).view(1, 2, 1, 1).expand(1, 2, 6, 10)
        small = picture(12, 20)
        out = warp(small, relative(vectors))
        expected = 0.5 * (moved(small, 1, 0) + moved(small, 1, -1))
        assert torch.allclose(out[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], atol=1e-4)
