import argparse
from fractions import Fraction

import pytest

from triode.cli.span import Span, span


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10s:20s", (441_000, 882_000)),
        ("1m30s:", (3_969_000, None)),
        (":250ms", (0, 11_025)),
        ("1h0.5s:2h1m", (3600 * 44_100 + 22_050, 7260 * 44_100)),
        ("0.1s:0.2s", (4410, 8820)),
        (".5m:1m", (30 * 44_100, 60 * 44_100)),
        ("100:44100", (100, 44_100)),
        ("1s:50000", (44_100, 50_000)),
        ("1s500ms:2s", (66_150, 88_200)),
        (":", (0, None)),
    ],
)
def test_parts(text, found):
    assert span(text).samples(44_100) == found


@pytest.mark.parametrize(
    "text",
    ["", "10s", "10:5", "5:5", "20s:10s", "10x:20x", "-1s:2s", "1s2m:3m", "1.5:2", "1e3:", "a:b", "1s:2s:3s", "٣:٤"],
)
def test_no_parts(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must"):
        span(text)


def test_times_are_exact():
    assert span("0.7s:") == Span(Fraction(7, 10), None)
    assert span("4h:").samples(48_000) == (4 * 3600 * 48_000, None)
