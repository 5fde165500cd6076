"""Bjøntegaard delta rate: how many more bits one codec takes than another at equal quality, on average.

G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001; with monotone piecewise
cubic (PCHIP) interpolation of the logarithm of the rate over the quality, as in JCT-VC's later practice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_POINTS = 4
MIN_OVERLAP = 0.5


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
    """A comparison of two curves.

    Attributes:
        percent: Rate of the test over the anchor's, minus one, in percent; negative where the test needs fewer bits.
        overlap: Common range of quality over the narrower of the two ranges, 0 to 1.
    """

    percent: float
    overlap: float


def bd_rate(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> BdRate:
    """Compare two rate-distortion curves of one item.

    Args:
        anchor: At least 4 points of distinct quality.
        test: The same.

    Returns:
        The mean difference over the common range of quality.

    Raises:
        ValueError: If a curve has under 4 points, a rate is not positive, or the ranges overlap by less than half.
    """
    from scipy.interpolate import PchipInterpolator

    def curve(points: Sequence[RatePoint]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        by_quality = {round(p.quality, 9): p.rate for p in points}
        if len(by_quality) < MIN_POINTS:
            raise ValueError(
                f"A curve needs at least {MIN_POINTS} points of distinct quality, but got {len(by_quality)}"
            )
        if min(by_quality.values()) <= 0:
            raise ValueError(f"Rates must be positive, but got {min(by_quality.values())}")
        quality = np.array(sorted(by_quality))
        return quality, np.log([by_quality[q] for q in quality.tolist()])

    (qa, ra), (qt, rt) = curve(anchor), curve(test)
    low, high = max(qa[0], qt[0]), min(qa[-1], qt[-1])
    overlap = max(0.0, float((high - low) / min(qa[-1] - qa[0], qt[-1] - qt[0])))
    if overlap < MIN_OVERLAP:
        raise ValueError(f"The curves overlap by {overlap:.0%} of quality; at least {MIN_OVERLAP:.0%} are needed")
    difference = PchipInterpolator(qt, rt).antiderivative(), PchipInterpolator(qa, ra).antiderivative()
    mean = sum(s * float(f(high) - f(low)) for s, f in zip((1, -1), difference, strict=True)) / (high - low)
    return BdRate(100 * (math.exp(mean) - 1), overlap)
