"""Figures for papers."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from eval.report.make_report import make_results
from PIL import Image

from triode.errors import UnsupportedError
from triode.eval.report import write_report
from triode.eval.report.data import make_view
from triode.eval.report.figures import write_figures
from triode.eval.report.style import PALETTE


@pytest.fixture(scope="module")
def view():
    pytest.importorskip("matplotlib")
    return make_view(make_results(metrics=("psnr",), codecs={"ours": (0.6, 0.4), "_a $x^2$ <b>": (1.0, 0.01)}))


def test_names_colours_and_repeats(view, tmp_path):
    paths = write_figures(view, tmp_path / "one")
    stems = ("rd-psnr", "items-psnr", "speed", "parts-ours")
    assert [path.name for path in paths] == [f"{stem}.{ending}" for stem in stems for ending in ("svg", "png")]
    for path in paths:
        if path.suffix == ".svg":
            assert ET.parse(path).getroot().tag.endswith("svg")
    with Image.open(tmp_path / "one" / "rd-psnr.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert image.width > 800
    for colour in PALETTE[:2]:
        wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 100
    text = (tmp_path / "one" / "rd-psnr.svg").read_text()
    assert "_a $x^2$" in text  # matplotlib writes each text as a comment beside its outlines
    again = write_figures(view, tmp_path / "two")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_frames_over_time(tmp_path):
    """Each codec is drawn where its rate is like that of the middle one of the subject."""
    results = make_results(metrics=("psnr",), codecs={"ours": (0.6, 0.4), "other": (1.0, 0.01)}, items=("a", "b"))
    psnr, sizes = (30.0, 31.5, 29.25), (900, 100, 120)

    def told(m):
        if m.item == "b":
            return m
        return replace(m, frame_psnr=psnr, frame_bytes=sizes if m.codec == "ours" else ())

    view = make_view(replace(results, measurements=tuple(map(told, results.measurements))))
    paths = write_figures(view, tmp_path)
    assert [p.name for p in paths if "frames" in p.name] == ["frames-a.svg", "frames-a.png"]
    text = (tmp_path / "frames-a.svg").read_text()
    own = sorted((m for m in results.measurements if (m.item, m.codec) == ("a", "ours")), key=lambda m: m.bytes)
    middle = own[len(own) // 2]
    others = [m for m in results.measurements if (m.item, m.codec) == ("a", "other")]
    near = min(others, key=lambda m: abs(np.log(m.bytes / middle.bytes)))
    assert f"ours at {middle.quality:g}" in text
    assert f"other at {near.quality:g}" in text


def test_matplotlib_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnsupportedError, match=r"triode\[bench\]"):
        write_report(make_results(), tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
