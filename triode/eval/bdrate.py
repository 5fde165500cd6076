"""Bjøntegaard deltas: how many more bits one codec takes than another at equal quality, and the quality at equal rate.

G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001. The curves are interpolated
over the logarithm of the rate by monotone piecewise cubics (PCHIP), as in JCT-VC's later practice, or by Akima splines,
as C. Herglotz et al. recommend, "The Bjøntegaard bible: why your way of comparing video codecs may be wrong", IEEE
Transactions on Image Processing 33, 2024. On curves whose quality rises with the rate, the results are those of their
package ``bjontegaard``.

Where quality does not rise with the rate, the points that another point beats, with at least its quality at no more
than its rate, are left out: nobody would use them. The package refuses such curves where the order of their points is
not that of the variable that is integrated over, and interpolates through all points otherwise.

The package integrates over any common range, warns where it is under 75 % of the range of both curves together, and
gives NaN where there is none. Here the common range must be at least half of the narrower curve's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from triode.errors import UnsupportedError

__all__ = [
    "MIN_OVERLAP",
    "MIN_POINTS",
    "BdQuality",
    "BdRate",
    "Method",
    "RatePoint",
    "bd_quality",
    "bd_rate",
    "envelope",
    "rate_at",
]

MIN_POINTS: Final = 4
MIN_OVERLAP: Final = 0.5

Method = Literal["pchip", "akima"]

_INTERPOLATORS: Final = {"pchip": "PchipInterpolator", "akima": "Akima1DInterpolator"}
_SAME: Final = 1e-9  # rates (relative) and qualities that differ by less are the same


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One point of a rate-distortion curve.

    Attributes:
        rate: Rate in any unit, > 0.
        quality: Quality in any unit, higher is better.
    """

    rate: float
    quality: float


@dataclass(frozen=True, slots=True)
class BdRate:
    """A comparison of two curves at equal quality.

    Attributes:
        percent: Rate of the test over the anchor's, minus one, in percent; negative where the test needs fewer bits.
        overlap: Common range of quality over the narrower of the two ranges, 0 to 1.
        dropped: Points of both curves that were left out because another point beats them.
    """

    percent: float
    overlap: float
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class BdQuality:
    """A comparison of two curves at equal rate.

    Attributes:
        gain: Quality of the test less the anchor's, in the unit of the quality; positive where the test is better.
        overlap: Common range of the rate's logarithm over the narrower of the two ranges, 0 to 1.
        dropped: Points of both curves that were left out because another point beats them.
    """

    gain: float
    overlap: float
    dropped: int = 0


def envelope(points: Sequence[RatePoint]) -> list[RatePoint]:
    """Return the points that no other point beats, from the lowest rate to the highest; quality rises with the rate.

    Args:
        points: In any order.

    Raises:
        ValueError: If a rate is not positive, or a number not finite.
    """
    for point in points:
        if not (math.isfinite(point.rate) and point.rate > 0):
            raise ValueError(f"Rates must be positive and finite, but got {point.rate}")
        if not math.isfinite(point.quality):
            raise ValueError(f"Qualities must be finite, but got {point.quality}")
    kept: list[RatePoint] = []
    for point in sorted(points, key=lambda p: (p.rate, -p.quality)):
        if not kept or (point.quality > kept[-1].quality + _SAME and point.rate > kept[-1].rate * (1 + _SAME)):
            kept.append(point)
    return kept


def bd_rate(anchor: Sequence[RatePoint], test: Sequence[RatePoint], method: Method = "pchip") -> BdRate:
    """Compare the rates of two rate-distortion curves of one item at equal quality.

    Args:
        anchor: Points in any order, of which at least 4 are beaten by no other.
        test: The same.
        method: ``pchip`` or ``akima``: how the logarithm of the rate is interpolated over the quality.

    Returns:
        The mean difference over the common range of quality.

    Raises:
        ValueError: If a curve has under 4 points that no other beats, a rate is not positive, a number not finite, the
            ranges of quality overlap by less than half, or the method is not known.
        UnsupportedError: If SciPy is missing.
    """
    curves = _log_curve(anchor), _log_curve(test)
    (rate_a, quality_a), (rate_t, quality_t) = curves
    difference, overlap = _mean_difference((quality_a, rate_a), (quality_t, rate_t), "quality", method)
    try:
        percent = 100 * math.expm1(difference)
    except OverflowError:
        raise ValueError("The rates of the curves are too far apart to be compared") from None
    return BdRate(percent, overlap, _dropped(curves, anchor, test))


