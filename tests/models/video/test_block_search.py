"""The search for the motion of blocks."""

import numpy as np
import pytest
import torch
from models.video.pictures import moved, picture

from triode.entropy.coder import RangeReader, RangeWriter
from triode.models.video.block_search import _levels, _predictions, search
from triode.models.video.vectors import BLOCK, VectorCoder, _predict, compensate, relative

CODER = VectorCoder()


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
        frame = compensate([reference], relative(true))[0]
        found = self.find(frame, reference, price=0.001)
        assert float((found - true)[:, :, 1:-1, 1:-1].abs().float().mean()) < 1.0

    def test_never_worse_than_standing_still(self):
        frame, reference = picture(seed=1), picture(seed=2)
        found = self.find(frame, reference, price=0.0)
        out = compensate([reference], relative(found))[0]
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
        writer = RangeWriter()
        CODER.encode(field, known, writer)
        assert np.array_equal(CODER.decode(known, RangeReader(writer.getvalue())), field)

    def test_samples_of_a_batch_do_not_mix(self):
        reference = torch.cat([picture(seed=1), picture(seed=2)])
        frame = torch.cat([moved(reference[:1], 3, 0), moved(reference[1:], 0, -5)])
        together = self.find(frame, reference)
        for i in range(2):
            assert torch.equal(together[i : i + 1], self.find(frame[i : i + 1], reference[i : i + 1]))

    def test_follows_its_neighbours_where_it_does_not_matter(self):
        """Of flat blocks any vector will do: the one that is predicted costs least."""
        reference = torch.zeros(1, 1, 96, 160)
        vectors = self.find(reference, reference, torch.full((1, 2, 6, 10), 12.0))
        assert torch.equal(vectors, torch.full_like(vectors, 12))

    @pytest.mark.parametrize("shape", [(16, 16), (16, 48), (48, 16)])
    def test_few_blocks(self, shape):
        """Levels that have no blocks are no trouble."""
        reference = picture(*shape)
        assert self.find(reference, reference).shape == (1, 2, shape[0] // 16, shape[1] // 16)

    def test_at_a_higher_price_no_block_is_nearer(self):
        """What is spent on vectors is spent on differences: the cheaper field predicts no better."""
        reference = picture()
        frame = 0.7 * moved(reference, 5, 3) + 0.3 * moved(reference, 4, 3)
        errors = [
            float((compensate([reference], relative(self.find(frame, reference, price=p)))[0] - frame).abs().mean())
            for p in (0.0, 20.0)
        ]
        assert errors[0] <= errors[1]


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 6)])
def test_predictions_are_those_of_the_coder(shape):
    """The search knows what vectors cost only as long as it predicts them as the coder does."""
    rng = np.random.default_rng(0)
    field, before = rng.integers(-40, 41, (2, 2, *shape))
    tensors = [torch.from_numpy(v).float()[None] for v in (field, before)]
    shift = (tensors[0] - tensors[1]).flatten(2).median(2).values.round()[0].numpy().astype(np.int64)
    for level, blocks in enumerate(_levels(*shape, torch.device("cpu"))):
        expected, _, here = _predict(field, before, shift, level)
        assert np.array_equal(np.flatnonzero(here), blocks.numpy())
        found = _predictions(*tensors, level)[0].flatten(1)[:, blocks].numpy()
        assert np.array_equal(found, expected[:, here])
