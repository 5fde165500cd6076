"""Figures for papers."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

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


def test_matplotlib_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnsupportedError, match=r"triode\[bench\]"):
        write_report(make_results(), tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
