"""A chart as static SVG: what the page shows before, and without, its script; ``chart.js`` draws the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from triode.eval.report.markup import MINUS

__all__ = ["Series", "line_chart", "swatch"]

WIDTH, HEIGHT = 720, 460
SHAPES: Final = (
    "M4 0A4 4 0 1 1-4 0A4 4 0 1 1 4 0Z",
    "M-3.6-3.6H3.6V3.6H-3.6Z",
    "M0-4.8L4.5 3.2H-4.5Z",
    "M0-5L5 0L0 5L-5 0Z",
    "M0 4.8L4.5-3.2H-4.5Z",
    "M-1.5-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
    "M0-5L4.8-1.5L3 4H-3L-4.8-1.5Z",
    "M0-5.4L1.5-1.6L5.3-1.5L2.3.9L3.3 4.6L0 2.4L-3.3 4.6L-2.3.9L-5.3-1.5L-1.5-1.6Z",
)


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        name: What the legend calls it.
        place: Its place among all curves, which gives colour and marker.
        points: Pairs of abscissa and ordinate in drawing order, all finite.
        dashed: Whether somebody else measured it.
        subject: Whether it is the codec that the page is about.
    """

    name: str
    place: int
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    subject: bool = False

    @property
    def classes(self) -> str:
        """Names for the style sheet."""
        return f"series c{self.place % 8}{' dashed' * self.dashed}{' subject' * self.subject}"


def line_chart(series: Sequence[Series], *, x_label: str, title: str) -> str:
    """Draw curves on linear axes.

    Args:
        series: What to draw; curves without points are left out.
        x_label: Under the axis.
        title: For those who hear the page.

    Returns:
        An ``svg`` element, or a paragraph where there is nothing to draw.
    """
    series = [one for one in series if one.points]
    if not series:
        return '<p class="caption">No curve to show.</p>'
    (x0, x1), (y0, y1) = (_span([point[axis] for one in series for point in one.points]) for axis in (0, 1))
    x_ticks, y_ticks = _ticks(x0, x1, 8), _ticks(y0, y1, 8)
    labels = _texts(y_ticks)
    left, right, top, bottom = 14 + 7.2 * max(map(len, labels)), WIDTH - 12, 12, HEIGHT - 42

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * (x - x0) / (x1 - x0), bottom - (bottom - top) * (y - y0) / (y1 - y0)

    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(title)}</title><g class="grid">'
    ]
    for tick, text in zip(y_ticks, labels, strict=True):
        y = place(x0, tick)[1]
        parts.append(
            f'<path d="M{left:.1f} {y:.1f}H{right}"/><text class="end" x="{left - 7:.1f}" y="{y + 4:.1f}">{text}</text>'
        )
    for tick, text in zip(x_ticks, _texts(x_ticks), strict=True):
        x = place(tick, y0)[0]
        parts.append(
            f'<path d="M{x:.1f} {top}V{bottom}"/><text class="middle" x="{x:.1f}" y="{bottom + 18}">{text}</text>'
        )
    middle = (left + right) / 2
    parts.append(f'<text class="middle title" x="{middle:.1f}" y="{HEIGHT - 5}">{escape(x_label)}</text></g>')
    for one in sorted(series, key=lambda one: one.subject):
        at = [place(*point) for point in one.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
        marks = "".join(
            f'<path class="mark" d="{SHAPES[one.place % 8]}" transform="translate({x:.1f} {y:.1f})"/>' for x, y in at
        )
        parts.append(f'<g class="{one.classes}"><path class="line" d="M{path}"/>{marks}</g>')
    return "".join([*parts, "</svg>"])


def swatch(series: Series, *, line: bool = True) -> str:
    """Return the sign of a curve in a legend."""
    stroke = '<path class="line" d="M-15 0H15"/>' if line else ""
    left, width = (-15, 30) if line else (-6, 12)
    return (
        f'<svg class="swatch {series.classes}" width="{width}" height="14" viewBox="{left} -7 {width} 14" '
        f'aria-hidden="true">{stroke}<path class="mark" d="{SHAPES[series.place % 8]}"/></svg>'
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return low - (abs(low) * 0.05 or 1), high + (abs(high) * 0.05 or 1)
    pad = 0.04 * (high - low)
    return (0.0 if low >= 0 > low - pad else low - pad), high + pad


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _texts(ticks: Sequence[float]) -> list[str]:
    """Write ticks with as few decimals as tell them apart."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) or 1
    places = next((n for n in range(6) if all(abs(t - round(t, n)) < 1e-4 * step for t in ticks)), 6)
    return [f"{t + 0.0:.{places}f}".replace("-", MINUS) for t in ticks]
