"""Search of the rate point that meets a target, by bisection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from triode.errors import UnsupportedError

T = TypeVar("T")


def largest_point(run: Callable[[int], T], cost: Callable[[T], float], budget: float, points: int) -> T:
    """Find the result of the highest rate point whose cost is within a budget.

    Args:
        run: Makes the result of a rate point.
        cost: Its cost, which rises with the rate point.
        budget: Largest cost allowed.
        points: Number of rate points.

    Returns:
        The best result within the budget.

    Raises:
        UnsupportedError: If even rate point 0 costs more.
    """
    best: T | None = None
    spent = 0.0
    low, high = 0, points - 1
    while low <= high:
        middle = (low + high) // 2
        result = run(middle)
        spent = cost(result)
        if spent <= budget:
            best, low = result, middle + 1
        else:
            high = middle - 1
    if best is None:  # The last probe was point 0.
        raise UnsupportedError(f"The target of {budget:.0f} bytes cannot be met: quality 0 takes {spent:.0f} bytes")
    return best


def smallest_point(run: Callable[[int], T], gain: Callable[[T], float], target: float, points: int) -> T:
    """Find the result of the lowest rate point whose gain reaches a target.

    Args:
        run: Makes the result of a rate point.
        gain: Its gain, which rises with the rate point.
        target: Smallest gain allowed.
        points: Number of rate points.

    Returns:
        The cheapest result that reaches the target.

    Raises:
        UnsupportedError: If even the highest rate point does not.
    """
    best: T | None = None
    reached = 0.0
    low, high = 0, points - 1
    while low <= high:
        middle = (low + high) // 2
        result = run(middle)
        reached = gain(result)
        if reached >= target:
            best, high = result, middle - 1
        else:
            low = middle + 1
    if best is None:  # The last probe was the highest point.
        raise UnsupportedError(f"The target of {target:g} dB cannot be met: quality 100 reaches {reached:.2f} dB")
    return best
