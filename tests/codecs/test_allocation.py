"""Rates that meet a target: on jobs made up, whose best answers are known, and on the codec."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models.tiny import smooth_image

from triode.codecs import refine
from triode.codecs.allocation import choose, false_position, fit_bytes, reach_psnr
from triode.codecs.image import ImageCodec
from triode.codecs.image_encoding import Encoded, Encoding, PricedModel, Rate
from triode.codecs.refine import Schedule
from triode.codecs.search import largest_point, smallest_point
from triode.codecs.tiles import analyse
from triode.container import Tile
from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.errors import UnsupportedError
from triode.media import Picture
from triode.models.weights import load_weights

WORTH = 0.25  # of a step between rate points, a little more than what is left unused on purpose


@dataclass
class Job:
    """Stands for :class:`Encoding`: tiles whose bytes grow, and errors fall, geometrically with the rate point."""

    weights: list[float]
    growth: float = 1.05
    octaves: float = 1.0  # of price that stand for a rate point
    priced: bool = True
    effort: str = "none"
    overhead: int = 60
    made: list[tuple[Rate, ...]] = field(default_factory=list)

    @property
    def tiles(self) -> list[float]:
        return self.weights

    @property
    def colour(self) -> np.ndarray:
        return np.zeros((len(self.weights), 64, 64, 3), dtype=np.uint8)

    def _level(self, rate: Rate) -> float:
        assert rate.price == 1 or self.priced
        return rate.point + math.log2(rate.price) / self.octaves

    def size(self, index: int, rate: Rate) -> int:
        return round(self.weights[index] * self.growth ** self._level(rate))

    def errors(self, rates: list[Rate]) -> list[float]:
        return [
            1e6 * w / max(self.weights) / self.growth ** self._level(r)
            for w, r in zip(self.weights, rates, strict=True)
        ]

    def run(self, point: int, progress: object = None, *, measure: bool = False) -> Encoded:
        return self.mix([Rate(point)] * len(self.weights), measure=measure)

    def mix(self, rates: list[Rate], progress: object = None, *, measure: bool = False) -> Encoded:
        self.made.append(tuple(rates))
        total = sum(self.size(i, r) for i, r in enumerate(rates))
        psnr = -10 * math.log10(sum(self.errors(rates)) / self.colour.size / 255**2) if measure else None
        point = min(r.point for r in rates)
        return Encoded(bytes(total + self.overhead), "job", point, 0.0, 8, 8, total, psnr)


jobs = st.builds(
    Job,
    st.lists(st.floats(300, 5000), min_size=1, max_size=12),
    st.floats(1.02, 1.09),
    st.floats(0.4, 2.5),
    st.booleans(),
)


class TestChoose:
    @given(st.lists(st.floats(0, 100), max_size=20), st.floats(-10, 500))
    def test_fits_and_leaves_no_room(self, extras, budget):
        chosen = choose(extras, budget)
        assert len(set(chosen)) == len(chosen)
        left = budget - sum(extras[i] for i in chosen)
        assert left >= -1e-9 or not chosen
        assert all(extras[i] > left - 1e-9 for i in range(len(extras)) if i not in chosen)

    def test_the_largest_first(self):
        assert choose([3, 9, 5, 4], 12) == [1, 0]
        assert choose([2, 2, 2], 4) == [0, 1]


class TestFalsePosition:
    @given(st.floats(-3, -0.05), st.floats(0.3, 4), st.booleans())
    def test_finds_the_zero_of_a_curve(self, zero, bend, falling):
        low, high = -3.1, 0.0
        sign = -1 if falling else 1

        def curve(x):
            return sign * (math.exp(bend * x) - math.exp(bend * zero))

        ends = [(low, curve(low)), (high, curve(high))]
        if falling:
            ends.reverse()
        seen = []
        false_position(lambda x: seen.append(x) or curve(x), *ends, tries=60, close=1e-9)
        assert all(low <= x <= high for x in seen)
        assert min(abs(x - zero) for x in seen) < 1e-3

    def test_stops_when_near_enough(self):
        seen = []
        false_position(lambda x: seen.append(x) or x, (-1.0, -1.0), (1.0, 1.0), tries=9, close=0.1)
        assert seen == pytest.approx([-0.24, -0.05])  # The first is cautious.

    def test_makes_no_more_than_its_tries(self):
        seen = []
        false_position(lambda x: seen.append(x) or 5.0, (-1.0, -1.0), (0.0, 5.0), tries=3, close=0.1)
        assert len(seen) == 3


class TestBytes:
    @settings(max_examples=60, deadline=None)
    @given(jobs, st.floats(0.0, 1.1))
    def test_the_budget_holds_and_is_used_up(self, job, share):
        ends = [len(job.run(p).data) for p in (0, 63)]
        budget = ends[0] + share * (ends[1] - ends[0])
        one = largest_point(job.run, lambda e: len(e.data), budget, 64)
        job.made.clear()
        found = fit_bytes(job, budget)
        assert len(one.data) <= len(found.data) <= budget
        assert found.rate_point >= one.rate_point
        assert len(job.made) <= 7 + len(job.weights) + 4 + 2
        if job.priced and one.rate_point < 63 and job.octaves <= 1:
            low, high = Rate(one.rate_point), Rate(one.rate_point + 1)
            step = max(job.size(i, high) - job.size(i, low) for i in range(len(job.weights)))
            assert budget - len(found.data) <= max(WORTH * step, 4)

    def test_only_points_where_the_model_has_no_prices(self):
        job = Job([1000.0, 700.0, 400.0], priced=False)
        fit_bytes(job, 5000)
        assert {r.price for rates in job.made for r in rates} == {1.0}

    def test_one_tile_has_a_price_that_fits(self):
        job = Job([1000.0])
        found = fit_bytes(job, job.size(0, Rate(30)) + job.overhead + 100)
        assert len(found.data) >= job.size(0, Rate(30)) + job.overhead + 91  # A step is 216.
        assert found.rate_point == 31
        assert 0.5 < job.made[-1][0].price < 1

    def test_a_small_rest_stays(self):
        """Prices far from 1 cost quality: what a rest of a tenth of a step would buy is less."""
        job = Job([10_000.0])
        step = job.size(0, Rate(31)) - job.size(0, Rate(30))
        found = fit_bytes(job, job.size(0, Rate(30)) + job.overhead + step / 10)
        assert found.rate_point == 30
        assert {r.price for rates in job.made for r in rates} == {1.0}

    def test_effort_makes_few_files_near_the_draft(self):
        job, draft = Job([1000.0], octaves=0.35, effort="high"), Job([980.0])
        budget = job.size(0, Rate(37)) + job.overhead + 150
        found = fit_bytes(job, budget, draft=draft)
        assert len(job.made) <= 7
        assert budget - 30 <= len(found.data) <= budget

    def test_unreachable(self):
        with pytest.raises(UnsupportedError, match="cannot be met"):
            fit_bytes(Job([1000.0]), 500)


class TestQuality:
    @settings(max_examples=60, deadline=None)
    @given(jobs, st.floats(-0.1, 1.0))
    def test_the_target_is_reached_with_no_more_bytes(self, job, share):
        ends = [job.run(p, measure=True).psnr for p in (0, 63)]
        target = ends[0] + share * (ends[1] - ends[0])
        target -= 1e-9  # Its own rounding
        one = smallest_point(lambda p: job.run(p, measure=True), lambda e: e.psnr, target, 64)
        job.made.clear()
        found = reach_psnr(job, target)
        assert found.psnr >= target
        assert len(found.data) <= len(one.data)
        assert len(job.made) <= 7 + 4 + 4

    def test_one_tile_has_a_price_that_just_reaches(self):
        job = Job([1000.0])
        between = (job.run(30, measure=True).psnr + job.run(31, measure=True).psnr) / 2
        found = reach_psnr(job, between)
        assert between <= found.psnr < between + 0.01
        assert found.rate_point == 31
        assert len(found.data) < job.size(0, Rate(31)) + job.overhead

    def test_only_points_where_the_model_has_no_prices(self):
        job = Job([1000.0, 700.0, 400.0], priced=False)
        reach_psnr(job, job.run(20, measure=True).psnr - 0.05)
        assert {r.price for rates in job.made for r in rates} == {1.0}

    def test_unreachable(self):
        with pytest.raises(UnsupportedError, match="cannot be met"):
            reach_psnr(Job([1000.0]), 99)


class TestPrices:
    """Of the model and of refinement."""

    def test_lower_ones_take_fewer_bytes_and_decode(self, weights):
        model, q = load_weights(weights.name).model, torch.tensor([40])
        assert isinstance(model, PricedModel)
        y = analyse(model, smooth_image(128, 128), Tile(0, 0, 128, 128), q)
        counted = []
        for price in (0.25, 0.5, 1.0, 2.0):
            counting, writer = CountingWriter(), RangeWriter()
            model.encode_priced(y, q, counting, price)
            written = model.encode_priced(y, q, writer, price)
            assert torch.equal(model.decode((8, 8), q, RangeReader(writer.getvalue())), written)
            counted.append(counting.bits)
        assert counted == sorted(counted)
        assert counted[0] < 0.98 * counted[3]
        usual = CountingWriter()
        model.encode(y, q, usual)
        assert usual.bits == counted[2]

    def test_refinement_follows_them(self, weights):
        picture = Picture(smooth_image(96, 96))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(refine, "SCHEDULES", {"low": Schedule(3, (0.5, 0.3))})
            job = Encoding(load_weights(weights.name), picture, 11, "low")
            sizes = [job.size(0, Rate(40, price)) for price in (0.5, 1.0, 2.0)]
        assert sizes[0] < sizes[1] < sizes[2]


class TestCodec:
    @pytest.mark.parametrize("share", [0.35, 0.6, 0.85])
    def test_one_tile_comes_nearer_to_the_budget(self, codec, share):
        picture = Picture(smooth_image(250, 230))
        sizes = [len(codec.encode(picture, quality=100 * p / 63).data) for p in (40, 41)]
        budget = int(sizes[0] + share * (sizes[1] - sizes[0]))
        found = codec.encode(picture, size=budget)
        assert sizes[0] + 0.25 * share * (sizes[1] - sizes[0]) < len(found.data) <= budget
        (point,) = codec.info(found.data).rate_points
        assert point in (39, 41)  # at another price of errors; this model takes more bytes at 39 than at 40

    def test_one_tile_takes_fewer_bytes_for_a_psnr(self, codec):
        picture = Picture(smooth_image(250, 230))
        job = Encoding(load_weights(codec._model), picture, 11)
        low, high = (job.run(p, measure=True) for p in (40, 41))
        target = (2 * low.psnr + high.psnr) / 3
        found = codec.encode(picture, psnr=target)
        assert len(found.data) < len(high.data)
        error = np.square(codec.decode(found.data).pixels.astype(float) - picture.pixels).mean()
        assert target <= -10 * np.log10(error / 255**2) < high.psnr

    def test_tiles_take_two_points(self, codec):
        picture, tiled = Picture(smooth_image(250, 380)), ImageCodec(codec._model, tile_log2=7)
        sizes = [len(tiled.encode(picture, quality=100 * p / 63).data) for p in (30, 31)]
        found = tiled.encode(picture, size=int(0.4 * sizes[0] + 0.6 * sizes[1]))
        assert tiled.info(found.data).rate_points == (30, 31)
