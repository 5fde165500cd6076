"""The palettes are safe for colour-blind readers on paper, on white and in the dark."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from triode.eval.report.style import DARK, LIGHT, PALETTE, PALETTE_DARK, style_sheet

# G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, IEEE TVCG 15, 2009: full protanopia, deuteranopia, tritanopia.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour):
    c = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """B. Ottosson, 2020."""
    to_cone = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_cone) @ rgb.clip(0, 1))


def contrast(one, other):
    """WCAG 2."""
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("palette", "theme"), [(PALETTE, LIGHT), (PALETTE_DARK, DARK)], ids=["light", "dark"])
class TestPalette:
    @pytest.mark.parametrize("sight", SIGHTS)
    def test_all_pairs_stay_apart(self, palette, theme, sight):
        labs = [oklab(np.array(SIGHTS[sight]) @ linear(colour)) for colour in palette]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(labs, 2)) > 0.09

    def test_contrast_with_the_page(self, palette, theme):
        assert min(contrast(colour, theme["page"]) for colour in palette) >= 3  # WCAG 1.4.11 for graphics
        for background in ("page", "panel", "less", "more"):
            assert contrast(theme["ink"], theme[background]) >= 4.5
        for background in ("page", "panel"):
            assert contrast(theme["soft"], theme[background]) >= 4.5
        assert contrast(theme["accent"], theme["page"]) >= 4.5


def test_style_sheet_has_both_themes_and_every_colour():
    style = style_sheet()
    for colour in (*PALETTE, *PALETTE_DARK, *LIGHT.values(), *DARK.values()):
        assert colour in style
    assert style.count("{") == style.count("}")
