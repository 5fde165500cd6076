"""A part of a recording or a video as it is named on the command line: `10s:20s`, `1m30s:`, `:48000`."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

__all__ = ["Span", "span"]

_NUMBER: Final = r"(\d+(?:\.\d*)?|\.\d+)"
_TIME: Final = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m(?!s))?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?", re.ASCII)
_UNITS: Final = (Fraction(3600), Fraction(60), Fraction(1), Fraction(1, 1000))


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a recording or a video.

    Attributes:
        start: Where it begins, a number of samples or frames or a `Fraction` of seconds.
        stop: Where it ends, the same; None for the end.
    """

    start: int | Fraction
    stop: int | Fraction | None

    def samples(self, rate: int) -> tuple[int, int | None]:
        """Return the first sample, and the one after the last, at a number of samples per second."""
        return _at(self.start, rate), None if self.stop is None else _at(self.stop, rate)


def span(text: str) -> Span:
    """Read a part, `A:B`; each of them a time with its unit or a number of samples or frames, or nothing.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    first, colon, second = text.partition(":")
    start = _place(first) if first else 0
    stop = _place(second) if second else None
    if not colon or start is None or (second and stop is None):
        raise argparse.ArgumentTypeError(
            "must be A:B, each a time such as 10s, 1m30s or 250ms, a number of samples or frames, or nothing, "
            f"got {text!r}"
        )
    if stop is not None and type(start) is type(stop) and stop <= start:
        raise argparse.ArgumentTypeError(f"must end after it begins, got {text!r}")
    return Span(start, stop)


def _place(text: str) -> int | Fraction | None:
    if text.isascii() and text.isdigit():
        return int(text)
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    return sum((Fraction(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part), Fraction(0))


def _at(place: int | Fraction, rate: int) -> int:
    return place if isinstance(place, int) else round(place * rate)
