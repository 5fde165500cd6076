"""Summaries: mean curves, BD-rates over items, equal quality, matched rates, tables."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from eval.make_results import QUALITIES, make_results

from triode.eval.bdrate import RatePoint, bd_quality, bd_rate
from triode.eval.coder import CoderFacts
from triode.eval.results import CodecResult, Measurement
from triode.eval.summary import (
    at_quality,
    bd_summary,
    bd_table,
    bootstrap_interval,
    common_items,
    equal_quality,
    higher_is_better,
    main_codec,
    mean_curve,
    nearest_rate,
    oriented,
    pooled_psnr,
)
from triode.eval.tables import bd_markdown, curve_markdown, markdown, speed_markdown, summary_text

RESULTS = make_results()  # the learned codec takes 50, 60, 70 % of JPEG's bytes on a, b, c
METRICS = pytest.mark.parametrize("metric", ["psnr", "mel"])


def without(results, keep):
    """Leave out measurements."""
    return replace(results, measurements=tuple(m for m in results.measurements if keep(m)))


class TestDirection:
    def test_of_metrics(self):
        assert [higher_is_better(name) for name in ("psnr", "ms-ssim", "mel", "my own")] == [True, True, False, True]

    def test_negates_where_lower_is_better(self):
        points = [RatePoint(1.0, 3.0), RatePoint(2.0, 2.5)]
        assert oriented(points, "mel") == [RatePoint(1.0, -3.0), RatePoint(2.0, -2.5)]
        assert oriented(points, "psnr") == points


class TestMeanCurve:
    def test_averages_each_quality(self):
        points = mean_curve(RESULTS, "jpeg", "psnr")
        assert [point.quality for point in points] == list(QUALITIES)
        for point in points:
            cell = [m for m in RESULTS.measurements if (m.codec, m.quality) == ("jpeg", point.quality)]
            assert point.rate == pytest.approx(np.mean([8 * m.bytes / 10_000 for m in cell]))
            assert point.value == pytest.approx(np.mean([m.metrics["psnr"] for m in cell]))
            assert point.encode_seconds == pytest.approx(np.mean([m.encode_seconds for m in cell]))
            assert point.items == 3
        assert mean_curve(RESULTS, "jpeg", "psnr", payload=True)[0].rate == pytest.approx(0.72)

    def test_psnr_of_the_mean_error_is_beside_the_mean_of_psnrs(self):
        [first, *_] = mean_curve(RESULTS, "jpeg", "psnr")
        psnrs = [m.metrics["psnr"] for m in RESULTS.measurements if (m.codec, m.quality) == ("jpeg", 10)]
        mses = [255**2 / 10 ** (psnr / 10) for psnr in psnrs]
        assert first.pooled == pytest.approx(10 * math.log10(255**2 / np.mean(mses)))
        assert first.pooled < first.value
        assert pooled_psnr([30.0, 30.0]) == pytest.approx(30)
        assert mean_curve(RESULTS, "jpeg", "mel")[0].pooled is None

    def test_leaves_out_a_quality_that_failed_on_an_item(self):
        assert [point.quality for point in mean_curve(RESULTS, "learned", "psnr")] == list(QUALITIES[:-1])

    def test_leaves_out_a_quality_without_a_finite_value(self):
        def spoil(m):
            return replace(m, metrics={"psnr": math.nan}) if (m.item, m.quality) == ("a", 10) else m

        spoilt = replace(RESULTS, measurements=tuple(map(spoil, RESULTS.measurements)))
        assert [point.quality for point in mean_curve(spoilt, "jpeg", "psnr")] == list(QUALITIES[1:])

    def test_is_over_the_same_items_for_all_codecs(self):
        """A codec that fails on an item takes it from all; one that fails on everything takes nothing."""
        fewer = without(RESULTS, lambda m: (m.codec, m.item) != ("learned", "c"))
        assert common_items(fewer, "psnr") == ("a", "b")
        assert {point.items for point in mean_curve(fewer, "jpeg", "psnr")} == {2}
        broken = CodecResult("broken", CoderFacts("broken"), (1.0,))
        dead = Measurement("a", "broken", 1.0, error="it crashed")
        worse = replace(RESULTS, codecs=(*RESULTS.codecs, broken), measurements=(*RESULTS.measurements, dead))
        assert common_items(worse, "psnr") == ("a", "b", "c")
        assert mean_curve(worse, "broken", "psnr") == ()
        assert common_items(RESULTS, "vmaf") == ()


class TestBd:
    def test_each_item_then_the_mean(self):
        found = bd_summary(RESULTS, "jpeg", "learned", "psnr")
        assert [item for item, _ in found.per_item] == ["a", "b", "c"]
        assert [value for _, value in found.per_item] == pytest.approx([-50, -40, -30])
        assert (found.percent, found.items, found.refused) == (pytest.approx(-40), 3, 0)
        assert found.low == pytest.approx(-50)
        assert found.high == pytest.approx(-30)
        assert found.low < found.percent < found.high
        assert found.overlap == pytest.approx(1)
        gains = [
            bd_quality(*(oriented(RESULTS.curve(c, i, "psnr"), "psnr") for c in ("jpeg", "learned"))).gain
            for i in "abc"
        ]
        assert found.gain == pytest.approx(np.mean(gains))

    @METRICS
    def test_the_direction_of_a_metric_is_taken_care_of(self, metric):
        there, back = bd_summary(RESULTS, "jpeg", "learned", metric), bd_summary(RESULTS, "learned", "jpeg", metric)
        assert there.percent < 0 < back.percent
        assert there.gain > 0 > back.gain
        assert (1 + there.per_item[0][1] / 100) * (1 + back.per_item[0][1] / 100) == pytest.approx(1)

    def test_of_mean_curves(self):
        def curve(codec):
            return [RatePoint(point.rate, point.value) for point in mean_curve(RESULTS, codec, "psnr")]

        found = bd_summary(RESULTS, "jpeg", "learned", "psnr")
        assert found.of_mean_curve == bd_rate(curve("jpeg"), curve("learned")).percent

    def test_refused_items_are_counted_and_named(self):
        short = without(RESULTS, lambda m: m.item != "b" or m.quality < 70)
        found = bd_summary(short, "jpeg", "learned", "psnr")
        assert (found.items, found.refused, found.percent) == (2, 1, pytest.approx(-40))
        [(item, reason)] = found.reasons
        assert item == "b"
        assert "at least 4 points" in reason
        none = bd_summary(without(RESULTS, lambda m: m.quality < 70), "jpeg", "learned", "psnr")
        assert (none.percent, none.low, none.high, none.items, none.refused) == (None, None, None, 0, 3)
        assert (none.of_mean_curve, none.gain, none.overlap, none.per_item) == (None, None, None, ())

    def test_payload_and_method(self):
        light = replace(
            RESULTS,
            measurements=tuple(
                replace(m, payload_bytes=m.bytes // 2) if m.codec == "learned" else replace(m, payload_bytes=m.bytes)
                for m in RESULTS.measurements
            ),
        )
        assert bd_summary(light, "jpeg", "learned", "psnr", payload=True).percent == pytest.approx(-70, abs=0.1)
        assert bd_summary(light, "jpeg", "learned", "psnr", method="akima").percent == pytest.approx(-40)

    def test_interval_is_that_of_scipy(self):
        from scipy.stats import bootstrap

        values = np.random.default_rng(3).normal(-40, 6, 24)
        options = {"n_resamples": 10_000, "method": "percentile", "random_state": np.random.default_rng(1)}
        expected = bootstrap((values,), np.mean, **options).confidence_interval
        found = bootstrap_interval(values.tolist())
        assert found == pytest.approx((expected.low, expected.high), abs=0.15)
        assert found == bootstrap_interval(values.tolist(), seed=0) != bootstrap_interval(values.tolist(), seed=1)
        assert found[0] < values.mean() < found[1]
        assert bootstrap_interval([1.0]) is bootstrap_interval([]) is None

    def test_interval_does_not_depend_on_how_many_are_drawn_at_a_time(self, monkeypatch):
        values = [float(value) for value in range(50)]
        whole = bootstrap_interval(values)
        monkeypatch.setattr("triode.eval.summary._DRAWS", 1000)
        assert bootstrap_interval(values) == whole

    def test_table_has_all_others_and_published_curves(self):
        first, second = bd_table(RESULTS, "learned", "psnr")
        assert (first.anchor, first.published, first.title) == ("jpeg", False, "JPEG (Pillow)")
        assert first.summary == bd_summary(RESULTS, "jpeg", "learned", "psnr")
        assert (second.anchor, second.published, second.summary.items) == ("paper", True, 0)
        mean = [RatePoint(point.rate, point.value) for point in mean_curve(RESULTS, "learned", "psnr")]
        points = [RatePoint(*point) for point in RESULTS.published[0].points["psnr"]]
        assert second.summary.of_mean_curve == bd_rate(points, mean).percent
        assert second.summary.percent is None
        assert [row.anchor for row in bd_table(RESULTS, "jpeg", "mel")] == ["learned"]

    @pytest.mark.parametrize("names", [("x", "jpeg", "psnr"), ("jpeg", "x", "psnr"), ("jpeg", "learned", "x")])
    def test_unknown_names(self, names):
        with pytest.raises(ValueError, match="'x'; there are "):
            bd_summary(RESULTS, *names)


class TestEqualQuality:
    def test_between_points(self):
        """PSNR is a line over the logarithm of the rate, so that the rate in between is known."""
        one = make_results(items=("a",), gains={"a": 0.5})
        jpeg, learned, paper = at_quality(one, "psnr", 28 + 3.5 * 1.5)
        assert jpeg.rate == pytest.approx(0.8 * 2**1.5, rel=1e-6)
        assert learned.rate == pytest.approx(0.4 * 2**1.5, rel=1e-6)
        assert (jpeg.encode_seconds, jpeg.decode_seconds) == pytest.approx((0.025, 0.0125))
        assert learned.encode_seconds == pytest.approx(0.5)
        assert jpeg.encode_speed == pytest.approx(10_000 / 0.025)
        assert learned.decode_speed == pytest.approx(10_000 / 0.25)
        assert (paper.published, paper.encode_seconds) == (True, None)
        assert paper.rate == pytest.approx(0.4 * 2 ** ((28 + 3.5 * 1.5 - 25) / 3.5), rel=1e-6)

    @METRICS
    def test_default_is_what_all_reach(self, metric):
        target = equal_quality(RESULTS, metric)
        for codec in ("jpeg", "learned"):
            values = [point.value for point in mean_curve(RESULTS, codec, metric)]
            assert min(values) < target < max(values)
        assert target == float(f"{target:.2g}")
        assert all(entry.rate for entry in at_quality(RESULTS, metric) if not entry.published)
        assert at_quality(RESULTS, metric) == at_quality(RESULTS, metric, target)

    def test_curves_that_do_not_reach_it_have_no_rate(self):
        assert [entry.rate for entry in at_quality(RESULTS, "psnr", 99.0)] == [None, None, None]
        far = [
            replace(m, metrics={"psnr": m.metrics["psnr"] + 50}) if m.codec == "jpeg" else m
            for m in RESULTS.measurements
        ]
        jpeg, learned, _ = at_quality(replace(RESULTS, measurements=tuple(far)), "psnr")
        assert (jpeg.rate, jpeg.encode_seconds, learned.rate is None) == (None, None, False)

    def test_nothing_measured(self):
        empty = replace(RESULTS, measurements=(), published=())
        assert equal_quality(empty, "psnr") is None
        assert [entry.rate for entry in at_quality(empty, "psnr")] == [None, None]

    def test_main_codec(self):
        assert main_codec(RESULTS) == "learned"
        assert main_codec(replace(RESULTS, codecs=RESULTS.codecs[:1])) == "jpeg"
        with pytest.raises(ValueError, match="no codec"):
            main_codec(replace(RESULTS, codecs=()))


class TestNearestRate:
    def test_goes_by_ratio(self):
        assert nearest_rate(RESULTS, "a", "jpeg", 0.8).quality == 10
        assert nearest_rate(RESULTS, "a", "jpeg", 0.8 * 2**0.49).quality == 10
        assert nearest_rate(RESULTS, "a", "jpeg", 0.8 * 2**0.51).quality == 30
        assert nearest_rate(RESULTS, "a", "jpeg", 1e9).quality == 90

    def test_leaves_out_failures_and_what_has_no_sample(self):
        assert nearest_rate(RESULTS, "b", "learned", 1e9).quality == 70
        assert nearest_rate(RESULTS, "a", "jpeg", 1e-9, with_sample=True).quality == 50
        assert nearest_rate(RESULTS, "a", "webp", 1.0) is None
        with pytest.raises(ValueError, match="positive"):
            nearest_rate(RESULTS, "a", "jpeg", 0.0)


class TestTables:
    def test_markdown(self):
        assert markdown([("name", "n"), ("a|b", "1"), ("two\nlines", "22")], "lr") == (
            "| name      |   n |\n| --------- | --: |\n| a\\|b      |   1 |\n| two lines |  22 |"
        )

    def test_bd(self):
        lines = bd_markdown(RESULTS).splitlines()
        assert [line.split("|")[1].strip() for line in lines] == [
            "learned against",
            "-" * 15,
            "JPEG (Pillow)",
            "A paper",
        ]
        assert "| -40.0 % | -50.0 to -30.0 % |" in " ".join(lines[2].split())
        assert lines[3].count(" - ") == 2
        assert "published" in lines[3]
        short = without(RESULTS, lambda m: m.item != "b" or m.quality < 70)
        assert "2 of 3" in bd_markdown(short, "psnr", "learned")

    def test_speed(self):
        one = make_results(items=("a",), gains={"a": 0.5})
        lines = speed_markdown(one, "psnr", 31.5).splitlines()
        assert "at psnr 31.5" in lines[0]
        assert " ".join(lines[2].split()) == "| JPEG (Pillow) | 1.6 | 0.02 | 0.01 | 0.5 | 1 |"
        assert "encode x real time" in speed_markdown(replace(one, media="video"), "psnr")

    def test_curve(self):
        head, _, first, *_ = curve_markdown(RESULTS, "jpeg").splitlines()
        assert " ".join(head.split()) == "| quality | bpp | psnr | of mean MSE | encode s | decode s | items |"
        assert " ".join(first.split()).startswith("| 10 | 0.8000 | 27.0000 |")
        assert "of mean MSE" not in curve_markdown(RESULTS, "jpeg", "mel")

    def test_summary_hides_no_failure(self):
        text = summary_text(RESULTS)
        assert text.startswith("3 items, 2 codecs, 30 measurements, 1 failed\n\n| learned against")
        assert text.endswith("failed:\nlearned at 90 on b: OSError: the disk is full")
        dead = [Measurement("a", "jpeg", float(q), error="no") for q in range(25)]
        alone = replace(RESULTS, codecs=RESULTS.codecs[:1], measurements=tuple(dead), published=())
        assert summary_text(alone).endswith("jpeg at 19 on a: no\nand 5 more, all in the results")
        assert "against" not in summary_text(alone)
        clean = without(alone, lambda m: False)
        assert summary_text(clean).startswith("3 items, 1 codec, 0 measurements, none failed")
