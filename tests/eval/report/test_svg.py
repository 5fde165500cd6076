"""The static chart."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triode.eval.report import style, svg
from triode.eval.report.svg import Series, line_chart, swatch

NUMBERS = st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-6)


def test_points_lie_where_they_belong():
    series = [Series("a<b", 0, [(0, 0), (1, 10), (2, 40)], subject=True), Series("none", 1, [])]
    chart = ET.fromstring(line_chart(series, x_label="rate & more", title="<t>"))
    assert chart.find("title").text == "<t>"
    groups = [group for group in chart if "series" in group.get("class", "")]
    assert [group.get("class") for group in groups] == ["series c0 subject"]
    marks = [mark.get("transform") for mark in groups[0] if mark.get("class") == "mark"]
    (x0, y0), (x1, y1), (x2, y2) = [map(float, mark[10:-1].split()) for mark in marks]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y1) * 3 == pytest.approx(y1 - y2, abs=0.5)
    assert 0 < x0 < x2 < svg.WIDTH
    assert 0 < y2 < y0 < svg.HEIGHT


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
@example([(0.0, 0.0)])
@example([(1.0, 5.0), (1.0, 5.0)])
def test_any_points_give_a_chart(points):
    chart = ET.fromstring(line_chart([Series("a", 9, points)], x_label="x", title="t"))
    texts = [text.text for text in chart.iter("text")]
    assert len(texts) > 2
    assert "nan" not in ET.tostring(chart, "unicode")


@given(NUMBERS, st.floats(1e-3, 1e9))
@example(128.0, 0.5)
def test_ticks_are_few_round_and_inside(low, span):
    ticks = svg._ticks(low, low + span, 8)
    assert 1 <= len(ticks) <= 9
    assert low - span * 1e-6 <= ticks[0] <= ticks[-1] <= low + span * (1 + 1e-6)
    if len(ticks) > 1:
        mantissa = math.log10(ticks[1] - ticks[0]) % 1
        round_ones = (0, math.log10(2), math.log10(2.5), math.log10(5), 1)
        assert min(abs(mantissa - v) for v in round_ones) < 1e-3


def test_without_points_it_says_so():
    assert "No curve" in line_chart([Series("a", 0, [])], x_label="x", title="t")


def test_shapes_are_those_of_the_script():
    script = style.asset("chart.js")
    assert all(f'"{shape}"' in script for shape in svg.SHAPES)
    assert len(svg.SHAPES) == len(style.MARKERS) == len(style.PALETTE) == len(style.PALETTE_DARK) == 8
    assert 'class="line"' not in swatch(Series("a", 0, ()), line=False)
