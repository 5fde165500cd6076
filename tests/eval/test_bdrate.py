"""BD-rate and BD-quality: closed forms, refusals, and agreement with the `bjontegaard` package."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from triode.errors import UnsupportedError
from triode.eval.bdrate import RatePoint, bd_quality, bd_rate, envelope
from triode.eval.published import published

RATES = [0.2, 0.41, 0.83, 1.5, 2.9]
QUALITIES = [27.1, 30.2, 33.4, 36.1, 39.9]
METHODS = pytest.mark.parametrize("method", ["pchip", "akima"])


def curve(rates, qualities):
    return [RatePoint(r, q) for r, q in zip(rates, qualities, strict=True)]


def columns(points):
    return [p.rate for p in points], [p.quality for p in points]


BASE = curve(RATES, QUALITIES)


@st.composite
def rising(draw):
    """Points whose rate and quality rise, over nearly three octaves and more."""
    steps = draw(st.lists(st.tuples(st.floats(0.1, 1.5), st.floats(0.05, 8.0)), min_size=3, max_size=9))
    rate, quality = draw(st.floats(-3, 0)), draw(st.floats(24, 32))
    points = [RatePoint(math.exp(rate), quality)]
    for more_rate, more_quality in steps:
        rate, quality = rate + more_rate, quality + more_quality
        points.append(RatePoint(math.exp(rate), quality))
    return points


@METHODS
class TestClosedForms:
    def test_same_curve_is_zero(self, method):
        rate, quality = bd_rate(BASE, BASE, method), bd_quality(BASE, BASE, method)
        assert (rate.percent, rate.overlap, rate.dropped) == (pytest.approx(0, abs=1e-9), 1, 0)
        assert (quality.gain, quality.overlap, quality.dropped) == (pytest.approx(0, abs=1e-9), 1, 0)

    def test_half_the_rate_is_minus_fifty(self, method):
        assert bd_rate(BASE, curve([r / 2 for r in RATES], QUALITIES), method).percent == pytest.approx(-50)

    def test_more_quality_at_each_rate_is_that_much(self, method):
        assert bd_quality(BASE, curve(RATES, [q + 1.5 for q in QUALITIES]), method).gain == pytest.approx(1.5)

    def test_straight_lines_are_compared_where_both_are(self, method):
        # Quality rises by 3 an octave; the test has 1.5 more at each rate, which is half an octave.
        anchor = curve([2.0**i for i in range(6)], [30.0 + 3 * i for i in range(6)])
        test = curve([2.0**i for i in range(1, 7)], [31.5 + 3 * i for i in range(1, 7)])
        assert bd_rate(anchor, test, method).percent == pytest.approx(100 * (0.5**0.5 - 1))
        assert bd_quality(anchor, test, method).gain == pytest.approx(1.5)
        assert bd_rate(anchor, test, method).overlap == pytest.approx(10.5 / 15)
        assert bd_quality(anchor, test, method).overlap == pytest.approx(4 / 5)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_order_of_points_does_not_matter(self, method, data):
        other = curve([r * 0.7 for r in RATES], [q + 0.4 for q in QUALITIES])
        shuffled = data.draw(st.permutations(BASE)), data.draw(st.permutations(other))
        assert bd_rate(*shuffled, method) == bd_rate(BASE, other, method)
        assert bd_quality(*shuffled, method) == bd_quality(BASE, other, method)

    @settings(max_examples=60, deadline=None)
    @given(anchor=rising(), test=rising())
    def test_swapping_the_curves_inverts(self, method, anchor, test):
        try:
            there, back = bd_rate(anchor, test, method), bd_rate(test, anchor, method)
        except ValueError:
            assume(False)
        assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)


class TestReferences:
    @METHODS
    def test_numerical_integration(self, method):
        from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

        fit = PchipInterpolator if method == "pchip" else Akima1DInterpolator
        rates, qualities = [0.15, 0.5, 1.0, 2.0], [27.5, 32.0, 35.0, 38.5]
        x = np.linspace(27.5, 38.5, 200_001)
        gap = fit(qualities, np.log(rates))(x) - fit(QUALITIES, np.log(RATES))(x)
        expected = 100 * (math.exp(float(np.mean((gap[1:] + gap[:-1]) / 2))) - 1)
        assert bd_rate(BASE, curve(rates, qualities), method).percent == pytest.approx(expected, abs=1e-5)

    @METHODS
    @pytest.mark.filterwarnings("ignore:Insufficient curve overlap")
    @settings(max_examples=60, deadline=None)
    @given(anchor=rising(), test=rising())
    def test_bjontegaard(self, method, anchor, test):
        bjontegaard = pytest.importorskip("bjontegaard")
        options = {"method": method, "require_matching_points": False}
        for ours, theirs in (
            (lambda: bd_rate(anchor, test, method).percent, bjontegaard.bd_rate),
            (lambda: bd_quality(anchor, test, method).gain, bjontegaard.bd_psnr),
        ):
            try:
                found = ours()
            except ValueError as error:
                reason = str(error)
            else:
                reason = ""
                expected = theirs(*columns(anchor), *columns(test), **options)
                assert found == pytest.approx(expected, rel=1e-8, abs=1e-6)
            assert not reason or "overlap" in reason  # no other refusal

    @METHODS
    @pytest.mark.filterwarnings("ignore:Insufficient curve overlap")
    def test_bjontegaard_on_published_curves(self, method):
        bjontegaard = pytest.importorskip("bjontegaard")
        options = {"method": method, "require_matching_points": False}
        curves = {
            c.name: [RatePoint(*p) for p in c.points["psnr"]] for c in published("*", "kodak") if "psnr" in c.points
        }
        anchor = curves["compressai-jpeg"]
        compared = 0
        for test in curves.values():
            if len(envelope(test)) < len(test):
                continue
            sides = *columns(anchor), *columns(test)
            assert bd_rate(anchor, test, method).percent == pytest.approx(
                bjontegaard.bd_rate(*sides, **options), abs=1e-6
            )
            assert bd_quality(anchor, test, method).gain == pytest.approx(
                bjontegaard.bd_psnr(*sides, **options), abs=1e-6
            )
            compared += 1
        assert compared > 12


class TestCurvesThatFall:
    FALLING = (*BASE, RatePoint(3.5, 39.0), RatePoint(1.7, 33.0))

    def test_points_that_others_beat_are_left_out(self):
        assert envelope(self.FALLING[::-1]) == BASE
        for function in (bd_rate, bd_quality):
            found = function(BASE, self.FALLING)
            assert found.dropped == 2
            assert found == type(found)(0.0, 1.0, 2)

    def test_equal_points_count_once(self):
        twice = [*BASE, *BASE, RatePoint(RATES[2], QUALITIES[2] - 1), RatePoint(RATES[2] * 1.1, QUALITIES[2])]
        assert envelope(twice) == BASE
        assert bd_rate(BASE, twice).dropped == 7

    def test_what_the_package_does(self):
        """It refuses curves that fall in what it integrates over, and goes through the points otherwise."""
        bjontegaard = pytest.importorskip("bjontegaard")
        options = {"method": "pchip", "require_matching_points": False}
        with pytest.raises((ValueError, AssertionError)):
            bjontegaard.bd_rate(*columns(BASE), *columns(self.FALLING), **options)
        beaten = sorted([*BASE, RatePoint(1.7, 35.0)], key=lambda p: p.quality)
        through = bjontegaard.bd_rate(*columns(BASE), *columns(beaten), **options)
        assert (abs(through) > 0.1, bd_rate(BASE, beaten).percent) == (True, 0)


class TestRefusals:
    @pytest.mark.parametrize("function", [bd_rate, bd_quality])
    def test_few_points(self, function):
        with pytest.raises(ValueError, match="at least 4 points that no other point beats, but got 3 of 3"):
            function(BASE[:3], BASE)
        with pytest.raises(ValueError, match="but got 3 of 4"):
            function(BASE, [*BASE[:3], RatePoint(5.0, 20.0)])
        with pytest.raises(ValueError, match="at least 4"):
            function([], [])

    def test_small_overlap(self):
        with pytest.raises(ValueError, match="overlap by 45% of quality"):
            bd_rate(BASE, curve(RATES, [q + 7 for q in QUALITIES]))
        with pytest.raises(ValueError, match="overlap by 0% of rate"):
            bd_quality(BASE, curve([r * 100 for r in RATES], QUALITIES))

    def test_half_an_overlap_is_enough(self):
        half = (QUALITIES[-1] - QUALITIES[0]) / 2
        assert bd_rate(BASE, curve(RATES, [q + half - 1e-6 for q in QUALITIES])).overlap == pytest.approx(0.5)
        with pytest.raises(ValueError, match="overlap"):
            bd_rate(BASE, curve(RATES, [q + half + 1e-6 for q in QUALITIES]))

    @pytest.mark.parametrize("function", [bd_rate, bd_quality])
    @pytest.mark.parametrize(
        "bad", [RatePoint(0.0, 27), RatePoint(-1, 27), RatePoint(math.nan, 27), RatePoint(math.inf, 50)]
    )
    def test_rates_that_are_not_positive(self, function, bad):
        with pytest.raises(ValueError, match="Rates must be positive and finite"):
            function(BASE, [*BASE, bad])

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_qualities_that_are_not_finite(self, bad):
        with pytest.raises(ValueError, match="Qualities must be finite"):
            bd_rate([*BASE, RatePoint(9.0, bad)], BASE)

    def test_unknown_methods(self):
        with pytest.raises(ValueError, match="pchip, akima, but got 'cubic'"):
            bd_rate(BASE, BASE, "cubic")

    def test_rates_too_far_apart(self):
        with pytest.raises(ValueError, match="too far apart"):
            bd_rate(curve([r * 1e-300 for r in RATES], QUALITIES), curve([r * 1e300 for r in RATES], QUALITIES))

    def test_missing_scipy(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
        with pytest.raises(UnsupportedError, match=r"pip install 'triode\[bench\]'"):
            bd_rate(BASE, BASE)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.builds(RatePoint, st.floats(), st.floats()), max_size=8),
        st.lists(st.builds(RatePoint, st.floats(), st.floats()), max_size=8),
    )
    def test_any_points_give_a_number_or_a_refusal(self, anchor, test):
        for method in ("pchip", "akima"):
            for function in (bd_rate, bd_quality):
                try:
                    found = function(anchor, test, method)
                except ValueError:
                    continue
                assert 0.5 <= found.overlap <= 1 + 1e-9
