"""The page as it is written: self-contained, escaped, complete without its script, and robust."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from eval.report.make_report import CODECS, EVIL, make_results

import triode.eval.report as module
from triode.eval.report import figures, write_report
from triode.eval.report.data import make_view
from triode.eval.report.page import make_page
from triode.eval.report.samples import Samples
from triode.eval.results import ResultsError

EMPTY = Samples("image", (), ())


class Page(HTMLParser):
    """Elements, texts outside of scripts and styles, and what these two hold."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.text, self.inline, self.inside = [], "", {"script": [], "style": []}, []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside.append(tag)
        if tag in self.inline:
            self.inline[tag].append((dict(attributes), ""))

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside and self.inside[-1] in self.inline:
            attributes, text = self.inline[self.inside[-1]].pop()
            self.inline[self.inside[-1]].append((attributes, text + data))
        else:
            self.text += data


def page_of(results):
    return Page(make_page(make_view(results), EMPTY))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def markup(folder):
    return write_report(make_results(folder), folder).read_text("utf-8")


@pytest.fixture(scope="module")
def page(markup):
    return Page(markup)


def test_needs_nothing_from_outside(markup, page):
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, name)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    script = page.inline["script"][-1][1]
    assert not re.search(
        r"\bfetch\(|XMLHttpRequest|WebSocket|\bimport\b|sendBeacon|innerHTML|insertAdjacentHTML|eval\(", script
    )
    assert re.findall(r"\w+://[^\s\"']+", script) == ["http://www.w3.org/2000/svg"]
    style = page.inline["style"][0][1]
    assert not re.search(r"@import|url\((?!#)", style)


def test_policy_allows_its_own_script_and_style_only(page):
    policy = next(a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv"))
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}

    def digest(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    scripts = [text for attributes, text in page.inline["script"] if "type" not in attributes]
    assert rules["script-src"] == [digest(text) for text in scripts]
    assert rules["style-src"] == [digest(page.inline["style"][0][1])]
    assert rules["default-src"] == ["'none'"]
    assert "connect-src" not in rules


def test_names_are_text(markup, page):
    assert EVIL not in markup
    assert EVIL in page.text
    assert "OSError: <b>no space</b> left" in page.text
    assert "triode bench <x> -o OUT" in page.text
    assert "Ours & <i>theirs</i>" in page.text
    assert [attributes.get("type") for attributes, _ in page.inline["script"]] == [None, "application/json", None]


def test_says_everything_without_its_script(page):
    for name in CODECS:
        assert page.text.count(name) > 5
    for text in (
        "\u221242.8\u2009%",
        "95\u2009% CI",
        "paper",
        "as published",
        "SHA-256",
        "abacus, 2 cores",
        "ms-ssim is not measured: too small <here>",
        "2026-01-01 00:00 UTC",
    ):
        assert text in page.text
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = {attributes["href"][1:] for tag, attributes in page.elements if tag == "a"}
    assert links <= set(identifiers)
    assert {"rd", "bd", "speed", "items", "parts", "samples", "failures", "data", "provenance"} <= links
    marks = [attributes for tag, attributes in page.elements if attributes.get("class") == "mark"]
    assert len(marks) > 5 * 4
    for tag, attributes in page.elements:
        if tag == "img":
            assert attributes["alt"]
            assert attributes["width"]
            assert attributes["height"]


def test_data_are_in_the_page(page):
    found = json.loads(page.inline["script"][1][1])
    assert [codec["name"] for codec in found["results"]["codecs"]] == list(CODECS)
    assert len(found["rows"]) == 75
    shown = {one["id"] for group in found["samples"] for level in group["levels"] for one in level["shown"]}
    assert shown <= {attributes.get("id") for tag, attributes in page.elements if tag == "img"}


def test_is_written_with_figures_and_stays_small(folder, markup, monkeypatch, tmp_path):
    names = {path.name for path in (folder / "figures").iterdir()}
    stems = ("rd-psnr", "rd-ms-ssim", "items-psnr", "items-ms-ssim", "speed", "parts-ours")
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("svg", "png")}
    assert len(markup) < module.PAGE_LIMIT
    monkeypatch.setattr(figures, "write_figures", lambda view, folder: [])
    bare = len(make_page(make_view(make_results()), EMPTY))
    monkeypatch.setattr(module, "PAGE_LIMIT", bare + 260_000)
    written = write_report(make_results(tmp_path), tmp_path, title="A & B")
    text = written.read_text("utf-8")
    assert len(text) < bare + 260_000
    assert "left out to keep the page small" in text
    assert "<title>A &amp; B</title>" in text
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]


class TestOdd:
    def test_one_codec_and_one_item(self):
        page = page_of(make_results(codecs={"ours": (1.0, 0.1)}, items=("one",)))
        assert "There is no other codec to compare with." in page.text
        assert "One image through one codec" in page.text
        assert "items" not in {a.get("id") for _, a in page.elements}

    def test_everything_failed(self):
        results = make_results()
        rows = tuple(
            replace(m, bytes=0, payload_bytes=0, metrics={}, parts={}, error="no", sample=None)
            for m in results.measurements
        )
        page = page_of(replace(results, measurements=rows))
        assert "75 of 75 measurements failed" in page.text
        assert "No curve" not in page.text  # for there is the published one

    def test_no_measurement(self):
        page = page_of(replace(make_results(), measurements=(), items=(), published=()))
        assert "No curve to show" in page.text
        assert "all 0 measurements" in page.text

    def test_no_value_is_finite(self):
        page = page_of(make_results(metrics=("nothing finite",)))
        assert "No curve to show" in page.text
        assert "A curve needs at least 4 points" in page.text

    def test_no_speed(self):
        results = make_results()
        rows = tuple(replace(m, encode_seconds=0.0, decode_seconds=0.0) for m in results.measurements)
        assert "ours" in page_of(replace(results, measurements=rows)).text

    def test_halves_of_surrogate_pairs(self, tmp_path, monkeypatch):
        results = make_results(items=("a\udc80", "b", "c"), codecs={"x\udc80": (1.0, 0.1), "$y$": (1.0, 0.1)})
        written = write_report(results, tmp_path).read_text("utf-8")
        assert "a\\udc80" in written

    def test_samples_outside(self, tmp_path):
        with pytest.raises(ResultsError, match="inside"):
            write_report(replace(make_results(), samples={"one": "../x.png"}), tmp_path)
        assert list(tmp_path.iterdir()) == []
