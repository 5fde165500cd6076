from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.errors import BitstreamError
from triode.models.restoration import (
    CLIP_STEP,
    COEFFICIENTS,
    GROUPS,
    REACH,
    STEPS,
    Restoration,
    laplace_tables,
    table_of,
)

POINT = 30
LEVEL = 100
PLAIN = [(0, 1), (0, 2), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (2, -1), (2, 0), (2, 1)]
CLIPPED = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.fixture(scope="module")
def restoration() -> Restoration:
    made = Restoration()
    made.export()
    made.clip.fill_(LEVEL)
    made.mean[:] = torch.arange(COEFFICIENTS) - 15
    made.index[:] = torch.arange(COEFFICIENTS) % 16
    return made


def pixels(height: int, width: int, seed: int = 0, pictures: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    walk = rng.normal(0, 0.04, (pictures, 3, height, width)).cumsum(2).cumsum(3) * 0.2 + 0.5
    return torch.from_numpy(walk + rng.normal(0, 0.03, walk.shape)).float()


def coefficients(seed: int = 0, scale: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(-scale, scale + 1, COEFFICIENTS).astype(np.int32)


def features(x: np.ndarray) -> np.ndarray:
    """The 30 features of (3, H, W) by their definition in docs/restoration.md, sample by sample: (30, 3, H, W)."""
    m, level = x.mean(0), LEVEL * CLIP_STEP

    def at(plane: np.ndarray, y: int, x: int) -> np.ndarray:
        kernel = np.zeros((9, 9))
        kernel[4 + y, 4 + x] = 1
        return correlate(plane, kernel, mode="nearest")

    def step(y: int, x: int, down: int, right: int) -> np.ndarray:
        """The limited step from sample p + (y, x) to the one `down` and `right` of it."""
        return np.clip(at(m, y + down, x + right) - at(m, y, x), -level, level)

    shared = [at(m, y, x) + at(m, -y, -x) - 2 * m for y, x in PLAIN]
    for along, across in CLIPPED:
        sides = sorted({along, -along})
        shared.append(sum(step(s, across, 0, 1) - step(s, -1 - across, 0, 1) for s in sides))
        shared.append(sum(step(across, s, 1, 0) - step(-1 - across, s, 1, 0) for s in sides))
    made = np.zeros((COEFFICIENTS, *x.shape))
    made[:18] = np.stack(shared)[:, None]
    for c in range(3):
        for k, (down, right) in enumerate([(0, 1), (1, 0), (0, 4), (4, 0)]):
            made[18 + 4 * c + k, c] = at(x[c], down, right) + at(x[c], -down, -right) - 2 * x[c]
    return made


class TestFilter:
    @pytest.mark.parametrize(("height", "width"), [(9, 12), (1, 1), (2, 7), (131, 10), (128, 5), (260, 3)])
    def test_is_what_its_definition_says(self, restoration: Restoration, height: int, width: int) -> None:
        x, c = pixels(height, width, height), coefficients(width)
        clamped = x.clamp(0, 1)[0].double().numpy()
        # Beyond the border the picture goes on as it ends; limited steps to there are zero.
        expected = clamped + np.tensordot(c * STEPS, features(clamped), 1)
        found = restoration(x, c, POINT)[0].numpy()
        if min(height, width) > 2:
            inner = np.s_[:, 2:-3, 2:-3]
            np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_zero_changes_nothing(self, restoration: Restoration) -> None:
        x = pixels(140, 33)
        found = restoration(x, np.zeros(COEFFICIENTS, np.int32), POINT)
        torch.testing.assert_close(found, x.clamp(0, 1), atol=1e-6, rtol=0)

    def test_layout_and_batch_do_not_matter(self, restoration: Restoration) -> None:
        x, c = pixels(40, 50, pictures=2), coefficients()
        found = restoration(x, c, POINT)
        torch.testing.assert_close(restoration(x.contiguous(memory_format=torch.channels_last), c, POINT), found)
        torch.testing.assert_close(restoration(x[1:], c, POINT), found[1:])

    def test_reaches_no_further_than_it_says(self, restoration: Restoration) -> None:
        x, c = pixels(60, 70), coefficients(3)
        part = restoration(x[:, :, 10:50, 5:60], c, POINT)[:, :, REACH:-REACH, REACH:-REACH]
        torch.testing.assert_close(part, restoration(x, c, POINT)[:, :, 14:46, 9:56])

    def test_input_stays(self, restoration: Restoration) -> None:
        x = pixels(20, 20) * 3 - 1
        before = x.clone()
        restoration(x, coefficients(), POINT)
        assert torch.equal(x, before)


class TestSums:
    @pytest.mark.parametrize(("margin", "every"), [((4, 4), 1), ((8, 5), 1), ((4, 5), 2), ((4, 4), 3)])
    def test_change_is_that_of_the_squared_error(
        self, restoration: Restoration, margin: tuple[int, int], every: int
    ) -> None:
        x, target, c = pixels(40, 60, 1, 3), pixels(40, 60, 2, 3), coefficients(4)
        inner = np.s_[:, :, margin[0] : -margin[0] : every, margin[1] : -margin[1]]
        sums = restoration.sums(x, target, POINT, margin, every)
        assert sums.samples == x[inner][:, 0].numel()
        after = (restoration(x, c, POINT)[inner] - target[inner]).double().square().sum()
        before = (x.clamp(0, 1)[inner] - target[inner]).double().square().sum()
        assert sums.change(c * STEPS) == pytest.approx(float(after - before), rel=1e-4)

    @pytest.mark.parametrize("seed", range(4))
    def test_solution_finds_what_was_done(self, restoration: Restoration, seed: int) -> None:
        x, c = pixels(80, 90, seed), coefficients(seed)
        # Noise in all channels: what is shared could else not be told from each channel's own.
        x = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        target = restoration(x, c, POINT)
        assert np.array_equal(restoration.sums(x, target, POINT, (4, 4)).solution(), c)

    def test_solution_of_nothing_is_zero(self, restoration: Restoration) -> None:
        flat = torch.full((1, 3, 20, 20), 0.5)
        assert not restoration.sums(flat, flat, POINT, (4, 4)).solution().any()

    def test_a_strong_tie_gives_the_mean(self, restoration: Restoration) -> None:
        x, target, mean = pixels(30, 30, 1), pixels(30, 30, 2), coefficients(9)
        sums = restoration.sums(x, target, POINT, (4, 4))
        assert np.array_equal(sums.solution(1e6, mean.astype(float)), mean)
        assert not np.array_equal(sums.solution(0.0, mean.astype(float)), mean)


class TestSolve:
    def test_what_does_not_pay_is_left_out(self, restoration: Restoration) -> None:
        x, c = pixels(80, 90, 5), coefficients(5)
        sums = restoration.sums(x, restoration(x, c, POINT), POINT, (4, 4))
        assert restoration.solve(sums, POINT, 1e-9) is None
        found = restoration.solve(sums, POINT, 1e9)
        assert found is not None
        assert sums.change(found * STEPS) == pytest.approx(sums.change(c * STEPS), rel=1e-3)


class TestSymbols:
    @given(
        st.none() | st.lists(st.integers(-3000, 3000), min_size=COEFFICIENTS, max_size=COEFFICIENTS),
        st.integers(0, 63),
    )
    @settings(max_examples=60, deadline=None)
    def test_round_trip(self, restoration: Restoration, values: list[int] | None, point: int) -> None:
        writer, wanted = RangeWriter(), None if values is None else np.array(values, dtype=np.int32)
        restoration.write(wanted, point, writer)
        reader = RangeReader(writer.getvalue())
        found = restoration.read(point, reader)
        reader.check(writer.crc)
        assert (found is None) == (wanted is None)
        assert found is None or np.array_equal(found, wanted)

    def test_bits_are_those_of_the_symbols(self, restoration: Restoration) -> None:
        c, counter, none = coefficients(2), CountingWriter(), CountingWriter()
        restoration.write(c, POINT, counter)
        restoration.write(None, POINT, none)
        assert restoration.bits(c, POINT) == pytest.approx(counter.bits - none.bits)
        assert none.bits < 5

    def test_a_switch_that_is_none(self, restoration: Restoration) -> None:
        writer = RangeWriter()
        writer.write(np.array([2]), np.zeros(1, dtype=np.int32), restoration.tables.get())
        with pytest.raises(BitstreamError, match="switch is 2"):
            restoration.read(POINT, RangeReader(writer.getvalue()))

    def test_groups_have_models_of_their_own(self, restoration: Restoration) -> None:
        other = Restoration()
        other.export()
        other.mean[:] = restoration.mean + torch.arange(GROUPS, dtype=torch.int16)[:, None]
        c = coefficients()
        sizes = []
        for point in (0, 63):
            counter = CountingWriter()
            other.write(c + other.mean[point // 8].numpy(), point, counter)
            sizes.append(counter.bits)
        assert sizes[0] == pytest.approx(sizes[1])


class TestTables:
    def test_mean_magnitudes_rise_as_said(self) -> None:
        tables = laplace_tables()
        found = []
        for k in range(len(tables)):
            masses = tables.table(k)[:-1] / 2**24
            symbols = np.arange(len(masses)) + tables.offsets[k]
            found.append(float(np.abs(symbols) @ masses))
        scales = 0.25 * 1.4 ** np.arange(16)
        np.testing.assert_allclose(found[4:], scales[4:], rtol=0.06)
        assert np.array_equal(table_of(scales), np.arange(16))
        assert table_of(np.array([0.0, 1e9])).tolist() == [0, 15]
