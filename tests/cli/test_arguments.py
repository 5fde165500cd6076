import argparse

import pytest

from triode.cli.arguments import count, positive, positive_int, quality
from triode.cli.text import size_text, table


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("20k", 20_000),
        ("20K", 20_000),
        ("1.5M", 1_500_000),
        ("1.5 MB", 1_500_000),
        ("64KiB", 65_536),
        ("64ki", 65_536),
        ("2G", 2_000_000_000),
        (".5k", 500),
        ("300B", 300),
        ("200M", 200_000_000),
    ],
)
def test_count(text, value):
    assert count(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "k", "20x", "1e3", "0.5", "20 kk", "inf", "1,5M", "i"])
def test_no_count(text):
    with pytest.raises(argparse.ArgumentTypeError, match="got"):
        count(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("100", 100.0), ("62.5", 62.5)])
def test_quality(text, value):
    assert quality(text) == value


@pytest.mark.parametrize("text", ["-0.1", "100.1", "nan", "inf", "high", ""])
def test_no_quality(text):
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 100"):
        quality(text)


@pytest.mark.parametrize("text", ["0", "-2", "nan", "inf", "x"])
def test_not_positive(text):
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        positive(text)
    with pytest.raises(argparse.ArgumentTypeError, match="integer above 0"):
        positive_int(text)


def test_positive():
    assert positive("0.25") == 0.25
    assert positive_int("12") == 12


@pytest.mark.parametrize("text", ["1.5", "٣", "²"])
def test_not_an_integer(text):
    with pytest.raises(argparse.ArgumentTypeError):
        positive_int(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (20_500, "20.5 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (1_250_000, "1.25 MB"),
        (16_000_000_000, "16 GB"),
    ],
)
def test_sizes_for_people(size, text):
    assert size_text(size) == text


def test_table():
    assert table([("a", "bb"), ("ccc", "d")], "lr") == "a    bb\nccc   d"
