"""Nothing unescaped gets into the page, and numbers read well."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.eval.report.markup import Html, bytes_text, el, fixed, join, percent, plus, significant

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"))


class Reader(HTMLParser):
    def __init__(self, markup):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(f"{markup}<end>")
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@given(TEXT, TEXT)
def test_text_and_attributes_come_back(text, value):
    page = Reader(el("p", text, title=value))
    assert page.tags == [("p", {"title": value}), ("end", {})]
    assert page.text == text


def test_elements():
    assert el("a", "x", href="#y", class_="z", aria_label="w") == '<a href="#y" class="z" aria-label="w">x</a>'
    assert el("p", None, el("b", "<"), hidden=True, title=None, lang=False) == "<p hidden><b>&lt;</b></p>"
    assert el("img", alt="") == '<img alt="">'
    assert join(["a&b", Html("<i>")], ", ") == "a&amp;b, <i>"
    assert isinstance(join([]), Html)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (fixed(-1.26, 1), "\u22121.3"),
        (fixed(-0.04, 1), "0.0"),
        (fixed(None, 1), "\u2013"),
        (fixed(math.inf, 1), "\u2013"),
        (plus(0.04, 1), "0.0"),
        (plus(0.06, 1), "+0.1"),
        (plus(-2.0, 0), "\u22122"),
        (plus(None, 0), "\u2013"),
        (percent(12.34), "+12.3\u2009%"),
        (percent(math.nan), "\u2013"),
        (significant(0.0123456), "0.0123"),
        (significant(12345), "12345"),
        (significant(0), "0"),
        (significant(1e-300), "0.000000000"),
        (bytes_text(1234), "1,234\u2009B"),
        (bytes_text(12_345), "12.3\u2009kB"),
        (bytes_text(12_345_678), "12.3\u2009MB"),
    ],
)
def test_numbers(written, expected):
    assert written == expected