def bd_quality(anchor: Sequence[RatePoint], test: Sequence[RatePoint], method: Method = "pchip") -> BdQuality:
    """Compare the qualities of two rate-distortion curves of one item at equal rate: BD-PSNR where quality is PSNR.

    Args:
        anchor: Points in any order, of which at least 4 are beaten by no other.
        test: The same.
        method: ``pchip`` or ``akima``: how quality is interpolated over the logarithm of the rate.

    Returns:
        The mean difference over the common range of the logarithm of the rate.

    Raises:
        ValueError: As for :func:`bd_rate`, with the ranges of rate in place of those of quality.
        UnsupportedError: If SciPy is missing.
    """
    curves = _log_curve(anchor), _log_curve(test)
    difference, overlap = _mean_difference(*curves, "rate", method)
    return BdQuality(difference, overlap, _dropped(curves, anchor, test))


def rate_at(points: Sequence[RatePoint], quality: float, method: Method = "pchip") -> float:
    """Return the rate at which a curve has a quality, interpolated as for :func:`bd_rate`.

    Args:
        points: Points in any order, of which at least 2 are beaten by no other.
        quality: Within the range of the points.
        method: ``pchip`` or ``akima``.

    Raises:
        ValueError: If the curve has under 2 points that no other beats, or does not reach the quality on both sides.
        UnsupportedError: If SciPy is missing.
    """
    kept = envelope(points)
    low, high = (kept[0].quality, kept[-1].quality) if kept else (math.nan, math.nan)
    if len(kept) < 2 or not low <= quality <= high:
        raise ValueError(
            f"The curve of {len(kept)} points runs from {low:.6g} to {high:.6g}, not through {quality:.6g}"
        )
    fit = _interpolator(method)([p.quality for p in kept], np.log([p.rate for p in kept]))
    return float(np.exp(fit(quality)))


_Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def _log_curve(points: Sequence[RatePoint]) -> _Curve:
    """Return the logarithms of the rates, and the qualities, of the envelope."""
    kept = envelope(points)
    if len(kept) < MIN_POINTS:
        raise ValueError(
            f"A curve needs at least {MIN_POINTS} points that no other point beats, "
            f"but got {len(kept)} of {len(points)}"
        )
    return np.log([p.rate for p in kept]), np.array([p.quality for p in kept])


def _dropped(curves: tuple[_Curve, _Curve], *given: Sequence[RatePoint]) -> int:
    return sum(len(points) for points in given) - sum(len(rate) for rate, _ in curves)


def _mean_difference(anchor: _Curve, test: _Curve, what: str, method: Method) -> tuple[float, float]:
    """Return the mean of test minus anchor over the common range of the first variable, and the overlap."""
    (xa, _), (xt, _) = anchor, test
    low, high = max(xa[0], xt[0]), min(xa[-1], xt[-1])
    overlap = max(0.0, float((high - low) / min(xa[-1] - xa[0], xt[-1] - xt[0])))
    if overlap < MIN_OVERLAP:
        raise ValueError(f"The curves overlap by {overlap:.0%} of {what}; at least {MIN_OVERLAP:.0%} are needed")
    fit = _interpolator(method)
    areas = [float(fit(x, y).integrate(low, high)) for x, y in (anchor, test)]
    return (areas[1] - areas[0]) / float(high - low), overlap


def _interpolator(method: Method) -> Callable[..., Any]:
    if method not in _INTERPOLATORS:
        raise ValueError(f"Argument `method` must be one of {', '.join(_INTERPOLATORS)}, but got {method!r}")
    try:
        import scipy.interpolate
    except ImportError:
        raise UnsupportedError("BD-rate needs SciPy: pip install 'triode[bench]'") from None
    found: Callable[..., Any] = getattr(scipy.interpolate, _INTERPOLATORS[method])
    return found
