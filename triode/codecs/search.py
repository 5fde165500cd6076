"""Rate points: the qualities that stand for them, and the search of the one that meets a target, by bisection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from triode.errors import UnsupportedError

T = TypeVar("T")

POINTS: Final = 64
"""Number of rate points."""


def quality_to_point(quality: float) -> int:
    """Map a quality of 0 to 100 to a rate point of 0 to 63.

    Raises:
        ValueError: If the quality is out of range.
    """
    if not 0 <= quality <= 100:
        raise ValueError(f"Quality must be in 0..100, but got {quality}")
    return round(quality * (POINTS - 1) / 100)


def point_to_quality(point: int) -> float:
    """Map a rate point to the quality that stands for it, to one decimal."""
    return round(point * 100 / (POINTS - 1), 1)


def find_border(fine: Callable[[int], bool], points: int, start: int | None = None) -> int:
    """Find the last rate point that is fine, where all those above it are not.

    Args:
        fine: Says whether a point is; asked for the two at the border, and few others.
        points: Number of rate points.
        start: Where to begin; see :func:`largest_point`.

    Returns:
        The point, -1 if not even 0 is fine.
    """
    low, high = 0, points - 1
    stride = 0 if start is None else 1
    point = (low + high) // 2 if start is None else min(max(start, low), high)
    first: bool | None = None
    while low <= high:
        found = fine(point)
        low, high = (point + 1, high) if found else (low, point - 1)
        if stride and first in (None, found):
            first = found
            point = min(high, point + stride) if found else max(low, point - stride)
            stride *= 2
        else:
            stride = 0
            point = (low + high) // 2
    return high


def largest_point(
    run: Callable[[int], T], cost: Callable[[T], float], budget: float, points: int, start: int | None = None
) -> T:
    """Find the result of the highest rate point whose cost is within a budget.

    Args:
        run: Makes the result of a rate point.
        cost: Its cost, which rises with the rate point.
        budget: Largest cost allowed.
        points: Number of rate points.
        start: Where to begin; from there the search goes on in growing strides, which takes few runs if it is near.

    Returns:
        The best result within the budget.

    Raises:
        UnsupportedError: If even rate point 0 costs more.
    """
    best: T | None = None
    spent = 0.0

    def affordable(point: int) -> bool:
        nonlocal best, spent
        result = run(point)
        spent = cost(result)
        if spent <= budget:
            best = result
        return spent <= budget

    find_border(affordable, points, start)
    if best is None:  # The last probe was point 0.
        raise UnsupportedError(f"The target of {budget:.0f} bytes cannot be met: quality 0 takes {spent:.0f} bytes")
    return best


def smallest_point(
    run: Callable[[int], T], gain: Callable[[T], float], target: float, points: int, start: int | None = None
) -> T:
    """Find the result of the lowest rate point whose gain reaches a target.

    Args:
        run: Makes the result of a rate point.
        gain: Its gain, which rises with the rate point.
        target: Smallest gain allowed.
        points: Number of rate points.
        start: Where to begin; see :func:`largest_point`.

    Returns:
        The cheapest result that reaches the target.

    Raises:
        UnsupportedError: If even the highest rate point does not.
    """
    best: T | None = None
    reached = 0.0

    def too_low(point: int) -> bool:
        nonlocal best, reached
        result = run(point)
        reached = gain(result)
        if reached >= target:
            best = result
        return reached < target

    find_border(too_low, points, start)
    if best is None:  # The last probe was the highest point.
        raise UnsupportedError(f"The target of {target:g} dB cannot be met: quality 100 reaches {reached:.2f} dB")
    return best
