"""A video at a bit rate: a bucket that fills at that rate, from which each group of pictures takes its bytes.

What groups leave is there for later ones, up to some seconds' worth; what is above leaks away. A group may take no
more than is there, so that the file keeps to its rate from the beginning to any group, and can be played as it comes.
Only where rate point 0 takes more does a group run into debt, which later ones pay back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from triode.codecs.gop_encoder import CodedGop
from triode.codecs.search import POINTS

__all__ = ["OVERHEAD", "LeakyBucket"]

OVERHEAD: Final = 24
"""Bytes of the file that a unit takes beside its frames and its sound, at most: chunk, unit fields, index."""
_SLOPE: Final = 0.05
_STEEPEST: Final = (0.02, 0.15)
_TRIES: Final = 6
_HORIZON: Final = 4.0
_FASTEST: Final = 1e15


class LeakyBucket:
    """Finds the rate point of one group after another.

    Args:
        rate: Bytes a second.
        spent: Bytes that the file has before its first unit.
        seconds: How long the bucket takes to fill.
    """

    def __init__(self, rate: float, spent: int = 0, seconds: float = 10.0) -> None:
        self.rate = min(rate, _FASTEST)
        self._size = self.rate * seconds
        self.saved = -float(spent)
        self._slope, self._point = _SLOPE, 20
        self._known: float | None = None  # log of bytes a second at the last point

    def code(self, run: Callable[[int], CodedGop], seconds: float, more: int) -> CodedGop:
        """Code a group at the highest rate point that the bucket has the bytes for, as far as a few tries find it.

        Args:
            run: Codes it at a rate point.
            seconds: How long it lasts.
            more: Bytes of its unit beside its frames.

        Returns:
            The coded group; at rate point 0 where even that takes more than there is.
        """
        most = self.saved + self.rate * seconds - more
        aim = max(1.0, min(most, self.rate * seconds + self.saved * min(1.0, seconds / _HORIZON) - more))
        tried: dict[int, CodedGop] = {}
        self._slope = _SLOPE  # nothing that was learned here, so that an encoder that goes on does the same
        low, high, point = 0, POINTS - 1, self._guess(aim / seconds)
        while point not in tried and len(tried) < _TRIES:
            coded = tried[point] = run(point)
            self._learn(tried, seconds, point)
            low, high = (point, high) if coded.size <= aim else (low, max(low, point - 1))
            point = min(max(self._guess(aim / seconds), low), high)
        fitting = [point for point, coded in tried.items() if coded.size <= most]
        # Not one fits after some tries: the least.
        return tried[max(fitting)] if fitting else self._least(tried, run, most)

    def add(self, coded_point: int, size: int, seconds: float, more: int) -> None:
        """Take the bytes of a unit that was written: `size` of its frames and `more` beside them."""
        self.saved = min(self._size, self.saved + self.rate * seconds - size - more)
        self._point, self._known = coded_point, math.log(max(size, 1) / seconds)

    @staticmethod
    def _least(tried: dict[int, CodedGop], run: Callable[[int], CodedGop], most: float) -> CodedGop:
        point = min(tried)
        while point > 0:
            point = max(0, point - 8)
            coded = run(point)
            if coded.size <= most or point == 0:
                return coded
        return tried[0]

    def _guess(self, wanted: float) -> int:
        """Return the point whose bytes a second are about those wanted."""
        if self._known is None:
            return self._point
        return min(max(self._point + math.floor((math.log(wanted) - self._known) / self._slope), 0), POINTS - 1)

    def _learn(self, tried: dict[int, CodedGop], seconds: float, point: int) -> None:
        level = math.log(max(tried[point].size, 1) / seconds)
        others = [(abs(p - point), p) for p in tried if p != point]
        if others:
            other = min(others)[1]
            steps = level - math.log(max(tried[other].size, 1) / seconds)
            self._slope = min(max(steps / (point - other), _STEEPEST[0]), _STEEPEST[1])
        self._point, self._known = point, level
