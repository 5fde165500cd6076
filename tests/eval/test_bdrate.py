"""BD-rate: closed forms, refusals, and agreement with the `bjontegaard` package."""

from __future__ import annotations

import math

import numpy as np
import pytest

from triode.eval.bdrate import RatePoint, bd_rate

RATES = [0.2, 0.41, 0.83, 1.5, 2.9]
QUALITIES = [27.1, 30.2, 33.4, 36.1, 39.9]


def curve(rates, qualities):
    return [RatePoint(r, q) for r, q in zip(rates, qualities, strict=True)]


def test_same_curve_is_zero():
    found = bd_rate(curve(RATES, QUALITIES), curve(RATES, QUALITIES))
    assert found.percent == pytest.approx(0, abs=1e-9)
    assert found.overlap == 1


def test_half_the_rate_is_minus_fifty():
    assert bd_rate(curve(RATES, QUALITIES), curve([r / 2 for r in RATES], QUALITIES)).percent == pytest.approx(-50)


def test_order_of_points_does_not_matter():
    other = curve([r * 0.7 for r in RATES], [q + 0.4 for q in QUALITIES])
    assert bd_rate(curve(RATES, QUALITIES), other) == bd_rate(curve(RATES, QUALITIES)[::-1], other[::-1])


def test_agrees_with_numerical_integration():
    from scipy.interpolate import PchipInterpolator

    rates, qualities = [0.15, 0.5, 1.0, 2.0], [27.5, 32.0, 35.0, 38.5]
    x = np.linspace(27.5, 38.5, 200_001)
    gap = PchipInterpolator(qualities, np.log(rates))(x) - PchipInterpolator(QUALITIES, np.log(RATES))(x)
    expected = 100 * (math.exp(float(np.mean((gap[1:] + gap[:-1]) / 2))) - 1)
    assert bd_rate(curve(RATES, QUALITIES), curve(rates, qualities)).percent == pytest.approx(expected, abs=1e-5)


def test_agrees_with_bjontegaard():
    bjontegaard = pytest.importorskip("bjontegaard")
    rates, qualities = [0.15, 0.5, 1.0, 2.0], [27.5, 32.0, 35.0, 38.5]
    expected = bjontegaard.bd_rate(RATES, QUALITIES, rates, qualities, method="pchip", require_matching_points=False)
    assert bd_rate(curve(RATES, QUALITIES), curve(rates, qualities)).percent == pytest.approx(expected, abs=1e-6)


def test_refuses_few_points():
    with pytest.raises(ValueError, match="at least 4"):
        bd_rate(curve(RATES[:3], QUALITIES[:3]), curve(RATES, QUALITIES))


def test_refuses_small_overlap():
    with pytest.raises(ValueError, match="overlap"):
        bd_rate(curve(RATES, QUALITIES), curve(RATES, [q + 7 for q in QUALITIES]))


def test_refuses_rates_that_are_not_positive():
    with pytest.raises(ValueError, match="positive"):
        bd_rate(curve(RATES, QUALITIES), curve([0.0, *RATES[1:]], QUALITIES))
